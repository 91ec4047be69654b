"""The wheel: what it holds, and that an installation of it works away from any checkout."""

from __future__ import annotations

import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from readme import OWN_CIRCUIT, check_own_circuit, commands, write_files

from qhybrid.workspace import starter_files

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of the checkout in which runs have left results."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("qhybrid", "circuits", "noise_profiles", "runs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy / name)
    results = copy / "runs" / "demo" / "2026-01-01_00-00-00"
    results.mkdir(parents=True)
    (results / "recipe.yaml").write_text("name: demo\n")
    (copy / "runs" / "weights.safetensors").write_text("weights")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(copy / "dist"),
        str(copy),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = (copy / "dist").glob("*.whl")
    return file


@pytest.mark.slow
def test_starter_files_enter_the_wheel_and_results_do_not(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    starter = {name.removeprefix("qhybrid/starter/") for name in names if name.startswith("qhybrid/starter/")}
    assert starter == {str(file) for file in starter_files(examples=True)}
    assert not [name for name in names if name.endswith("LOG.md")]
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"qhybrid"}
    assert "qhybrid/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.fixture(scope="module")
def command(wheel, tmp_path_factory) -> Path:
    """The command of an installation of the wheel in an environment of its own."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    venv.create(folder, with_pip=False)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    # Dependencies come from this environment; a path in a .pth file does not bring that folder's own .pth
    # files, so that an editable installation of the checkout is not seen.
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--quiet", str(wheel)], check=True)
    return folder / "bin" / "qhybrid"


@pytest.fixture(autouse=True)
def _no_checkout(monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.delenv("QHYBRID_DATA", raising=False)


@pytest.mark.slow
def test_installed_wheel_lays_out_a_workspace(command, tmp_path):
    where = "import qhybrid.workspace as w; print(w.starter_root())"
    python = command.with_name("python")
    answer = subprocess.run([python, "-c", where], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(answer.stdout.strip()).parts[-3:] == ("site-packages", "qhybrid", "starter")
    assert Path(answer.stdout.strip()).is_relative_to(command.parents[1])
    subprocess.run([command, "init", "work"], cwd=tmp_path, check=True, capture_output=True)
    laid_out = {
        str(file.relative_to(tmp_path / "work")) for file in (tmp_path / "work").rglob("*") if file.is_file()
    }
    assert laid_out == {str(file) for file in starter_files()}
    shown = subprocess.run(
        [command, "circuits", "list"], cwd=tmp_path / "work", capture_output=True, check=True
    )
    assert b"hq_unet_qcnn" in shown.stdout
    assert b"qcq_filter" in shown.stdout  # not laid out, found by name


@pytest.mark.slow
def test_a_circuit_of_ones_own_goes_all_the_way_on_an_installed_wheel(command, tmp_path):
    write_files(tmp_path, OWN_CIRCUIT)
    for words in commands("qhybrid", OWN_CIRCUIT):
        done = subprocess.run([command, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)
    check_own_circuit(tmp_path)
