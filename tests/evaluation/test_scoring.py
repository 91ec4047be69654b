"""Scoring against reading and predicting everything at once."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from qhybrid.config import PredictionConfig
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import SceneReader
from qhybrid.errors import DataError
from qhybrid.evaluation.baselines import COLOR, MAJORITY, majority_metrics, score_baselines
from qhybrid.evaluation.scoring import score_scenes
from qhybrid.inference import predict_scene
from qhybrid.training.metrics import SegmentationMetrics
from qhybrid.training.run_folder import load_run


@pytest.fixture
def run(run_folder):
    return load_run(run_folder)


@pytest.fixture
def dataset(data_config, scenes_root):
    return open_dataset(data_config, scenes_root)


def truth_of(scene, classes):
    """Labels of a scene, 255 where image or mask say nothing."""
    reader = SceneReader(scene, classes)
    labels = reader.read_labels((0, 0, *reader.shape))
    labels[~reader.read((0, 0, *reader.shape))[1]] = 255
    return labels


def test_one_matrix_over_all_scenes(run, dataset):
    scenes = dataset.scenes("test")
    confusion, samples = score_scenes(run, scenes)
    truth = np.concatenate([truth_of(scene, run.classes).ravel() for scene in scenes])
    found = np.concatenate([predict_scene(run, scene).ravel() for scene in scenes])
    counted = truth != 255
    expected = confusion_matrix(truth[counted], found[counted], labels=[0, 1, 2])
    np.testing.assert_array_equal(confusion.compute().matrix, expected)
    assert confusion.compute().class_names == ("field", "forest", "road")
    assert samples == []


def test_samples_are_the_middle_of_scenes(run, dataset, monkeypatch):
    monkeypatch.setattr("qhybrid.evaluation.scoring.SAMPLE_SIDE", 20)
    scenes = dataset.scenes("test")
    _, samples = score_scenes(run, scenes, samples=4)
    assert [sample.title for sample in samples] == [scene.id for scene in scenes]
    first = samples[0]
    assert first.image.shape == (3, 20, 20)
    np.testing.assert_array_equal(first.prediction, predict_scene(run, scenes[0])[10:30, 18:38])
    np.testing.assert_array_equal(first.truth, truth_of(scenes[0], run.classes)[10:30, 18:38])


def test_small_scenes_are_samples_as_a_whole(run, dataset):
    _, samples = score_scenes(run, dataset.scenes("test")[1:], samples=4)
    assert samples[0].truth.shape == (37, 30)
    assert np.isnan(samples[0].image[:, :3]).all()
    assert (samples[0].truth[:3] == 255).all()


def test_progress_ends_at_the_number_of_all_windows(run, dataset):
    seen = []
    score_scenes(
        run,
        dataset.scenes("test"),
        settings=PredictionConfig(overlap=0, batch_size=2),
        progress=lambda done, total: seen.append((done, total)),
    )
    # 40 x 56 and 37 x 30 pixels in windows of 16.
    assert seen[-1] == (3 * 4 + 3 * 2, 3 * 4 + 3 * 2)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_no_scene_and_no_mask(run, dataset):
    with pytest.raises(DataError, match="at least one scene"):
        score_scenes(run, ())
    bare = replace(dataset.scenes("test")[0], mask=None)
    with pytest.raises(DataError, match="has no mask"):
        score_scenes(run, [bare])


def test_mask_of_another_scene(run, dataset):
    first, second = dataset.scenes("test")
    with pytest.raises(DataError, match="same size"):
        score_scenes(run, [replace(first, mask=second.mask)])


def test_baselines(run, dataset):
    results = score_baselines(run, dataset.scenes("train"), dataset.scenes("test"))
    assert list(results) == [MAJORITY, COLOR]
    truth = np.concatenate([truth_of(scene, run.classes).ravel() for scene in dataset.scenes("test")])
    truth = truth[truth != 255]
    majority = results[MAJORITY]
    assert majority.overall_accuracy == pytest.approx((truth == 0).mean())
    assert majority.miou == pytest.approx((truth == 0).mean() / 3)
    assert results[COLOR].pixels == len(truth)
    # Colours overlap, but say much in this data set.
    assert majority.overall_accuracy + 0.1 < results[COLOR].overall_accuracy < 1


def test_majority_needs_counts(run):
    counted = SegmentationMetrics(np.eye(3, dtype=np.int64))
    silent = replace(run, statistics=replace(run.statistics, pixels_per_class=()))
    with pytest.raises(DataError, match="pixel counts of 3 classes"):
        majority_metrics(silent, counted)
