"""`qhybrid train`, `evaluate` and `predict`, through the real commands on a tiny recipe."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import rasterio
from safetensors.numpy import load_file

from qhybrid.cli.main import execute
from qhybrid.config import load_recipe
from qhybrid.metrics import METRICS, Metric


def numbers(text):
    """Read the value column of a printed metrics table, which intervals may follow."""
    rows = [line.strip("│ ").split("│") for line in text.splitlines() if line.startswith("│")]
    return {row[0].strip(): row[1].strip() for row in rows if len(row) in (2, 3)}


def test_train_leaves_a_run_folder_with_test_metrics(run_folder):
    assert load_recipe(run_folder / "recipe.yaml").name == "tiny"
    for name in ("best/weights.safetensors", "best/meta.json", "metrics.csv", "environment.json"):
        assert (run_folder / name).is_file()
    assert (run_folder / "evaluation" / "test-exact" / "metrics.json").is_file()


def test_train_takes_settings_an_output_folder_and_no_test(workspace, tmp_path, capsys):
    target = tmp_path / "mine"
    settings = ["--set", "model.name=unet", "--set", "model.grid=2", "--set", "training.epochs=1"]
    assert execute(["train", "runs/tiny.yaml", *settings, "--output", str(target), "--no-test"]) == 1
    assert "`grid` is unknown" in capsys.readouterr().err
    assert not target.exists()
    settings = ["--set", "model={name: unet, widths: [4, 4, 8, 8, 8]}", "--set", "data.patches_per_epoch=4"]
    assert execute(["train", "runs/tiny.yaml", *settings, "--output", str(target), "--no-test"]) == 0
    *start, last = capsys.readouterr().out.splitlines()
    assert last == f"run         {target}"
    # One training and one validation scene of 64 x 64; without a test, the test split is not looked at.
    assert [line.split() for line in start[:2]] == [
        ["train", "1", "scene", "4,096", "pixels"],
        ["val", "1", "scene", "4,096", "pixels"],
    ]
    weights = sum(array.size for array in load_file(target / "last/weights.safetensors").values())
    assert start[2].startswith("model       unet: ")
    assert 0 < int(start[2].split()[2].replace(",", "")) <= weights  # which has running means too
    assert start[3] == "training    1 epochs x 1 steps of 4 patches, on cpu"
    assert len(start) == 4
    assert max(map(len, start)) <= 80
    recipe = load_recipe(target / "recipe.yaml")
    assert (recipe.model["name"], recipe.data.patches_per_epoch) == ("unet", 4)
    assert not (target / "evaluation").exists()


def test_evaluate_prints_what_it_writes(run_folder, capsys):
    assert execute(["evaluate", "runs/tiny", "--split", "val", "--which", "last"]) == 0
    out = capsys.readouterr().out
    folder = run_folder / "evaluation" / "val-exact-last"
    assert out.splitlines()[-1] == f"metrics     {folder}"
    written = json.loads((folder / "metrics.json").read_text())
    shown = numbers(out)
    assert shown["mIoU"] == f"{written['miou']:.4f}"


def test_evaluate_shows_baselines_on_request(run_folder, capsys, tmp_path):
    assert execute(["evaluate", "tiny", "--baselines", "--output", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    written = json.loads((tmp_path / "new" / "metrics.json").read_text())["baselines"]
    assert {"majority_class", "color_classifier"} == set(written)
    (row,) = [line for line in out.splitlines() if line.startswith("│") and "mIoU" in line]
    for found in written.values():
        assert f"{found['miou']:.4f}" in row


def test_evaluate_on_aer_gives_the_same_numbers(run_folder, capsys):
    assert execute(["evaluate", "tiny"]) == 0
    exact = numbers(capsys.readouterr().out)
    assert execute(["evaluate", "tiny", "--engine", "aer", "--engine-option", "method=statevector"]) == 0
    out = capsys.readouterr().out
    assert numbers(out) == exact
    assert (run_folder / "evaluation" / "test-aer-method=statevector" / "metrics.json").is_file()


def test_evaluate_under_noise_and_shots(run_folder, capsys):
    assert execute(["evaluate", "tiny", "--noise", "depolarizing_0.05_0.1", "--shots", "64"]) == 0
    capsys.readouterr()
    folder = run_folder / "evaluation" / "test-exact-depolarizing_0.05_0.1-64-shots"
    written = json.loads((folder / "metrics.json").read_text())
    assert written["engine"]["noise"] == "depolarizing_0.05_0.1"
    (layer,) = written["quantum_layers"].values()
    assert (layer["noise"]["p_2q"], layer["shots"]) == (0.1, 64)


def test_evaluate_as_a_device_executes_it(run_folder, capsys):
    options = ["--engine", "routed", "--engine-option", "backend=fake_manila", "--engine-option", "trials=1"]
    assert execute(["evaluate", "tiny", *options]) == 0
    (folder,) = (run_folder / "evaluation").glob("test-routed-fake_manila*")
    written = json.loads((folder / "metrics.json").read_text())
    (layer,) = written["quantum_layers"].values()
    assert (layer["device"], layer["calibration"]) == ("fake_manila", "2024-05-27")


def test_a_metric_that_fails_is_said_after_all_others(run_folder, capsys):
    broken = Metric("theirs", "theirs", tasks=("scenes",), value=lambda totals: 1 / 0)
    with METRICS.temporarily("theirs", broken):
        assert execute(["evaluate", "tiny"]) == 1
    said = capsys.readouterr()
    assert "Metric `theirs` failed (ZeroDivisionError" in said.err
    written = json.loads((run_folder / "evaluation" / "test-exact" / "metrics.json").read_text())
    assert numbers(said.out)["mIoU"] == f"{written['miou']:.4f}"


def test_the_noise_of_a_device_routes_to_it(run_folder, capsys):
    assert execute(["evaluate", "tiny", "--noise", "fake_torino", "--shots", "64"]) == 0
    assert "circuits are routed to fake_torino" in capsys.readouterr().out
    folder = run_folder / "evaluation" / "test-routed-fake_torino-64-shots"
    (layer,) = json.loads((folder / "metrics.json").read_text())["quantum_layers"].values()
    assert (layer["device"], layer["shots"], layer["layout"]) == ("fake_torino", 64, "gates")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "everything"], "train, val, test"),
        (["--noise", "fake_torin"], "Did you mean fake_torino"),
        (["--engine", "routed"], "option `backend`"),
        (["--shots", "0"], "shots"),
        (["--engine", "nothing"], "Known engines: aer, "),
        (["--engine", "exakt"], "Did you mean `exact`?"),
        (["--engine", "exact", "--engine-option", "zzz=1"], "zzz"),
        (["--engine-option", "method"], "--engine-option method: must look like"),
    ],
)
def test_evaluate_explains_bad_requests(run_folder, capsys, options, message):
    assert execute(["evaluate", str(run_folder), *options]) == 1
    assert message in capsys.readouterr().err


def test_which_must_be_best_or_last(run_folder, capsys):
    assert execute(["evaluate", str(run_folder), "--which", "first"]) == 2
    assert "must be best or last" in capsys.readouterr().err


def test_predict_writes_a_map_on_the_scenes_grid(run_folder, scene, tmp_path, capsys):
    target = tmp_path / "map.tif"
    arguments = [
        "predict",
        "runs/tiny",
        str(scene),
        "-o",
        str(target),
        "--overlap",
        "0.25",
        "--probabilities",
    ]
    assert execute(arguments) == 0
    assert str(target) in capsys.readouterr().out
    with rasterio.open(scene) as image, rasterio.open(target) as labels:
        assert (labels.crs, labels.transform, labels.shape) == (image.crs, image.transform, image.shape)
        assert labels.nodata == 255
        found = labels.read(1)
    with rasterio.open(tmp_path / "map_probabilities.tif") as probabilities:
        values = probabilities.read()
    assert values.shape == (5, *found.shape)
    np.testing.assert_allclose(values.sum(axis=0), 1, atol=1e-5)
    assert np.array_equal(values.argmax(axis=0), found)


def test_predict_on_another_engine(run_folder, scene, tmp_path):
    maps = []
    for engine in ("exact", "aer"):
        target = tmp_path / f"{engine}.tif"
        assert execute(["predict", str(run_folder), str(scene), "-o", str(target), "--engine", engine]) == 0
        with rasterio.open(target) as file:
            maps.append(file.read(1))
    assert np.array_equal(*maps)


def test_predict_explains_bad_requests(run_folder, scene, tmp_path, capsys):
    target = tmp_path / "map.tif"
    for arguments, message in (
        ([str(tmp_path / "none.tif"), "-o", str(target)], "none.tif"),
        ([str(scene), "-o", str(target), "--overlap", "0.95"], "overlap: key `overlap`"),
        ([str(scene), "-o", str(tmp_path / "map.png")], "map.png"),
    ):
        assert execute(["predict", str(run_folder), *arguments]) == 1
        assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_resume_goes_on_in_the_same_folder(run_folder, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    before = (copy / "metrics.csv").read_text()
    assert execute(["train", "--resume", str(copy), "--no-test"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"run         {copy}"
    assert (copy / "metrics.csv").read_text() == before
    assert execute(["train", "--resume", str(copy), "--output", str(tmp_path / "x")]) == 2


def test_interrupted_training_says_how_to_go_on(workspace, tmp_path, monkeypatch, capsys):
    def interrupted(recipe, data_root, target, **_):
        (target / "resume").mkdir(parents=True)
        (target / "resume" / "state.ckpt").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("qhybrid.training.train", interrupted)
    assert execute(["train", "tiny", "--output", str(tmp_path / "run")]) == 130
    assert f"qhybrid train --resume {tmp_path / 'run'}" in capsys.readouterr().err


def test_training_interrupted_before_an_epoch_says_so(workspace, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("qhybrid.training.train", interrupted)
    assert execute(["train", "tiny", "--output", str(tmp_path / "run")]) == 130
    assert "No epoch was complete" in capsys.readouterr().err


def test_evaluate_on_other_data(workspace, run_folder, tmp_path, capsys):
    """A recipe by its name, or a folder; the official result stays as it is."""
    official = run_folder / "evaluation" / "test-exact" / "metrics.json"
    before = official.read_bytes()
    (workspace / "runs" / "elsewhere.yaml").write_text(
        (workspace / "runs" / "tiny.yaml")
        .read_text()
        .replace("name: tiny", "name: elsewhere")
        .replace("size: 64", "size: 64, seed: 5")
    )
    try:
        assert execute(["evaluate", str(run_folder), "--on", "elsewhere", "--split", "val"]) == 0
        printed = capsys.readouterr().out
        assert "elsewhere, val split" in printed
        assert "on-elsewhere-val-exact" in printed
        assert execute(["evaluate", str(run_folder), "--on", "elsewher"]) == 1
        assert "Did you mean `elsewhere`?" in capsys.readouterr().err
    finally:
        (workspace / "runs" / "elsewhere.yaml").unlink()
        shutil.rmtree(run_folder / "evaluation" / "on-elsewhere-val-exact", ignore_errors=True)
    assert official.read_bytes() == before
    trained_on = json.loads((run_folder / "data.json").read_text())["splits"]
    assert json.loads(before)["data_hash"] == trained_on["test"]["hash"]
