"""Scoring against reading and predicting everything at once."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from qhybrid.config import PredictionConfig
from qhybrid.data.raster import Window
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import SceneReader
from qhybrid.errors import DataError
from qhybrid.evaluation.baselines import COLOR, MAJORITY, majority_metrics, score_baselines
from qhybrid.evaluation.scene_pictures import Part
from qhybrid.evaluation.scoring import score_scenes, varied_parts
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
    confusion, samples, overview, _ = score_scenes(run, scenes)
    truth = np.concatenate([truth_of(scene, run.classes).ravel() for scene in scenes])
    found = np.concatenate([predict_scene(run, scene).ravel() for scene in scenes])
    counted = truth != 255
    expected = confusion_matrix(truth[counted], found[counted], labels=[0, 1, 2])
    np.testing.assert_array_equal(confusion.compute().matrix, expected)
    assert confusion.compute().class_names == ("field", "forest", "road")
    assert samples == []
    assert overview is None


def test_parts_are_cut_out_of_what_is_predicted_anyway(run, dataset):
    scenes = dataset.scenes("test")
    parts = [Part(1, Window(2, 3, 20, 10)), Part(0, Window(10, 18, 20, 20)), Part(0, Window(0, 0, 40, 56))]
    samples = score_scenes(run, scenes, parts=parts).samples
    assert [sample.title for sample in samples] == [scenes[1].id, scenes[0].id, scenes[0].id]
    assert len({sample.place for sample in samples}) == 3
    second = samples[1]
    assert second.image.shape == (3, 20, 20)
    np.testing.assert_array_equal(second.prediction, predict_scene(run, scenes[0])[10:30, 18:38])
    np.testing.assert_array_equal(second.truth, truth_of(scenes[0], run.classes)[10:30, 18:38])
    assert np.isnan(samples[2].image[:, :3]).all()
    assert (samples[2].truth[:3] == 255).all()


def test_the_overview_has_every_nth_pixel_of_the_scene(run, dataset, monkeypatch):
    monkeypatch.setattr("qhybrid.evaluation.scene_pictures.OVERVIEW_SIDE", 20)
    monkeypatch.setattr("qhybrid.evaluation.scene_pictures._ROWS", 7)
    scenes = dataset.scenes("test")
    overview = score_scenes(run, scenes, overview=0).overview
    # 40 x 56 pixels: every third one is at most 20 pixels a side.
    np.testing.assert_array_equal(overview.prediction, predict_scene(run, scenes[0])[::3, ::3])
    np.testing.assert_array_equal(overview.truth, truth_of(scenes[0], run.classes)[::3, ::3])
    raw, valid = SceneReader(scenes[0]).read((0, 0, 40, 56))
    np.testing.assert_array_equal(overview.image, np.where(valid, raw.astype(float), np.nan)[:, ::3, ::3])
    assert overview.title == f"{scenes[0].id}: 56 x 40 pixels, drawn at 1:3"


def test_parts_with_many_classes_are_chosen_first(run, dataset, monkeypatch):
    monkeypatch.setattr("qhybrid.evaluation.scoring.SAMPLE_SIDE", 16)
    scenes = dataset.scenes("test")
    parts = varied_parts(run, scenes, 3)
    assert parts == varied_parts(run, scenes, 3)
    # One of each scene before a second one of any.
    assert sorted(part.scene for part in parts[:2]) == [0, 1]
    counts = []
    for part in parts:
        at = part.window
        truth = truth_of(scenes[part.scene], run.classes)[at.row : at.row + 16, at.col : at.col + 16]
        counts.append(np.bincount(truth[truth != 255], minlength=3))
    assert (counts[0] > 0).sum() == 3
    # Scenes that are smaller than a part are shown as a whole.
    monkeypatch.setattr("qhybrid.evaluation.scoring.SAMPLE_SIDE", 500)
    assert {part.window for part in varied_parts(run, scenes, 4)} == {
        Window(0, 0, 40, 56),
        Window(0, 0, 37, 30),
    }
    assert varied_parts(run, scenes, 0) == []


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
