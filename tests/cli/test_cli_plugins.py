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
