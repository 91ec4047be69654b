"""`qhybrid train` and `evaluate` on whole images, with seeds and folds, through the real commands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import typer

from qhybrid.cli.main import execute
from qhybrid.cli.repeats import parse_numbers
from qhybrid.workspace import locked

RECIPE = """\
name: tiny_digits
data: {dataset: digits, options: {classes: [3, 5]}}
model: {name: mlp}
training: {epochs: 1, batch_size: 64, progress: false}
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny_digits.yaml").write_text(RECIPE)
    return tmp_path / "tiny_digits.yaml"


def test_train_then_evaluate(recipe, capsys):
    assert execute(["train", str(recipe)]) == 0
    out = capsys.readouterr().out
    assert "right of 5" in out
    (folder,) = Path("runs/tiny_digits").iterdir()
    written = json.loads((folder / "evaluation" / "test-exact" / "metrics.json").read_text())
    assert f"{100 * written['accuracy']:.2f} %" in out
    assert execute(["evaluate", "tiny_digits", "--split", "val"]) == 0
    assert execute(["evaluate", "tiny_digits", "--baselines"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("majority class", "nearest neighbour", "linear model", "RBF-SVM"))
    assert execute(["evaluate", "tiny_digits", "--engine", "aer"]) == 1
    assert "no quantum layers" in capsys.readouterr().err
    Path("scene.tif").touch()
    assert execute(["predict", "tiny_digits", "scene.tif", "-o", "map.tif"]) == 1
    assert "this needs one on scenes" in capsys.readouterr().err


def test_a_run_without_validation_is_no_run_on_scenes_either(recipe, capsys):
    assert execute(["train", str(recipe), "--no-test", "--set", "data.options.validation=0"]) == 0
    Path("scene.tif").touch()
    assert execute(["predict", "tiny_digits", "scene.tif", "-o", "map.tif"]) == 1
    told = capsys.readouterr().err
    assert "this needs one on scenes" in told
    assert "damaged" not in told


def test_repeated_runs_and_going_on(recipe, capsys):
    assert execute(["train", str(recipe), "--seeds", "0,1", "--output", "many"]) == 0
    out = capsys.readouterr().out
    assert "[2/2] seed-1: finished" in out
    assert "standard deviation" in out
    before = (Path("many") / "seed-0" / "last" / "weights.safetensors").stat().st_mtime_ns
    assert execute(["train", "--resume", "many"]) == 0
    assert (Path("many") / "seed-0" / "last" / "weights.safetensors").stat().st_mtime_ns == before
    assert json.loads(Path("many/summary.json").read_text())["metrics"]["accuracy"]["count"] == 2


def test_more_seeds_are_added_to_a_folder(recipe, capsys):
    assert execute(["train", str(recipe), "--seeds", "0-1", "--output", "many"]) == 0
    assert execute(["train", str(recipe), "--seeds", "3", "--output", "many"]) == 0
    summary = json.loads(Path("many/summary.json").read_text())
    assert [row["seed"] for row in summary["runs"]] == [0, 1, 3]
    assert summary["metrics"]["accuracy"]["count"] == 3
    # A run that an earlier call left unfinished is listed as such.
    (Path("many") / "seed-0" / "evaluation" / "test-exact" / "metrics.json").unlink()
    capsys.readouterr()
    assert execute(["train", str(recipe), "--seeds", "3", "--output", "many"]) == 0
    summary = json.loads(Path("many/summary.json").read_text())
    assert "not finished. Go on with: qhybrid train --resume many" in summary["runs"][0]["error"]
    assert summary["metrics"]["accuracy"]["count"] == 2


def test_a_run_that_was_only_evaluated_is_not_finished(recipe, capsys):
    more = ["--set", "training.epochs=3"]
    assert execute(["train", str(recipe), *more, "--seeds", "0", "--output", "many"]) == 0
    whole = Path("many/seed-0/metrics.csv").read_text().splitlines()
    assert len(whole) == 4
    # As a run looks that was stopped in its second epoch and then evaluated by hand.
    assert execute(["train", str(recipe), *more, "--output", "single", "--no-test"]) == 0
    shutil.rmtree("many/seed-0")
    assert execute(["train", str(recipe), "--output", "many/seed-0"]) == 0
    text = Path("single/recipe.yaml").read_text()
    Path("many/seed-0/recipe.yaml").write_text(text)
    assert Path("many/seed-0/evaluation/test-exact/metrics.json").is_file()
    assert execute(["train", "--resume", "many"]) == 0
    assert len(Path("many/seed-0/metrics.csv").read_text().splitlines()) == 4


def test_what_fails_every_run_fails_before_anything_is_written(recipe, capsys):
    for setting, message in (
        ("model.reps=2", "reps` is unknown"),
        ("model={name: qu_unet}", "must be a model for classification, which data set `digits` is for"),
        ("data.options.train=5000", "data.options"),
    ):
        command = ["train", str(recipe), "--set", setting, "--seeds", "0-2", "--output", "many"]
        assert execute(command) == 1
        assert capsys.readouterr().err.count(message) == 1
        assert not Path("many").exists()


def test_a_single_run_is_asked_for(recipe, capsys):
    assert execute(["train", str(recipe), "--seeds", "2,10"]) == 0
    for command in (["evaluate", "tiny_digits"], ["evaluate", "runs/tiny_digits"]):
        capsys.readouterr()
        assert execute(command) == 1
        message = " ".join(capsys.readouterr().err.split())
        assert "holds repeated runs, but this needs a single one. Fix: name it, for example" in message
        assert message.endswith("seed-2.")
    # The name stands for the newest folder, here of repeated runs.
    assert execute(["train", "--resume", "tiny_digits"]) == 0
    assert "[2/2] seed-10: finished" in capsys.readouterr().out


def test_only_one_process_trains_in_a_folder(recipe, capsys):
    Path("many").mkdir()
    with locked("many"):
        assert execute(["train", str(recipe), "--seeds", "0", "--output", "many"]) == 1
    assert "Only one process may work on many" in capsys.readouterr().err
    assert execute(["train", str(recipe), "--seeds", "0", "--output", "many"]) == 0
    with locked("many/seed-0"):
        assert execute(["train", "--resume", "many/seed-0"]) == 1


def test_a_failed_run_gives_exit_code_1(recipe, capsys):
    Path("many/seed-1").mkdir(parents=True)
    Path("many/seed-1/stray").touch()
    assert execute(["train", str(recipe), "--seeds", "0-1", "--output", "many"]) == 1
    assert "seed-1: FAILED: many/seed-1 already exists and is not empty" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seeds", "0-1", "--no-test"], "--no-test cannot be given"),
        (["--jobs", "2"], "--jobs and --scheduler are for repeated runs"),
        (["--seeds", "a"], "must look like 0-9"),
        (["--seeds", ""], "must look like 0-9"),
        (["--folds", "All"], "must look like 1-3, 1,4 or all, but is 'All'"),
        (["--folds", "all"], "has no folds"),
    ],
)
def test_bad_requests(recipe, capsys, options, message):
    assert execute(["train", str(recipe), *options]) in (1, 2)
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_resume_knows_seeds(recipe):
    assert execute(["train", "--resume", "many", "--seeds", "0-1"]) == 2


def test_numbers():
    assert parse_numbers("0-3", "--seeds") == [0, 1, 2, 3]
    assert parse_numbers("5, 7-8", "--seeds") == [5, 7, 8]
    for text in ("", "3-1", "-1", "1-", "x"):
        with pytest.raises(typer.BadParameter):
            parse_numbers(text, "--seeds")


def test_data_list_shows_image_sets(capsys):
    assert execute(["data", "info", "isbi2012"]) == 0
    assert "positive" in capsys.readouterr().out


def test_repeated_runs_are_compared(tmp_path, capsys):
    rows = {"mlp": (0.9, 0.8, 0.7), "cnn": (0.95, 0.88, 0.72)}
    for name, values in rows.items():
        (tmp_path / name).mkdir()
        runs = [
            {"seed": seed, "fold": None, "error": None, "metrics": {"accuracy": value}, "parameters": 1234}
            for seed, value in enumerate(values)
        ]
        content = {"name": "tiny", "model": {"name": name}, "metrics": {}, "runs": runs}
        (tmp_path / name / "summary.json").write_text(json.dumps(content))
    assert execute(["compare", str(tmp_path / "mlp"), str(tmp_path / "cnn")]) == 0
    out = capsys.readouterr().out
    assert "85.00" in out
    assert "+5.00" in out
    assert "3/3" in out
    assert "1,234" in out
    # Differences 5, 8 and 2 points, s = 3: of 200,000 simulated designs 80 % find 9.79.
    assert "cnn: not decidable: this design finds differences above 9.79 points only" in out
    assert "no difference is" not in out
    assert execute(["compare", str(tmp_path / "mlp"), str(tmp_path / "cnn"), "--margin", "0.2"]) == 0
    assert "cnn: equivalent within 20.00 points" in capsys.readouterr().out
    assert execute(["compare", str(tmp_path / "mlp"), str(tmp_path / "cnn"), "--margin", "0"]) == 2
    for margin in ("0.5", "inf"):  # points, and what a t-test cannot be made with
        capsys.readouterr()
        assert execute(["compare", str(tmp_path / "mlp"), str(tmp_path / "cnn"), "--margin", margin]) == 1
        assert "The margin must be a" in capsys.readouterr().err
    content["runs"][2]["error"] = "lost"
    (tmp_path / "cnn" / "summary.json").write_text(json.dumps(content))
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "summary.json").write_text(json.dumps(content))
    assert execute(["compare", str(tmp_path / "cnn"), str(tmp_path / "again")]) == 0
    out = capsys.readouterr().out
    assert "1 of 3 runs failed, as seed 2 (lost)" in out
    # Two pairs that are equal: neither interval nor smallest difference.
    assert "2 pairs that are equal do not say how much they scatter" in out
    assert "nan" not in out
