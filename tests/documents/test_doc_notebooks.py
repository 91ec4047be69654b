"""The notebooks run from top to bottom on a machine without data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from readme import CHECKOUT

FOLDER = CHECKOUT / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def cells(name: str, kind: str = "code") -> list[str]:
    content = json.loads((FOLDER / name).read_text())
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def test_there_are_four():
    assert NOTEBOOKS == [
        "does_my_circuit_matter.ipynb",
        "fake_qpu.ipynb",
        "noise_and_shots.ipynb",
        "own_circuit_in_a_unet.ipynb",
    ]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_run_in_order(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # the first cell changes it; this puts it back
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("QHYBRID_DATA", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names: dict = {"__name__": "notebook"}
    for cell in cells(name):
        exec(compile(cell, name, "exec"), names)
    said = capsys.readouterr().out
    check = {
        "own_circuit_in_a_unet.ipynb": lambda: (
            Path("map.tif").is_file() and "4 inputs, 4 weights, 4 observables" in said
        ),
        "noise_and_shots.ipynb": lambda: set(names["results"]["shots"].dropna()) == {4, 64},
        "fake_qpu.ipynb": lambda: (names["folder"] / "results" / "predictions.csv").is_file(),
        "does_my_circuit_matter.ipynb": lambda: "not decidable: a single pair finds no difference" in said,
    }
    assert check[name]()


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_in_a_kernel(name, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="the extra `docs` is not installed")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.delenv("QHYBRID_DATA", raising=False)
    content = nbformat.read(FOLDER / name, as_version=4)
    nbformat.validate(content)
    nbclient.NotebookClient(content, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_stored_notebooks_are_small_and_say_nothing_of_a_machine(name):
    text = (FOLDER / name).read_text()
    assert len(text) < 150_000
    assert not re.search(r"/(tmp|root|home|work)/", text)
    assert "Traceback" not in text
