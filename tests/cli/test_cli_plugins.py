"""`--plugin`: code of others before a command, in the command's own process and in its workers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qhybrid.cli.main import execute
from qhybrid.plugins import VARIABLE, temporary_plugins

PLUGIN = Path(__file__).parents[2] / "docs" / "examples" / "oem" / "oem_plugin.py"


@pytest.fixture(autouse=True)
def clean():
    with temporary_plugins():
        yield


def test_help_tells_and_loads_nothing(capsys):
    assert execute(["--plugin", "nothing_of_that_name", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--plugin MODULE" in said
    assert VARIABLE in said


def test_what_a_plugin_adds_is_there(capsys):
    assert execute(["data", "info", "openearthmap"]) == 1
    assert "is unknown" in capsys.readouterr().err
    assert execute(["--plugin", str(PLUGIN), "data", "info", "openearthmap"]) == 0
    assert "OpenEarthMap" in capsys.readouterr().out
    assert os.environ[VARIABLE] == str(PLUGIN)


def test_several_plugins_and_a_wrong_one(tmp_path, capsys):
    for name in ("first_plugin", "second_plugin"):
        (tmp_path / f"{name}.py").write_text(f"print('{name} loaded')\n")
    both = [
        word for name in ("first", "second") for word in ("--plugin", str(tmp_path / f"{name}_plugin.py"))
    ]
    assert execute([*both, "data", "list"]) == 0
    out = capsys.readouterr().out
    assert out.index("first_plugin loaded") < out.index("second_plugin loaded") < out.index("geotiff_folder")
    assert execute(["--plugin", "nothing_of_that_name", "data", "list"]) == 1
    assert "error: Plugin nothing_of_that_name cannot be loaded" in capsys.readouterr().err


def test_wrong_engines_have_a_near_name(tmp_path, capsys):
    (tmp_path / "recipe.yaml").touch()
    assert execute(["evaluate", str(tmp_path), "--engine", "exakt"]) == 1
    assert "Did you mean `exact`?" in capsys.readouterr().err


MODEL = """
from torch import nn
from qhybrid.config import StrictModel
from qhybrid.models import register_model

class Keys(StrictModel):
    num_classes: int

def build(keys, engine):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, keys.num_classes))

register_model("linear_of_a_plugin", Keys, build, "One layer", "classification")
"""
RECIPE = """
name: linear
data: {dataset: digits}
model: {name: linear_of_a_plugin}
training: {epochs: 1, batch_size: 256, progress: false}
"""


def test_repeats_without_their_plugin_keep_their_results(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "linear_plugin.py").write_text(MODEL)
    (tmp_path / "linear.yaml").write_text(RECIPE)
    train = ["train", "linear.yaml", "--seeds", "0-1", "--output", "repeats"]
    with temporary_plugins():
        assert execute(["--plugin", "linear_plugin.py", *train]) == 0
    before = {file: file.read_bytes() for file in Path("repeats").rglob("*") if file.is_file()}
    for again in (["train", "--resume", "repeats"], train):
        capsys.readouterr()
        assert execute(again) == 1
        said = capsys.readouterr()
        assert "which adds model `linear_of_a_plugin` and is not loaded. Fix:" in said.err
        assert "FAILED" not in said.out
        assert {file: file.read_bytes() for file in before} == before
    with temporary_plugins():
        assert execute(["--plugin", "linear_plugin.py", "train", "--resume", "repeats"]) == 0
    assert "finished" in capsys.readouterr().out


def test_a_named_plugin_that_fails_is_one_error(monkeypatch, capsys):
    """Also where a command reports files one by one."""
    monkeypatch.setenv(VARIABLE, "absent_plugin.py")
    assert execute(["circuits", "list"]) == 1
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("absent_plugin.py") == 1
