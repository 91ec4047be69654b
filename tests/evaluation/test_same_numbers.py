"""Numbers of small runs that must not change by an edit of the code, whatever face asks for them."""

from __future__ import annotations

import json

import pytest
import torch
from image_runs import CLASSIFIER

from qhybrid.api.maps import executed_by
from qhybrid.circuits import build_circuit
from qhybrid.config import EngineConfig, Recipe
from qhybrid.engines import make_engine
from qhybrid.errors import ConfigError
from qhybrid.evaluation import evaluate_run, load_subject, routed_to_its_device
from qhybrid.evaluation.subject.results import Options
from qhybrid.experiments.sweeps import run_sweep
from qhybrid.experiments.sweeps.cells import Conditions
from qhybrid.experiments.sweeps.engines import cell_engine
from qhybrid.hardware.model.runs import load_workload, workload_of_run
from qhybrid.hardware.model.workload import score
from qhybrid.layers import quantum_layers
from qhybrid.models import build_model, resolve_model
from qhybrid.noise import load_profile
from qhybrid.training.images.run import ImageMeta
from qhybrid.training.run_folder import FORMAT, load_run, read_recipe, save_weights, write_recipe

NOISY = "depolarizing_0.05_0.1"
SEGMENTED = {
    "soft_iou": 0.19139978742165642, "soft_iou_per_image": 0.19038427349885967, "iou": 0.0,
    "miou": 0.3684895833333333, "accuracy": 0.7369791666666666,
}  # fmt: skip
SCENES = {
    "miou": 0.03632478632478633, "accuracy": 0.10897435897435898, "iou field": 0.0, "iou forest": 0.0,
    "iou road": 0.10897435897435898,
}  # fmt: skip
CELLS = {
    "94d20a1d1006e365879713c50c520f64": (0.4375, 0.698062002658844),
    "e7c952cf632739ae35d0fd0fd540431f": (0.5, 0.6909860372543335),
    "2ebacf7e2faef43a68e1d9b274b092c4": (0.4375, 0.70723557472229),
    "4368829d0fe2d88445dcb4ff93752081": (0.4375, 0.7360281348228455),
    "3f3422c5230d906a5dd51ab28d011858": (0.3125, 0.7807199954986572),
    "3252e79bc0712daf60c8c7e9cc9c90fa": (0.375, 0.7659294009208679),
}
"""Accuracy and cross-entropy of cells, by their keys; those with shots are of the second shots scheme."""


@pytest.fixture
def segmenter(tmp_path, ph2_folder):
    """A run on whole images whose model has one logit for two classes."""
    root = tmp_path / "segmenter"
    model = {"name": "qu_unet", "widths": [2, 2]}
    section = resolve_model({**model, "in_channels": 3, "num_classes": 1, "image_size": [32, 48]})
    data = {"dataset": "ph2", "root": str(ph2_folder), "options": {"size": [32, 48]}}
    training = {"epochs": 1, "batch_size": 2}
    recipe = {"name": "tiny_ph2", "seed": 1, "data": data, "model": model, "training": training}
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = build_model(section)
    meta = ImageMeta(
        format=FORMAT, kind="images", task="segmentation", model=section, class_names=("skin", "lesion"),
        in_channels=3, image_size=(32, 48), epoch=1, step=1, metrics={}, qhybrid="0",
    )  # fmt: skip
    write_recipe(root, Recipe.model_validate(recipe))
    save_weights(root, "last", network, meta)
    return root


def close(expected):
    return pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_segmented_images_are_judged_alike_everywhere(segmenter, tmp_path):
    found = evaluate_run(segmenter, data_root=tmp_path)
    written = json.loads((segmenter / "evaluation" / "test-exact" / "metrics.json").read_text())
    assert {key: written[key] for key in SEGMENTED} == close(SEGMENTED)
    assert list(found.metrics) == [*SEGMENTED, "cross_entropy"]
    subject = load_subject(segmenter, "best", "test", None, tmp_path)
    assert subject.which == "last"
    assert subject.evaluate().metrics == close(found.metrics)


def test_hardware_scores_as_evaluation_does(segmenter, make_run, mnist_root, make_image_run, scenes_root):
    """Whole images are the same samples; windows of scenes have the same metrics, of other pixels."""
    run = make_image_run()
    workload = workload_of_run(run, data_root=mnist_root)
    with torch.no_grad():
        outputs = workload.model(workload.samples.images)
    assert score(outputs, workload.samples) == close(evaluate_run(run, data_root=mnist_root).metrics)
    scenes = make_run("scenes", name="hq_unet", grid=2)
    windows = workload_of_run(scenes, limit=3, data_root=scenes_root)
    assert windows.samples.task == "scenes"
    with torch.no_grad():
        found = score(windows.model(windows.samples.images), windows.samples)
    assert set(found) <= set(SCENES)
    assert list(found)[:2] == ["miou", "accuracy"]
    plan = scenes / "hardware" / "plan"
    plan.mkdir(parents=True)
    windows.samples.save(plan)
    names = {"samples": windows.samples.names, "class_names": windows.samples.class_names}
    content = {"origin": windows.origin, **names}
    assert load_workload(content, plan).samples.task == "scenes"


def test_layers_that_are_not_named_are_exact_everywhere(make_image_run, mnist_root, sweep_of, tmp_path):
    """A run that was trained under noise and shots has the numbers of one with the same weights without."""
    noisy, plain = make_image_run("noisy"), make_image_run("plain")
    section = EngineConfig(noise=NOISY, shots=20)
    write_recipe(noisy, read_recipe(noisy).model_copy(update={"engine": section}))
    expected = evaluate_run(
        plain, engine=EngineConfig(noise=NOISY), layers=[CLASSIFIER], data_root=mnist_root
    )
    one = evaluate_run(noisy, engine=EngineConfig(noise=NOISY), layers=[CLASSIFIER], data_root=mnist_root)
    other = EngineConfig(noise=NOISY, layers=(CLASSIFIER,))  # a whole section, as of a recipe
    assert one.metrics == close(expected.metrics)
    said = json.loads((one.folder / "metrics.json").read_text())["engine"]
    assert (said["noise"], said["layers"]) == (NOISY, [CLASSIFIER])
    assert evaluate_run(noisy, engine=other, data_root=mnist_root).metrics == close(expected.metrics)
    assert evaluate_run(noisy, data_root=mnist_root).metrics != close(expected.metrics)
    grid = {"profiles": [NOISY], "layers": [[CLASSIFIER]]}
    out = run_sweep(sweep_of([noisy], grid), mnist_root, tmp_path / "out", processes=1).folder
    (cell,) = (out / "cells").glob("*.json")
    assert json.loads(cell.read_text())["metrics"] == close(expected.metrics)
    # Hardware: what is not sent, the fixed filter here.
    workload = workload_of_run(noisy, data_root=mnist_root)
    known = {**workload.origin, "data": {}}
    plan = noisy / "hardware" / "plan"
    plan.mkdir(parents=True)
    workload.samples.save(plan)
    content = {"samples": workload.samples.names, "class_names": workload.samples.class_names}
    again = load_workload({"origin": known, **content}, plan)
    exact = evaluate_run(noisy, engine=EngineConfig(), data_root=mnist_root).metrics
    for found in (workload, again):
        with torch.no_grad():
            assert score(found.model(found.samples.images), found.samples) == close(exact)
    known.pop("others")  # plans of earlier versions recorded angles of the recipe's engine
    old = load_workload({"origin": known, **content}, plan)
    assert {layer.engine.describe()["shots"] for layer in quantum_layers(old.model).values()} == {20}


def test_maps_are_made_by_the_layers_of_an_engine_alone(make_run):
    run = load_run(make_run(name="hq_unet", grid=2))
    with pytest.raises(ConfigError, match="No quantum layer named nothing"):
        executed_by(run, EngineConfig(noise=NOISY, layers=("nothing",)))


def test_scenes(make_run, scenes_root, sweep_of, tmp_path):
    run = make_run("scenes", name="hq_unet", grid=2)
    assert evaluate_run(run, data_root=scenes_root).metrics == close(SCENES)
    grid = {"profiles": [NOISY]}
    out = run_sweep(sweep_of([run], grid), scenes_root, tmp_path / "out", processes=1).folder
    (cell,) = (out / "cells").glob("*.json")
    assert json.loads(cell.read_text())["metrics"] == close(SCENES)


def test_cells_of_images(make_image_run, mnist_root, sweep_of, tmp_path):
    grid = {"profiles": ["ideal", NOISY], "shots": ["infinite", 32], "seeds": [0, 1]}
    out = run_sweep(sweep_of([make_image_run()], grid), mnist_root, tmp_path / "out", processes=1).folder
    found = {}
    for file in (out / "cells").glob("*.json"):
        metrics = json.loads(file.read_text())["metrics"]
        found[file.stem] = (metrics["accuracy"], metrics["cross_entropy"])
    assert found.keys() == CELLS.keys()
    for key, values in CELLS.items():
        assert found[key] == pytest.approx(values, rel=1e-5)


def test_kept_predictions_are_those_of_the_model(make_image_run, segmenter, mnist_root, tmp_path):
    for folder, root in ((make_image_run(), mnist_root), (segmenter, tmp_path)):
        subject = load_subject(folder, "best", "test", 3, root)
        found = subject.evaluate(Options(keep=True))
        assert found.predictions
        assert found.predictions == subject.evaluate(Options(keep=True)).predictions


def test_a_device_profile_gives_the_cell_of_a_sweep(make_image_run, mnist_root, sweep_of, tmp_path):
    """`evaluate` routes by itself, with the layouts of the sweep."""
    run, engine = make_image_run(), EngineConfig(noise="fake_nighthawk")
    found = evaluate_run(run, engine=engine, data_root=mnist_root)
    assert (run / "evaluation" / "test-routed-fake_nighthawk" / "metrics.json").is_file()
    out = run_sweep(
        sweep_of([run], {"profiles": ["fake_nighthawk"]}), mnist_root, tmp_path / "out", processes=1
    ).folder
    (cell,) = (out / "cells").glob("*.json")
    assert found.metrics == close(json.loads(cell.read_text())["metrics"])
    ideal = CELLS["e7c952cf632739ae35d0fd0fd540431f"][1]
    assert abs(found["cross_entropy"] - ideal) > 1e-3


def test_engines_under_a_device_profile_are_the_same():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    generator = torch.Generator().manual_seed(0)
    angles = torch.rand(5, spec.num_inputs, generator=generator, dtype=torch.float64)
    weights = torch.rand(spec.num_weights, generator=generator, dtype=torch.float64)
    config = routed_to_its_device(EngineConfig(noise="fake_nighthawk"))
    assert config.kind == "routed"
    one = make_engine(**config.arguments()).expectations(spec, angles, weights)
    conditions = Conditions("exact", "fake_nighthawk", mapping="fake_nighthawk")
    settings = {"transpile_seed": 0, "zne": {}}
    other = cell_engine(conditions, load_profile("fake_nighthawk"), settings, "")
    torch.testing.assert_close(one, other.expectations(spec, angles, weights), rtol=0, atol=1e-12)
    assert (one - make_engine("exact").expectations(spec, angles, weights)).abs().max() > 1e-3
    # Profiles of no device, and engines that were chosen on purpose, stay.
    for engine in (EngineConfig(noise=NOISY), EngineConfig(kind="routed", noise="fake_fez"), EngineConfig()):
        assert routed_to_its_device(engine) is engine
    aer = routed_to_its_device(
        EngineConfig(kind="aer", noise="fake_fez", options={"method": "density_matrix"})
    )
    assert (aer.options["engine"], aer.options["options"]) == ("aer", {"method": "density_matrix"})
