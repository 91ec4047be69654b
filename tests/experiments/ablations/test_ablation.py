"""Ablations from recipe to verdict, on tiny data: what is trained, kept, resumed, and decided."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from image_folders import write_ph2
from image_runs import write_idx
from scene_runs import CLASSES
from scipy import stats

from qhybrid import training
from qhybrid.api.studies import Ablation
from qhybrid.cli.ablate import print_ablation
from qhybrid.cli.main import execute
from qhybrid.config import Recipe, to_yaml, validated
from qhybrid.config.tuning import Distribution, TuneSpace
from qhybrid.errors import CheckpointError, ConfigError, DataError
from qhybrid.evaluation import evaluate_run, load_trained
from qhybrid.experiments.ablations import ablate, plan_arms, tuned
from qhybrid.experiments.ablations.arms import trained_arm
from qhybrid.experiments.ablations.images import image_values, over_images
from qhybrid.experiments.ablations.results import alike_said, read_result, tuning_said
from qhybrid.experiments.ablations.run import ARMS_FOLDER, FINISHED, FINISHED_BEFORE
from qhybrid.experiments.repeats import processes
from qhybrid.experiments.repeats import run as repeats
from qhybrid.experiments.repeats.comparison import RepeatedRuns
from qhybrid.layers import quantum_layers
from qhybrid.models import build_model
from qhybrid.models.arms import ARMS as ARM_TABLE
from qhybrid.report import write_report_page
from qhybrid.seeding import derive_seed
from qhybrid.training.kinds import with_task_defaults

FILTER, CLASSIFIER = "quanvolution.filter", "head.classifier.circuit"
ARMS = [f"zero@{CLASSIFIER}", "frozen", "no_entanglement", "classical_filter", "removed"]


def recipe_of(content, **ablation):
    more = {"ablation": ablation} if ablation else {}
    return validated(Recipe, {**content, **more}, "tiny.yaml")


def qcq(**training):
    return {
        "name": "tiny_qcq",
        "data": {
            "dataset": "mnist",
            "root": "mnist",
            "options": {"classes": [3, 5], "train": 16, "validation": 8, "test": 16},
        },
        "model": {"name": "qcq_cnn", "channels": [2, 2]},
        "training": {"epochs": 2, "batch_size": 8, "progress": False, **training},
    }


def hq_unet():
    data = {"dataset": "geotiff_folder", "classes": CLASSES, "ignore_values": [99], "patch_size": 16}
    return {
        "name": "tiny_hq",
        "data": {**data, "patches_per_epoch": 4},
        "model": {"name": "hq_unet", "widths": [2, 2, 2, 2, 4], "grid": 2},
        "training": {"epochs": 1, "batch_size": 4, "progress": False},
    }


def qu_net(folder):
    return {
        "name": "tiny_qu",
        "data": {"dataset": "ph2", "root": str(folder), "options": {"size": [32, 48]}},
        "model": {"name": "qu_net", "widths": [2, 2], "variant": "4_2"},
        "training": {"epochs": 1, "batch_size": 8, "progress": False},
    }


@pytest.fixture(scope="module")
def ablated(tmp_path_factory, mnist_root):
    """An ablation of QCQ-CNN: five arms, two seeds."""
    output = tmp_path_factory.mktemp("ablation") / "qcq"
    told = []
    content = ablate(
        recipe_of(qcq(), margin=0.02),
        mnist_root,
        output,
        arms=ARMS,
        seeds=[0, 1],
        report=lambda *what: told.append(what),
    )
    return output, content, told


class TestResult:
    def test_every_arm_has_a_run_a_seed_that_is_like_any_other(self, ablated, mnist_root):
        output, content, told = ablated
        assert [row["arm"] for row in content["arms"]] == ["as_is", *ARMS]
        assert [what[1:] for what in told] == [(done, 12) for done in range(1, 13)]
        for row in content["arms"]:
            folder = output / ARMS_FOLDER / row["arm"] / "seed-1"
            run = load_trained(folder)
            assert run.recipe.model.get("replace", {}) == row["replace"]
            trained = sum(part.numel() for part in run.model.parameters() if part.requires_grad)
            assert trained == row["parameters"]
            again = evaluate_run(folder, data_root=mnist_root, output=folder / "again")
            assert again["accuracy"] == row["runs"][1]["value"]
        names = {}
        for arm in ("as_is", *ARMS):
            model = load_trained(output / ARMS_FOLDER / arm / "seed-0").model
            names[arm] = list(quantum_layers(model))
        assert names["as_is"] == names["no_entanglement"] == [FILTER, CLASSIFIER]
        assert names[f"zero@{CLASSIFIER}"] == [FILTER]
        assert names["classical_filter"] == [CLASSIFIER]
        assert names["removed"] == []

    def test_frozen_angles_are_the_initial_ones_after_training(self, ablated):
        output, *_ = ablated
        seeds = []
        for arm in ("frozen", "as_is"):
            model = load_trained(output / ARMS_FOLDER / arm / "seed-0").model
            seeds.append(model.get_submodule(CLASSIFIER).weight.detach())
        config = load_trained(output / ARMS_FOLDER / "as_is" / "seed-0").model.config
        torch.manual_seed(derive_seed(0, "initial weights"))
        first = build_model(config).get_submodule(CLASSIFIER).weight
        assert torch.equal(seeds[0], first)
        assert not torch.equal(seeds[1], first)

    def test_differences_against_scipy(self, ablated):
        _, content, _ = ablated
        base = [run["value"] for run in content["arms"][0]["runs"]]
        p_values = []
        for row in content["arms"][1:]:
            values = [run["value"] for run in row["runs"]]
            found = row["difference"]
            assert found["values"] == pytest.approx(np.subtract(values, base))
            assert found["mean"] == pytest.approx(np.mean(values) - np.mean(base))
            assert found["margin"] == content["margin"] == 0.02
            spread = np.std(found["values"], ddof=1)
            if spread > 1e-12:
                half = stats.t.ppf(0.975, 1) * spread / np.sqrt(2)
                assert found["high"] - found["mean"] == pytest.approx(half)
                p = stats.ttest_rel(values, base).pvalue
            else:  # two pairs that are equal decide nothing
                p = 1.0
                assert (found["kind"], found["high"]) == ("not decidable", None)
            p_values.append((p, found["p_different"]))
        ordered = sorted(p_values)
        largest = 0.0
        for place, (alone, corrected) in enumerate(ordered):
            largest = max(largest, min(1.0, (len(ordered) - place) * alone))
            assert corrected == pytest.approx(largest)

    def test_over_images_against_the_predictions(self, ablated):
        output, content, _ = ablated
        row = content["arms"][2]
        correct = []
        for arm in ("as_is", row["arm"]):
            files = [
                output / ARMS_FOLDER / arm / f"seed-{seed}/evaluation/test-exact/predictions.csv"
                for seed in (0, 1)
            ]
            each = [image_values(file, "accuracy") for file in files]
            correct.append(np.array([list(one.values()) for one in each]).mean(axis=0))
        difference = correct[1] - correct[0]
        assert row["over_images"]["count"] == len(difference) == 16
        assert row["over_images"]["mean"] == pytest.approx(row["difference"]["mean"])
        low, high = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
        if not difference.any():  # 16 images that agree say little of others
            high = stats.binomtest(0, 16).proportion_ci(0.90, method="exact").high
            low = -high
        assert (row["over_images"]["low"], row["over_images"]["high"]) == pytest.approx((low, high))

    def test_json_picture_and_report(self, ablated, tmp_path):
        output, content, _ = ablated
        assert read_result(output) == json.loads(json.dumps(content))
        assert (output / "ablation.png").stat().st_size > 10_000
        page = write_report_page([output], tmp_path / "page.html").read_text()
        for row in content["arms"][1:]:
            assert row["difference"]["text"] in page
        assert "Does the circuit matter?" in page
        assert "no difference is" not in page
        remark = "One of 16 test images is 6.25 points, more than the margin of 2: seeds may all agree"
        assert content["remarks"][0].startswith(remark)
        assert remark in page


class TestArmsThatAreOneNetwork:
    @staticmethod
    def runs(folder, **arms):
        return {
            label: RepeatedRuns(
                folder, "one", {"name": "qu_net"}, 10, {(seed, None): row for seed, row in enumerate(rows)}
            )
            for label, rows in arms.items()
        }

    def test_equal_metrics_in_every_run_are_told(self, tmp_path):
        """In every one, with the loss: two networks that answer with one class have equal accuracies only."""
        first, second = {"iou": 0.5, "loss": 1.25}, {"iou": 0.25, "loss": 2.5}
        other = {"iou": 0.5, "loss": 1.5}
        runs = self.runs(tmp_path, as_is=[other, other], zero=[first, second], twin=[first, other])
        assert alike_said(runs) == []
        runs |= self.runs(tmp_path, removed=[first, second, other], identity=[first], frozen=[other, other])
        assert [said.partition(" gave")[0] for said in alike_said(runs)] == [
            "as_is, frozen",
            "zero, removed, identity",
        ]

    def test_runs_of_no_common_seed_say_nothing(self, tmp_path):
        runs = self.runs(tmp_path, as_is=[{"iou": 0.5}], zero=[{"iou": 0.5}])
        runs["zero"] = replace(runs["zero"], metrics={(7, None): {"iou": 0.5}})
        assert alike_said(runs) == []


class TestGoingOn:
    def test_nothing_is_trained_twice_and_seeds_and_arms_are_added(self, ablated, mnist_root, tmp_path):
        output = tmp_path / "copy"
        shutil.copytree(ablated[0], output)
        before = {file: file.stat().st_mtime_ns for file in output.glob("arms/*/*/best/weights.safetensors")}
        assert len(before) == 12
        told = []
        found = ablate(
            recipe_of(qcq(), margin=0.02),
            mnist_root,
            output,
            arms=["frozen", f"identity@{FILTER}"],
            seeds=[1, 2],
            report=lambda *what: told.append(what),
        )
        assert all(file.stat().st_mtime_ns == time for file, time in before.items())
        rows = {row["arm"]: row for row in found["arms"]}
        # Arms of earlier calls stay: a smaller family would make Holm's correction worthless.
        asked = ["as_is", "frozen", f"identity@{FILTER}"]
        assert list(rows) == [*asked, *sorted({*ARMS} - {*asked})]
        first = {row["arm"]: row for row in ablated[1]["arms"]}
        for key in ("replace", "words", "parameters", "runs"):
            assert rows["removed"][key] == first["removed"][key]
        alone = [stats.ttest_1samp(rows["frozen"]["difference"]["values"], 0).pvalue]
        assert np.isnan(alone[0]) or rows["frozen"]["difference"]["p_different"] >= alone[0]
        assert [run["seed"] for run in rows["frozen"]["runs"]] == [0, 1, 2]
        # Only the seeds that both have are paired.
        assert rows[f"identity@{FILTER}"]["difference"]["pairs"] == 2
        assert len(told) == 6

    def test_a_new_arm_has_the_circuit_of_the_others(self, ablated, mnist_root, tmp_path, monkeypatch):
        """Runs that are there say nothing of an arm that comes later: it had any circuit of that name."""
        output = tmp_path / "copy"
        shutil.copytree(ablated[0], output)
        (tmp_path / "circuits").mkdir()
        definition = tmp_path / "circuits" / "qcq_classifier.yaml"
        definition.write_text("builder: qcq_classifier\narguments: {reps: 3}\n")
        monkeypatch.chdir(tmp_path)
        asked = {"arms": [f"identity@{FILTER}"], "seeds": [0, 1]}
        with pytest.raises(ConfigError, match="have changed: circuits of model"):
            ablate(recipe_of(qcq(), margin=0.02), mnist_root, output, **asked)
        assert not (output / ARMS_FOLDER / asked["arms"][0]).exists()

    def test_a_new_arm_has_the_training_images_of_the_others(self, ablated, mnist_root, tmp_path):
        """The test images may be the same."""
        output, root = tmp_path / "copy", tmp_path / "root"
        shutil.copytree(ablated[0], output)
        shutil.copytree(mnist_root, root)
        images = np.random.default_rng(0).integers(0, 256, (24, 28, 28))
        write_idx(root / "mnist" / "train-images-idx3-ubyte.gz", images)
        asked = {"arms": [f"identity@{FILTER}"], "seeds": [0, 1]}
        with pytest.raises(DataError, match="train"):
            ablate(recipe_of(qcq(), margin=0.02), root, output, **asked)
        assert not (output / ARMS_FOLDER / asked["arms"][0]).exists()

    def test_an_interrupted_ablation_goes_on(self, mnist_root, tmp_path):
        def stop(_what, done, _total):
            if done == 3:
                raise KeyboardInterrupt

        arguments = {"arms": [f"zero@{CLASSIFIER}"], "seeds": [0, 1]}
        with pytest.raises(KeyboardInterrupt):
            ablate(recipe_of(qcq()), mnist_root, tmp_path / "out", **arguments, report=stop)
        assert not (tmp_path / "out" / "ablation.json").exists()
        kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("arms/*/*/best/meta.json")}
        assert len(kept) == 3
        found = ablate(recipe_of(qcq()), mnist_root, tmp_path / "out", **arguments)
        assert all(file.stat().st_mtime_ns == time for file, time in kept.items())
        assert [len(row["runs"]) for row in found["arms"]] == [2, 2]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"margin": 0.05}, r"margin \(0.02, now 0.05\).*Fix: leave them"),
            ({"metric": "cross_entropy"}, r"metric \(accuracy, now cross_entropy\)"),
            ({"trials": 2}, r"trials \(0, now 2\)"),
        ],
    )
    def test_what_was_stated_stays(self, ablated, mnist_root, change, message):
        with pytest.raises(ConfigError, match=message):
            ablate(recipe_of(qcq(), margin=0.02), mnist_root, ablated[0], **change)

    def test_another_recipe_is_refused(self, ablated, mnist_root):
        with pytest.raises(ConfigError, match="these differ: training.epochs"):
            ablate(recipe_of(qcq(epochs=9), margin=0.02), mnist_root, ablated[0])
        # How a training is shown may change.
        shown = recipe_of({**qcq(progress=True), "description": "Other words"}, margin=0.02)
        assert ablate(shown, mnist_root, ablated[0], arms=["frozen"], seeds=[0, 1])["margin"] == 0.02


class TestArms:
    def test_all_that_are_possible_by_default(self, mnist_root):
        recipe = with_task_defaults(recipe_of(qcq()))
        planned, impossible = plan_arms(recipe, mnist_root)
        labels = [arm.label for arm in planned]
        assert labels[0] == "as_is"
        assert set(labels) == {"as_is", *ARM_TABLE.names()}
        assert not impossible
        by_label = {arm.label: arm for arm in planned}
        assert set(by_label["frozen"].replace) == {FILTER, CLASSIFIER}
        assert set(by_label["zero"].replace) == {CLASSIFIER}
        assert set(by_label["classical_filter"].replace) == {FILTER}
        some, _ = plan_arms(recipe, mnist_root, ["twin", f"mlp@{FILTER}"], [CLASSIFIER])
        assert [dict(arm.replace) for arm in some] == [{}, {CLASSIFIER: "twin"}, {FILTER: "mlp"}]

    def test_other_models_and_patterns_of_layers(self, scenes_root):
        other = {"name": "unet", "widths": [2, 2, 2, 2, 4]}
        recipe = recipe_of(hq_unet(), models={"plain": other})
        planned, _ = plan_arms(recipe, scenes_root, ["plain", "zero@bottleneck.*"])
        assert [arm.label for arm in planned] == ["as_is", "plain", "zero@bottleneck.*"]
        plain = planned[1].recipe(recipe)
        assert (plain.model, planned[1].words) == (other, {"model": "unet"})
        assert dict(planned[2].replace) == {"bottleneck.core": "zero"}
        assert planned[1].parameters != planned[0].parameters
        # Without names it stands beside all arms; of an earlier call only its recipe is left.
        assert "plain" in [arm.label for arm in plan_arms(recipe, scenes_root)[0]]
        assert trained_arm("plain", plain, scenes_root) == planned[1]
        with pytest.raises(ConfigError, match="no quantum layer is named skips"):
            plan_arms(recipe, scenes_root, ["zero@skips.*"])

    @pytest.mark.parametrize(
        ("models", "message"),
        [
            ({"zero": {"name": "unet"}}, "names that are no arm's, but has `zero`"),
            ({"a@b": {"name": "unet"}}, "letters, digits"),
            ({"plain": {"widths": [2, 2, 2, 2, 4]}}, "must be a whole section `model`"),
            ({"plain": {"name": "unet", "width": 3}}, "`ablation.models.plain`.*width"),
        ],
    )
    def test_other_models_that_do_not_fit(self, scenes_root, models, message):
        with pytest.raises(ConfigError, match=message):
            plan_arms(recipe_of(hq_unet(), models=models), scenes_root)

    def test_why_an_arm_is_not_possible(self, scenes_root):
        _, impossible = plan_arms(recipe_of(hq_unet()), scenes_root)
        assert list(impossible) == ["classical_filter"]
        assert "no fixed filter" in impossible["classical_filter"]
        with pytest.raises(ConfigError, match="Arm `classical_filter` is not possible.*no fixed filter"):
            plan_arms(recipe_of(hq_unet()), scenes_root, ["classical_filter"])

    @pytest.mark.parametrize(
        ("labels", "message"),
        [
            (["zeros"], "arm 'zeros' is unknown"),
            (["zero@core"], "no quantum layer is named core. Quantum layers: quanvolution.filter"),
            ([f"zero@{FILTER}+{CLASSIFIER}"], "Arm `zero@.*is not possible.*nothing of the image"),
        ],
    )
    def test_what_is_wrong_is_said_before_training(self, mnist_root, tmp_path, labels, message):
        with pytest.raises(ConfigError, match=message):
            ablate(recipe_of(qcq()), mnist_root, tmp_path / "out", arms=labels)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("stated", "message"),
        [
            ({"metric": "soft_iou"}, r"must be a metric of classification \(accuracy, .*but is `soft_iou`"),
            ({"metric": "acuracy"}, "metric 'acuracy' is unknown.*Did you mean `accuracy`"),
            ({"margin": 0.0}, "`ablation.margin` must be a number above 0"),
            ({"margin": float("inf")}, "`ablation.margin` must be a number above 0, but is inf"),
            ({"margin": 0.5}, "`ablation.margin` must be a fraction of accuracy below 0.5, .* 50 points"),
        ],
    )
    def test_what_is_stated_must_mean_something(self, mnist_root, tmp_path, stated, message):
        with pytest.raises(ConfigError, match=message):
            ablate(recipe_of(qcq()), mnist_root, tmp_path / "out", arms=["frozen"], **stated)
        assert not (tmp_path / "out").exists()

    def test_models_without_circuits_and_recipes_with_a_start_are_refused(self, mnist_root, tmp_path):
        plain = {**qcq(), "model": {"name": "cnn", "channels": [2, 2]}}
        with pytest.raises(ConfigError, match="`cnn` must have quantum layers to be ablated"):
            ablate(recipe_of(plain), mnist_root, tmp_path / "out")
        with pytest.raises(ConfigError, match="`training.start` must be left out"):
            ablate(recipe_of(qcq(start="runs/other")), mnist_root, tmp_path / "out")
        replaced = {**qcq(), "model": {**qcq()["model"], "replace": {CLASSIFIER: "zero"}}}
        with pytest.raises(ConfigError, match="`model.replace` must be left out"):
            ablate(recipe_of(replaced), mnist_root, tmp_path / "out")


def test_hq_unet_on_scenes_with_baselines(scenes_root, tmp_path):
    arms = ["zero", "removed", "no_entanglement"]
    found = ablate(recipe_of(hq_unet()), scenes_root, tmp_path / "out", arms=arms, seeds=[0, 1])
    assert (found["metric"], found["margin"]) == ("miou", 0.005)
    assert [len(row["runs"]) for row in found["arms"]] == [2] * 4
    assert all(row["difference"]["pairs"] == 2 for row in found["arms"][1:])
    assert set(found["baselines"]) == {"majority_class", "color_classifier"}
    assert 0 < found["baselines"]["majority_class"]["miou"] < found["baselines"]["color_classifier"]["miou"]
    folder = tmp_path / "out" / ARMS_FOLDER / "removed" / "seed-0"
    again = evaluate_run(folder, data_root=scenes_root, output=folder / "again")
    assert again["miou"] == found["arms"][2]["runs"][0]["value"]


def test_qu_net_over_folds(tmp_path):
    write_ph2(tmp_path / "ph2")
    recipe = recipe_of(qu_net(tmp_path / "ph2"))
    found = ablate(recipe, tmp_path, tmp_path / "out", arms=["removed", "twin"], seeds=[0], folds=[1, 2])
    assert found["metric"] == "soft_iou"
    assert found["folds"] == [1, 2]
    assert "Nadeau and Bengio" in found["statistics"]
    for row in found["arms"][1:]:
        difference = row["difference"]
        assert (difference["folds"], difference["pairs"], difference["count"]) == (2, 2, 2)
        # Nadeau and Bengio: four test images of a fold, to as many training images as a run says.
        run = tmp_path / "out" / ARMS_FOLDER / row["arm"] / "seed-0-fold-1"
        trained = json.loads((run / "environment.json").read_text())["data"]["train"]["images"]
        error = np.std(difference["values"], ddof=1) * np.sqrt(1 / 2 + 4 / trained)
        half = difference["high"] - difference["mean"]
        assert half == pytest.approx(stats.t.ppf(0.975, 1) * error, rel=0.05)  # shares are rounded to images
        assert row["over_images"]["count"] == 8  # four test images a fold
    assert not quantum_layers(load_trained(tmp_path / "out/arms/removed/seed-0-fold-2").model)


def test_every_arm_gets_the_same_number_of_settings(mnist_root, tmp_path):
    pytest.importorskip("optuna")
    space = TuneSpace(space={"training.learning_rate": Distribution(low=1e-3, high=1e-1, log=True)})
    arguments = {"arms": [f"zero@{CLASSIFIER}"], "seeds": [0, 1], "trials": 2, "space": space}
    told = []
    found = ablate(
        recipe_of(qcq()), mnist_root, tmp_path / "out", **arguments, report=lambda *what: told.append(what)
    )
    assert [what[1:] for what in told[:4]] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    rates = []
    for row in found["arms"]:
        assert [trial["trial"] for trial in row["trials"]] == [1, 2]
        best = max(row["trials"], key=lambda trial: trial["value"])
        assert row["tuned"] == best["parameters"]
        run = load_trained(tmp_path / "out" / ARMS_FOLDER / row["arm"] / "seed-1")
        assert run.recipe.training.learning_rate == best["parameters"]["training.learning_rate"]
        rates.append([trial["parameters"]["training.learning_rate"] for trial in row["trials"]])
    assert rates[0] == rates[1]  # the first settings are the same for all arms
    assert found["trials"] == 2
    again = ablate(recipe_of(qcq()), mnist_root, tmp_path / "out", **arguments)
    assert again == found


def test_command_line(mnist_root, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(to_yaml(recipe_of(qcq(epochs=1))))
    command = ["ablate", "tiny.yaml", "--arms", "frozen,removed", "--seeds", "0-1"]
    command += ["--layers", CLASSIFIER, "--data-root", str(mnist_root)]
    assert execute(command) == 0
    out = capsys.readouterr().out
    assert "[6/6]" in out
    for text in ("as_is", "frozen", "removed", "finds", "Margin: 0.5 points", "corrected by Holm"):
        assert text in out
    assert "no difference is" not in out
    assert (tmp_path / "runs/tiny_qcq/ablation/ablation.json").is_file()
    assert execute([*command, "--margin", "0.1"]) == 1
    assert "was written before the first run" in capsys.readouterr().err
    assert execute(["report", "tiny_qcq/ablation", "-o", "page.html"]) == 0
    assert "removed" in (tmp_path / "page.html").read_text()


def test_a_run_that_fails_is_told_and_costs_no_other(mnist_root, tmp_path, monkeypatch, capsys):
    train = training.train

    def failing(recipe, *arguments, **more):
        replace = (recipe.model.get("replace") or {}).values()
        if "frozen" in replace or ("zero" in replace and recipe.seed == 1):
            raise RuntimeError("lost")
        return train(recipe, *arguments, **more)

    monkeypatch.setattr("qhybrid.training.train", failing)
    recipe = recipe_of(qcq(epochs=1))
    found = ablate(recipe, mnist_root, tmp_path / "out", arms=["frozen", "zero"], seeds=[1, 2, 3])
    whole, frozen, zero = found["arms"]
    assert frozen["error"] == "RuntimeError: lost"
    assert "difference" not in frozen
    assert (tmp_path / "out" / "ablation.json").is_file()
    # What is left of an arm is judged, and said to be what is left.
    assert (len(whole["runs"]), len(zero["runs"]), zero["difference"]["pairs"]) == (3, 2, 2)
    assert zero["failed"] == [{"seed": 1, "fold": None, "error": "RuntimeError: lost"}]
    assert found["left_out"] == ["zero: 1 of 3 runs failed, as seed 1 (RuntimeError: lost)"]
    print_ablation(found)
    assert "zero: 1 of 3 runs failed, as seed 1 (RuntimeError: lost)" in capsys.readouterr().out
    page = write_report_page([tmp_path / "out"], tmp_path / "page.html").read_text()
    assert "zero: 1 of 3 runs failed" in page
    table = Ablation(tmp_path / "out", found).results.set_index("arm")
    assert (table.loc["frozen", "runs"], table.loc["frozen", "error"]) == (0, "RuntimeError: lost")


def test_calls_in_processes_are_told_as_they_end():
    found = dict(repeats.in_processes(sys.exit, [(0,), (3,), (1,)], 2))
    assert found == {0: 0, 1: 3, 2: 1}


def warn_of(texts):
    for text in texts:
        warnings.warn(text, stacklevel=1)


def test_what_processes_warn_of_is_told_where_they_were_called():
    """Once where it is told once here, and without the places in the code of another process."""
    calls = [(["of both", "of the first"],), (["of both", "x" * 200_000],)]  # more than a pipe holds
    with pytest.warns(UserWarning, match="of both") as told:
        assert dict(repeats.in_processes(warn_of, calls, 2)) == {0: 0, 1: 0}
    assert {str(one.message) for one in told} == {"of both", "of the first", "x" * 200_000}


def test_a_process_that_is_killed_while_it_warns_takes_no_other_with_it():
    """Of what it was saying only the beginning came."""
    told, telling = multiprocessing.Pipe(duplex=False)
    os.write(telling.fileno(), b"\x00\x00\x01\x00half")
    telling.close()
    started = processes._Started(None, 0, told)
    started.tell()
    assert not started.open


def test_a_process_whose_caller_is_gone_goes_on(monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    told, telling = multiprocessing.Pipe(duplex=False)
    told.close()
    with warnings.catch_warnings():
        processes._with_variables(dict(os.environ), warn_of, (["of something"],), telling)


def test_the_time_left_is_that_of_runs_which_took_some(capsys, monkeypatch):
    """Runs of an earlier call come back at once."""
    clock = SimpleNamespace(now=0.0)
    command = sys.modules[print_ablation.__module__]
    monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: clock.now))
    progress = command._Progress()
    for done, (seconds, state) in enumerate(
        [(5, FINISHED_BEFORE), (0, FINISHED_BEFORE), (60, FINISHED), (0, FINISHED_BEFORE)], 1
    ):
        clock.now += seconds
        progress(f"arm, seed-{done}: {state}", done, 6)
    clock.now += 60
    progress("arm, seed-5: FAILED: of something", 5, 6)
    assert capsys.readouterr().out.splitlines() == [
        "[1/6] arm, seed-1: finished before",
        "[2/6] arm, seed-2: finished before",
        "[3/6] arm, seed-3: finished, about 0:03:00 left",
        "[4/6] arm, seed-4: finished before",
        "[5/6] arm, seed-5: FAILED: of something, about 0:01:00 left",
    ]


def variable_is(value):
    sys.exit(int(os.environ.get("QHYBRID_CACHE") != value))


def test_processes_have_the_environment_of_the_call(monkeypatch):
    """The server that starts them keeps that of the first call."""
    for value in ("first", "second"):
        monkeypatch.setenv("QHYBRID_CACHE", value)
        assert dict(repeats.in_processes(variable_is, [(value,)], 1)) == {0: 0}


def test_a_search_that_fails_in_its_process_leaves_its_reason(tmp_path):
    recipe = recipe_of({**qcq(), "data": {**qcq()["data"], "root": "nowhere"}})
    space = TuneSpace(space={"training.learning_rate": Distribution(low=1e-3, high=1e-1, log=True)})
    arguments = (recipe.model_dump(mode="json"), space.model_dump(mode="json"), tmp_path)
    tuned._search(*arguments, tmp_path / "tune" / "zero", "zero", 1, 0)
    assert "nowhere" in (tmp_path / "tune" / "zero" / "error.txt").read_text()
    found = tuned._found("zero", recipe, tmp_path, 1)
    assert found.recipe is None
    assert found.error.startswith("1 of 1 trials did not end.")
    assert "nowhere" in found.error


class TestOverImages:
    def write(self, folder, rows):
        folder.mkdir()
        lines = ["id,truth,prediction", *(",".join(row) for row in rows)]
        (folder / "predictions.csv").write_text("\n".join(lines) + "\n")
        return folder / "predictions.csv"

    def test_by_hand(self, tmp_path):
        first = self.write(tmp_path / "a", [("0", "x", "x"), ("1", "x", "y"), ("2", "y", "y")])
        second = self.write(tmp_path / "b", [("0", "x", "x"), ("1", "x", "x"), ("2", "y", "y")])
        found = over_images([(first, second)], "accuracy")
        assert (found.count, found.mean) == (3, pytest.approx(1 / 3))
        half = stats.t.ppf(0.975, 2) * np.std([0, 1, 0], ddof=1) / np.sqrt(3)
        assert found.high == pytest.approx(1 / 3 + half)

    def test_units_of_several_images_are_left_out_as_a_whole(self, tmp_path):
        """Against the sandwich estimate of a mean over clusters, written down by hand."""
        rng = np.random.default_rng(0)
        names = [str(number) for number in range(24)]
        of = [number // 3 if number < 12 else 4 + (number - 12) // 2 for number in range(24)]
        right = {"a": rng.integers(0, 2, 24), "b": rng.integers(0, 2, 24)}
        files = []
        for arm, values in right.items():
            (tmp_path / arm).mkdir()
            files.append(tmp_path / arm / "predictions.csv")
            said = ["x" if value else "y" for value in values]
            lines = [f"{n},x,{s},group of near-duplicates: {g}" for n, s, g in zip(names, said, of)]
            files[-1].write_text("\n".join(["id,truth,prediction,unit", *lines]) + "\n")
        found = over_images([(files[0], files[1])], "accuracy")
        differences = right["b"] - right["a"]
        assert (found.count, found.unit) == (10, "group of near-duplicates")
        assert found.mean == pytest.approx(differences.mean())
        left_out = [np.delete(differences, np.flatnonzero(np.equal(of, g))).mean() for g in range(10)]
        error = np.sqrt(9 / 10 * np.sum((left_out - np.mean(left_out)) ** 2))
        assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 9) * error)
        assert found.to_dict()["unit"] == found.unit
        alone = over_images([(files[0], files[0])], "accuracy")
        # Ten groups without a change: of a share of a quarter that changes, one sample in twenty has none.
        assert (alone.mean, alone.high) == (0, pytest.approx(1 - 0.05 ** (1 / 10)))
        assert alone.low == -alone.high

    def test_what_was_not_kept_is_no_interval(self, tmp_path):
        first = self.write(tmp_path / "a", [("0", "x", "x"), ("1", "x", "y")])
        other = self.write(tmp_path / "b", [("0", "x", "x"), ("2", "x", "y")])
        assert over_images([(first, other)], "accuracy") is None
        assert over_images([(first, tmp_path / "none.csv")], "accuracy") is None
        assert over_images([(first, first)], "soft_iou") is None
        assert over_images([], "accuracy") is None


def test_damaged_results_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"ablation.json must be the result of an ablation"):
        read_result(tmp_path)
    (tmp_path / "ablation.json").write_text('{"format": 7}')
    with pytest.raises(CheckpointError, match="format 7"):
        read_result(tmp_path)


def test_recipes_without_the_key_are_as_they_were():
    assert "ablation" not in recipe_of(qcq()).model_dump()
    assert recipe_of(qcq(), margin=0.02).model_dump()["ablation"] == {"margin": 0.02, "metric": None}
    assert recipe_of(qcq(), margin=0.005) == recipe_of(qcq())


def test_settings_that_were_tried_twice_count_once():
    """A space of one choice gives one setting, however many trials there are."""
    trials = [{"parameters": {"training.learning_rate": 0.01}} for _ in range(3)]
    other = [*trials[:2], {"parameters": {"training.learning_rate": 0.1}}]
    content = {"trials": 3, "space": {"training.learning_rate": {}}, "arms": [{"trials": trials}]}
    assert tuning_said(content) == (
        "Each arm was tuned with 3 settings by validation (of one arm only 1 of them different), over "
        "training.learning_rate."
    )
    content["arms"] = [{"trials": other}, {"trials": []}]
    assert "only 2 of them different" in tuning_said(content)
    assert tuning_said({**content, "trials": 0}) == ""
