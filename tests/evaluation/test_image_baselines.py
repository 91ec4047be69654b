"""References for whole images: data on which the right value is known, and the real sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from qhybrid.config import StrictModel, load_recipe
from qhybrid.data.images import ImageArrays, ImageDataset
from qhybrid.data.images.dataset import SamplingUnits
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.errors import ConfigError, DataError, PluginError
from qhybrid.evaluation import classical
from qhybrid.evaluation.classical import BASELINES, ImageBaseline, Predicted, register_baseline
from qhybrid.evaluation.image_baselines import _data, image_baselines, score_image_baselines

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path / "cache"))


class MadeOptions(StrictModel):
    validation: float = 0.2


class Made(ImageDataset):
    """Images in memory."""

    name, description, source, licence, layout = "made", "", "", "", ""
    Options = MadeOptions
    task = "classification"
    class_names = ("a", "b")

    def __init__(self, parts: dict[str, ImageArrays], task: str = "classification", names=("a", "b")) -> None:
        super().__init__(Path(), MadeOptions(validation=0.2 if "val" in parts else 0))
        self.parts, self.task, self.class_names = parts, task, names  # type: ignore[assignment]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(self.parts["train"].images.shape[1:])  # type: ignore[return-value]

    def _load(self, split: str) -> ImageArrays:
        return self.parts[split]


def arrays(images: Any, targets: Any, name: str) -> ImageArrays:
    return ImageArrays(
        torch.as_tensor(np.asarray(images), dtype=torch.float32),
        torch.as_tensor(np.asarray(targets), dtype=torch.int64),
        tuple(f"{name}{index}" for index in range(len(images))),
    )


def checkerboard(count: int, seed: int, name: str) -> ImageArrays:
    """Two values an image; its class is whether they are on the same side: no linear model can tell."""
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, (count, 2))
    values = 0.3 + 0.4 * signs + rng.uniform(-0.1, 0.1, (count, 2))
    return arrays(values[:, None, None], signs[:, 0] ^ signs[:, 1], name)


def blobs(count: int, seed: int, name: str, shape=(1, 4, 4), shift=0.3) -> ImageArrays:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, count)
    images = 0.3 + 0.2 * rng.normal(size=(count, *shape)) + shift * targets[:, None, None, None] * 0.2
    return arrays(images, targets, name)


def test_what_each_can_tell_is_known_by_construction():
    """Opposite corners of a square: neighbours and kernels tell them apart, a line does not."""
    dataset = Made({one: checkerboard(size, seed, one) for seed, (one, size) in enumerate(
        {"train": 200, "val": 60, "test": 100}.items())})  # fmt: skip
    found = image_baselines(dataset)
    assert list(found) == ["majority_class", "nearest_neighbour", "linear_model", "rbf_svm"]
    assert found["nearest_neighbour"] == found["rbf_svm"] == {"accuracy": 1.0}
    assert found["linear_model"]["accuracy"] < 0.8
    counts = torch.bincount(dataset.load("train").targets)
    expected = float((dataset.load("test").targets == int(counts.argmax())).float().mean())
    assert found["majority_class"] == {"accuracy": pytest.approx(expected)}


def test_they_are_scikit_learns_own_with_the_setting_that_validation_chose():
    parts = {"train": blobs(150, 0, "a"), "val": blobs(80, 1, "b"), "test": blobs(90, 2, "c")}
    flat = {one: part.images.flatten(1).double().numpy() for one, part in parts.items()}
    truth = {one: part.targets.numpy() for one, part in parts.items()}
    found = score_image_baselines(Made(parts), parts["test"])

    def accuracy(model, split):
        return (model.predict(flat[split]) == truth[split]).mean()

    near = KNeighborsClassifier(1).fit(flat["train"], truth["train"])
    assert found["nearest_neighbour"].metrics["accuracy"] == pytest.approx(accuracy(near, "test"))
    for key, make, settings in (
        ("rbf_svm", SVC, classical.SVM_SETTINGS),
        ("linear_model", lambda **one: LogisticRegression(max_iter=1000, **one), classical.LINEAR_SETTINGS),
    ):
        models = [make(**one).fit(flat["train"], truth["train"]) for one in settings]
        scores = [accuracy(model, "val") for model in models]
        facts = found[key].facts
        assert [one["validation_accuracy"] for one in facts["tried"]] == pytest.approx(scores)
        assert facts["setting"] == settings[int(np.argmax(scores))]
        assert facts["chosen_on"] == "the validation split"
        best = models[int(np.argmax(scores))]
        assert found[key].metrics["accuracy"] == pytest.approx(accuracy(best, "test"))
    # Wrong test labels change no choice.
    wrong = ImageArrays(parts["test"].images, 1 - parts["test"].targets, parts["test"].ids)
    other = score_image_baselines(Made(parts), wrong)
    assert other["rbf_svm"].facts == found["rbf_svm"].facts
    assert other["rbf_svm"].metrics["accuracy"] == pytest.approx(1 - found["rbf_svm"].metrics["accuracy"])


def test_without_validation_a_part_of_training_chooses_and_says_so():
    parts = {"train": blobs(200, 3, "a"), "test": blobs(50, 4, "c")}
    facts = score_image_baselines(Made(parts), parts["test"])["rbf_svm"].facts
    assert facts["chosen_on"] == "20 % of training, seeded: there is no validation split"
    assert facts["training_images"] == 200
    # What has no setting needs no images that choose one: all of training is its training.
    flat = {one: part.images.flatten(1).double().numpy() for one, part in parts.items()}
    near = KNeighborsClassifier(1).fit(flat["train"], parts["train"].targets.numpy())
    expected = (near.predict(flat["test"]) == parts["test"].targets.numpy()).mean()
    found = score_image_baselines(Made(parts), parts["test"])
    assert found["nearest_neighbour"].metrics["accuracy"] == pytest.approx(expected)
    again = score_image_baselines(Made(parts), parts["test"])["rbf_svm"].facts
    assert again == facts


def test_near_duplicates_are_not_on_both_sides_of_what_chooses():
    """Pairs of one image whose classes nothing but the image tells: a narrow kernel would be chosen."""
    rng = np.random.default_rng(0)
    images = np.repeat(rng.uniform(0, 1, (100, 1, 2, 2)), 2, axis=0)
    targets = np.repeat(rng.integers(0, 2, 100), 2)
    parts = {"train": arrays(images, targets, "a"), "test": blobs(20, 1, "b", shape=(1, 2, 2))}

    class Grouped(Made):
        def sampling_units(self, ids):
            return SamplingUnits("group of near-duplicates", tuple(str(int(n[1:]) // 2) for n in ids))

    apart = _data(Grouped(parts), parts["test"])
    pairs = [{int(name[1:]) // 2 for name in part.ids} for part in (apart.train, apart.choice)]
    assert (len(apart.train), len(apart.choice)) == (160, 40)
    assert not pairs[0] & pairs[1]
    alone = _data(Made(parts), parts["test"])
    assert {int(n[1:]) // 2 for n in alone.train.ids} & {int(n[1:]) // 2 for n in alone.choice.ids}


def test_a_repeat_costs_nothing_and_other_data_are_computed(monkeypatch):
    parts = {"train": blobs(60, 5, "a"), "val": blobs(20, 6, "b"), "test": blobs(30, 7, "c")}
    first = score_image_baselines(Made(parts), parts["test"])

    def refuse(_: object) -> Predicted:
        raise AssertionError("computed anew")

    for one in classical.OWN:
        monkeypatch.setitem(one.__dict__, "predict", refuse)
    again = score_image_baselines(Made(parts), parts["test"])
    assert {key: one.to_dict() for key, one in again.items()} == {
        key: one.to_dict() for key, one in first.items()
    }
    changed = {**parts, "val": blobs(20, 8, "b")}
    with pytest.raises(AssertionError, match="computed anew"):
        score_image_baselines(Made(changed), parts["test"])


def test_a_baseline_of_others_is_never_taken_from_a_file():
    parts = {"train": blobs(40, 5, "a"), "val": blobs(20, 6, "b"), "test": blobs(30, 7, "c")}
    said = [0]

    def constant(data):
        return Predicted(torch.tensor([[0.0, 1.0]]).flip(1 - said[0]).repeat(len(data.images), 1), False, {})

    with BASELINES.temporarily("constant", ImageBaseline("constant", "one", ("classification",), constant)):
        shares = []
        for said[0] in (0, 1):
            found = score_image_baselines(Made(parts), parts["test"], keys=["constant"])
            shares.append(found["constant"].metrics["accuracy"])
        assert sum(shares) == pytest.approx(1)
    with pytest.raises(ConfigError, match="baseline 'rbf_swm' is unknown"):
        score_image_baselines(Made(parts), parts["test"], keys=["rbf_swm"])
    with pytest.raises(PluginError, match="Tasks of baseline"):
        register_baseline("x", constant, label="x", tasks=("scenes",))


def test_large_images_and_sets_are_reduced_and_it_is_said(monkeypatch):
    monkeypatch.setattr(classical, "MOST_FEATURES", 16)
    monkeypatch.setattr(classical, "MOST_IMAGES", 50)
    parts = {
        one: blobs(size, seed, one, (1, 12, 12), 1.0)
        for seed, (one, size) in enumerate({"train": 120, "val": 40, "test": 60}.items())
    }
    found = score_image_baselines(Made(parts), parts["test"])
    assert found["rbf_svm"].facts["reduced_to"] == [4, 4]
    assert found["rbf_svm"].facts["training_images"] == 50
    assert found["rbf_svm"].metrics["accuracy"] > 0.9


def test_brightness_alone_is_found_and_ignored_pixels_do_not_count():
    rng = np.random.default_rng(0)
    parts = {}
    for split, count in (("train", 8), ("val", 4), ("test", 6)):
        images = rng.uniform(size=(count, 1, 12, 12))
        targets = (images[:, 0] > 0.6).astype(int)
        targets[:, 0] = 255
        parts[split] = arrays(images, targets, split)
    found = score_image_baselines(Made(parts, "segmentation", ("dark", "bright")), parts["test"])
    assert list(found) == ["majority_class", "pixel_linear"]
    assert found["pixel_linear"].metrics["accuracy"] > 0.98
    assert found["pixel_linear"].images.counts.pixels == 6 * 11 * 12
    dark = float((parts["test"].targets[:, 1:] == 0).float().mean())
    assert found["majority_class"].metrics["accuracy"] == pytest.approx(dark)
    assert found["majority_class"].metrics["miou"] == pytest.approx(dark / 2)
    assert "cross_entropy" not in found["majority_class"].metrics


REFERENCE = {
    "mri_any_tumour": (0.7024, 0.917, 0.937),
    "mri_malignant": (0.6667, 0.833, 0.826),
    "mnist35": (0.5, 0.983, 0.995),
    "fashion01": (0.5, 0.987, 0.990),
}


@pytest.mark.shared_data
@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(one, marks=pytest.mark.slow) if one in ("mnist35", "fashion01") else one
        for one in REFERENCE
    ],
)
def test_reference_values_of_the_real_sets(shared_data, recipe):
    """Majority, 1-NN and RBF-SVM as an independent review measured them, to the digits that it gives."""
    dataset = open_image_dataset(load_recipe(ROOT / "runs" / f"{recipe}.yaml").data, shared_data)
    keys = ["majority_class", "nearest_neighbour", "rbf_svm"]
    found = score_image_baselines(dataset, dataset.load("test"), keys=keys)
    assert [found[key].metrics["accuracy"] for key in keys] == pytest.approx(REFERENCE[recipe], abs=6e-4)


def test_a_class_that_training_lacks_has_no_probability():
    """A cross-entropy would be that of the number that stands for a probability of 0: 10.46 of any data."""
    train, test = blobs(40, 0, "train"), blobs(30, 1, "test")
    test.targets[:10] = 2
    for parts in ({"train": train, "test": test}, {"train": train, "val": blobs(10, 2, "val"), "test": test}):
        found = score_image_baselines(Made(parts, names=("a", "b", "c")), test)
        assert set(found["linear_model"].metrics) == {"accuracy"}
        assert found["linear_model"].metrics["accuracy"] <= 20 / 30


def test_a_single_training_image_cannot_choose_settings_too():
    parts = {"train": blobs(1, 0, "train"), "test": blobs(5, 1, "test")}
    with pytest.raises(DataError, match="at least 2 training images of which one chooses"):
        score_image_baselines(Made(parts), parts["test"])
