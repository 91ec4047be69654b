"""`diagnose_run` against a script of plain torch hooks, and verdicts that are known by construction."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from image_runs import CLASSIFIER, FILTER

from qhybrid.cli.diagnose import layer_lines
from qhybrid.config import PredictionConfig, Recipe, read_yaml, validated
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.images.dataset import SamplingUnits
from qhybrid.data.places import Places
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.errors import ConfigError
from qhybrid.evaluation import evaluate_run
from qhybrid.evaluation.diagnosis import diagnose as module
from qhybrid.evaluation.diagnosis.diagnose import diagnose_run
from qhybrid.evaluation.diagnosis.interventions import other_samples
from qhybrid.evaluation.diagnosis.probe import Probe
from qhybrid.evaluation.diagnosis.wording import shots_said
from qhybrid.evaluation.scoring import score_scenes
from qhybrid.layers import quantum_layers
from qhybrid.training.images.run import load_image_run
from qhybrid.training.metrics import SegmentationMetrics
from qhybrid.training.run_folder import load_run, save_weights, write_recipe

SEED = 4


def hooked(model, act):
    """Register hooks on all quantum layers; `act(name, outputs)` may return other outputs."""
    return [
        layer.register_forward_hook(lambda _, __, out, name=name: act(name, out))
        for name, layer in quantum_layers(model).items()
    ]


class Script:
    """An independent script: records and replaces the layers' outputs by hooks, and counts by itself."""

    def __init__(self, model, count):
        self.model, self.count = model, count  # `count()` runs the model over the data, and returns a number

    def __call__(self):
        outputs = {}
        handles = hooked(self.model, lambda name, out: outputs.setdefault(name, []).append(out.clone()))
        found = {"trained": self.count()}
        for handle in handles:
            handle.remove()
        whole = {name: torch.cat(parts) for name, parts in outputs.items()}
        samples = len(next(iter(whole.values())))
        found["mean"] = self._replaced(
            {name: out.mean(0, keepdim=True).expand_as(out) for name, out in whole.items()}
        )
        found["zero"] = self._replaced({name: torch.zeros_like(out) for name, out in whole.items()})
        orders = [torch.from_numpy(other_samples(samples, SEED, draw)) for draw in range(3)]
        each = [self._replaced({name: out[order] for name, out in whole.items()}) for order in orders]
        found["permuted"] = float(np.mean(each))
        return found

    def _replaced(self, values):
        start = dict.fromkeys(values, 0)

        def act(name, out):
            first, start[name] = start[name], start[name] + len(out)
            return values[name][first : first + len(out)]

        handles = hooked(self.model, act)
        try:
            return self.count()
        finally:
            for handle in handles:
                handle.remove()


def values_in(content, label):
    (target,) = [target for target in content["targets"] if target["label"] == label]
    return {row["name"]: row["value"] for row in target["replaced"]} | {
        "trained": content["trained"]["value"]
    }


def test_scenes_agree_with_plain_hooks(make_run, scenes_root):
    folder = make_run(name="hq_unet", grid=2, widths=(4, 4, 4, 8, 16))
    run = load_run(folder)
    with torch.no_grad():  # with random weights alone the circuit hardly reaches the logits
        for weights in run.model.parameters():
            weights.mul_(3 if weights.ndim == 4 else 1)
        run.model.bottleneck.expand.weight.mul_(30)
    save_weights(folder, "best", run.model, run.meta)
    scenes = open_dataset(run.recipe.data, scenes_root).scenes("test")
    found = diagnose_run(folder, seed=SEED, data_root=scenes_root).content

    def count():
        confusion = score_scenes(run, scenes)[0]
        return confusion.compute().miou

    with torch.no_grad():
        expected = Script(run.model, count)()
    values = values_in(found, "bottleneck.core")
    for kind, value in expected.items():
        assert values[kind] == pytest.approx(value, abs=1e-6), kind
    assert len({round(value, 6) for value in expected.values()}) > 1  # replacing does something
    assert values["trained"] == pytest.approx(evaluate_run(folder, "test", data_root=scenes_root)["miou"])
    assert found["unit"] == "blocks of 128 px within these scenes"
    assert found["units"] == 2  # both scenes are smaller than a block


def test_images_agree_with_plain_hooks(make_image_run, mnist_root):
    folder = make_image_run()
    run = load_image_run(folder)
    found = diagnose_run(folder, seed=SEED, data_root=mnist_root).content
    arrays = module.load_subject(folder, "best", "test", None, mnist_root).inputs(None)

    def count():
        with torch.no_grad():
            return float((run.model(arrays.images).argmax(dim=1) == arrays.targets).double().mean())

    expected = Script(run.model, count)()
    values = values_in(found, "all layers")
    for kind, value in expected.items():
        assert values[kind] == pytest.approx(value, abs=1e-6), kind
    assert [target["label"] for target in found["targets"]] == [FILTER, CLASSIFIER, "all layers"]
    (of_filter, of_head, _) = found["targets"]
    assert "redrawn" in of_filter["left_out"]  # the filter's angles are numbers
    assert "redrawn" in [row["name"] for row in of_head["replaced"]]
    assert found["layers"][FILTER]["rows_per_sample"] == 14 * 14
    assert found["layers"][FILTER]["trained_parameters"] == 0
    assert found["layers"][CLASSIFIER]["trained_parameters"] == 6


def test_a_circuit_that_matters_by_construction(known_run, tmp_path):
    found = diagnose_run(known_run(), data_root=tmp_path)
    assert found.content["trained"]["value"] == 1.0
    assert found.kind == "used"
    assert found.verdict.startswith("This model uses its circuit: with outputs ")
    (target,) = found.content["targets"]
    rows = {row["name"]: row for row in target["replaced"]}
    labels = module.load_subject(found.folder.parents[1], "best", "test", None, tmp_path).inputs(None).targets
    # Without a word on the image one class is said of all of them: that of the mean output's sign.
    below = float(labels.double().mean())
    assert min(abs(rows["mean"]["value"] - share) for share in (below, 1 - below)) < 1e-9
    for kind in ("mean", "permuted"):
        assert rows[kind]["verdict"] == "different"
        assert rows[kind]["difference"] < -0.1
    assert rows["redrawn"]["difference"] < 0
    assert rows["disentangled"]["difference"] < 0
    layer = found.content["layers"]["head.classifier.circuit"]
    assert layer["share_of_output_variance"] == pytest.approx(1.0, abs=1e-4)
    assert layer["angles"]["largest"] <= np.pi + 1e-6
    assert layer["angles"]["saturated"] is None
    assert layer["gradients"] is None
    assert layer["surrogates"]["fourier"] > layer["surrogates"]["linear"]
    shots = found.content["shots"]
    assert shots["enough"] is None or shots["enough"] > 4


def test_shots_are_compared_with_exact_values_where_the_run_has_shots_of_its_own(known_run, tmp_path):
    """With one shot an output the trained model is worse than with any more: no measure for them."""
    root = known_run()
    recipe = validated(Recipe, read_yaml(root / "recipe.yaml"), "recipe.yaml")
    engine = recipe.engine.model_copy(update={"shots": 1, "seed": 3})
    write_recipe(root, recipe.model_copy(update={"engine": engine}))
    content = diagnose_run(root, data_root=tmp_path).content
    assert content["trained"]["value"] < 0.95
    shots = content["shots"]
    assert shots["exact"] == 1.0
    for one in shots["tried"]:
        assert one["difference"] == pytest.approx(one["value"] - 1.0)
        assert one["difference"] <= 0


def test_angles_that_surrogates_were_fitted_on_are_not_called_held_out(known_run, tmp_path):
    said = {}
    for split in ("train", "test"):
        content = diagnose_run(known_run(), split, samples=20, data_root=tmp_path).content
        said[split] = "\n".join(layer_lines(content))
    assert "R² of surrogates on held-out angles: linear" in said["test"]
    assert "R² of surrogates on angles of training, some fitted: linear" in said["train"]


def test_a_circuit_that_nothing_looks_at(known_run, tmp_path):
    found = diagnose_run(known_run("blind", weight=0.0, bias=1.0), data_root=tmp_path)
    assert found.kind == "not used"
    assert "each equivalent within 0.50 points (80 images)" in found.verdict
    assert found.content["layers"]["head.classifier.circuit"]["share_of_output_variance"] in (0.0, None)
    assert found.content["shots"]["enough"] == 1


def test_a_circuit_of_which_only_the_mean_is_used(known_run, tmp_path):
    """All angles are near zero, so the output is 1 for every image; at zero the bias turns all answers."""
    found = diagnose_run(known_run(weight=1.0, bias=-0.2, scale=1e-4, threshold=-0.6), data_root=tmp_path)
    assert found.content["trained"]["value"] > 0.75  # the class of most images is said of all
    assert found.kind == "constant"
    assert "as a constant alone" in found.verdict


def test_an_equal_repeat_is_read_back(known_run, tmp_path, monkeypatch):
    folder = known_run()
    first = diagnose_run(folder, samples=20, data_root=tmp_path)
    assert (first.again, first.content["samples"]) == (False, 20)
    before = (first.folder / "diagnosis.json").read_bytes()
    computed = []
    original = module._diagnosed
    monkeypatch.setattr(module, "_diagnosed", lambda *given: computed.append(1) or original(*given))
    second = diagnose_run(folder, samples=20, data_root=tmp_path)
    assert second.again
    assert second.content == first.content
    assert not computed
    assert (first.folder / "diagnosis.json").read_bytes() == before
    assert not diagnose_run(folder, samples=20, seed=1, data_root=tmp_path).again
    assert not diagnose_run(folder, samples=20, margin=0.1, data_root=tmp_path).again
    assert first.folder == second.folder
    # Other weights in the same folder.
    other = known_run("other", weight=2.0)
    shutil.copy(other / "best" / "weights.safetensors", folder / "best" / "weights.safetensors")
    assert not diagnose_run(folder, samples=20, data_root=tmp_path).again
    # A file that is cut off counts for nothing.
    (first.folder / "diagnosis.json").write_bytes(before[:100])
    assert not diagnose_run(folder, samples=20, data_root=tmp_path).again
    json.loads((first.folder / "diagnosis.json").read_text())


def test_nothing_is_left_of_a_diagnosis_that_fails(known_run, tmp_path, monkeypatch):
    folder = known_run()
    monkeypatch.setattr(module, "draw_diagnosis", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        diagnose_run(folder, data_root=tmp_path)
    assert not list(folder.glob("diagnosis/**/*.json"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["head"]}, "No quantum layer named head. Quantum layers: head.classifier.circuit"),
        ({"margin": 0.0}, "`margin` must be a number above 0"),
        ({"samples": 1}, "`samples` must be a whole number of at least 2"),
    ],
)
def test_what_cannot_be_asked(known_run, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        diagnose_run(known_run(), data_root=tmp_path, **options)


def test_a_model_without_circuits_has_nothing_to_diagnose(make_run, scenes_root):
    with pytest.raises(ConfigError, match="no quantum layers"):
        diagnose_run(make_run(name="unet"), data_root=scenes_root)


def test_windows_are_units_where_few_are_drawn(make_run, scenes_root):
    folder = make_run(name="hq_unet", grid=2)
    found = diagnose_run(folder, samples=6, data_root=scenes_root).content
    assert (found["samples"], found["units"]) == (6, 6)
    assert found["unit"] == "windows of 16 px within these scenes"
    assert diagnose_run(folder, samples=6, data_root=scenes_root).again


def test_blocks_add_up_to_the_whole(make_run, scenes_root, monkeypatch):
    """Blocks of 16 px: their confusion matrices against those cut out of the label maps by slices."""
    monkeypatch.setattr("qhybrid.evaluation.scene_units.BLOCK", 16)
    run = load_run(make_run(name="unet"))
    subject = module.load_subject(run.folder, "best", "test", None, scenes_root)
    units = module.SceneUnits(subject, settings=PredictionConfig(overlap=0.5))
    maps = []
    score_scenes(run, subject.scenes, each=lambda labels, truth: maps.append((labels, truth)))
    expected = []
    for labels, truth in maps:
        for row in range(0, truth.shape[0], 16):
            for column in range(0, truth.shape[1], 16):
                part = np.s_[row : row + 16, column : column + 16]
                keep = truth[part] != IGNORE_INDEX
                pairs = np.stack([truth[part][keep], labels[part][keep]], axis=1)
                expected.append(
                    np.array([[(pairs == [t, p]).all(1).sum() for p in range(3)] for t in range(3)])
                )
    expected = np.array([one for one in expected if one.any()])
    found = _counted(subject, units)
    np.testing.assert_array_equal(found, expected)
    whole = SegmentationMetrics(found.sum(axis=0))
    assert whole.miou == pytest.approx(evaluate_run(run.folder, "test", data_root=scenes_root)["miou"])


def test_places_join_windows_only_where_there_are_five(scenes_root, make_run, monkeypatch):
    """Windows of six places are six units; where the number of places is not known each is its own."""
    subject = module.load_subject(make_run(name="unet"), "best", "test", None, scenes_root)
    inputs = subject.inputs(8, 0)
    number = len(subject.scenes)
    known = Places(tuple(range(number)), 0)
    assert number < 5
    monkeypatch.setattr("qhybrid.evaluation.scene_units.connected_places", lambda scenes: known)
    plain = module.SampledUnits(subject, inputs)
    assert plain.said(8) == "8 windows of 16 px within these scenes, not blended"
    scenes = [replace(subject.scenes[0], id=f"s{index}") for index in range(6)]
    moved = replace(inputs, names=tuple(f"s{index % 6}:0:0" for index in range(8)))
    subject._scenes = scenes
    for unknown, said in ((0, "8 windows of 16 px in 6 places, not blended"), (1, None)):
        known = Places(tuple(range(6)), unknown)
        units = module.SampledUnits(subject, moved)
        assert units.said(8 if said is None else 6) == (said or plain.said(8))
    known = Places(tuple(range(6)), 0)
    counts = {
        "joined": _counted(subject, module.SampledUnits(subject, moved)),
        "alone": _counted(subject, module.SampledUnits(subject, moved, apart=True)),
    }
    expected = counts["alone"][:6].copy()
    expected[:2] += counts["alone"][6:]
    np.testing.assert_array_equal(counts["joined"], expected)


class TestGroupsOfImages:
    """Near-duplicates are one witness: a diagnosis counts groups, as the evaluation does."""

    def test_groups_are_units_and_their_spread_is_larger(self, known_run, tmp_path, monkeypatch):
        subject = module.load_subject(known_run(), "best", "test", None, tmp_path)
        alone = module.SampledUnits(subject, subject.inputs(60, 0))
        assert alone.said(60) == "60 images"
        kind = "group of near-duplicates"
        ids = subject.inputs(60, 0).names
        of = dict(zip(ids, (str(index // 6) for index in range(60))))
        monkeypatch.setattr(
            type(subject._dataset),
            "sampling_units",
            lambda self, names: SamplingUnits(kind, tuple(of[name] for name in names)),
        )
        grouped = module.SampledUnits(subject, subject.inputs(60, 0))
        assert grouped.said(10) == "60 images in 10 groups of near-duplicates"
        counts = _counted(subject, grouped)
        np.testing.assert_array_equal(
            counts, _counted(subject, alone).reshape(10, 6, *counts.shape[1:]).sum(axis=1)
        )


def _counted(subject, units):
    probe = Probe(subject.model, [], reuse=False)
    with probe.opened():
        probe.record()
        return units.counts(probe)


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (("different", 0.01), "more than 4,096 are needed to stay within the margin"),
        (("not decidable", 0.0274), "not decidable, 4,096 neither: this sample finds differences above 2.74"),
        (("not decidable", None), "not decidable, 4,096 neither: this sample does not say how much"),
    ],
)
def test_a_small_sample_does_not_ask_for_more_shots(last, said):
    """58 images prove no number of shots equivalent within half a point, also where no answer differs."""
    kind, detectable = last
    tried = [{"shots": 4096, "verdict": kind, "detectable": detectable}]
    content = {"metric": "accuracy", "shots": {"tried": tried, "enough": None, "left_out": None}}
    assert said in shots_said(content)
