"""One tiny trained run that all tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest

from qhybrid.cli.main import execute

TINY = """\
name: tiny
data:
  dataset: synthetic
  options: {train: 1, val: 1, test: 1, size: 64}
  patch_size: 32
  patches_per_epoch: 8
model:
  name: hq_unet
  widths: [4, 4, 8, 8, 8]
  grid: 2
training:
  epochs: 1
  batch_size: 4
  progress: false
"""


@pytest.fixture(scope="session")
def tiny_workspace(tmp_path_factory) -> Path:
    """A workspace with runs/tiny.yaml and one trained run of it, made by the real command."""
    folder = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("QHYBRID_CACHE", str(folder / "cache"))
        (folder / "runs").mkdir()
        (folder / "runs" / "tiny.yaml").write_text(TINY)
        assert execute(["train", "tiny"]) == 0
    return folder


@pytest.fixture
def workspace(tiny_workspace, monkeypatch) -> Path:
    """The tiny workspace as the working directory."""
    monkeypatch.chdir(tiny_workspace)
    monkeypatch.setenv("QHYBRID_CACHE", str(tiny_workspace / "cache"))
    return tiny_workspace


@pytest.fixture
def run_folder(workspace) -> Path:
    """The trained run, as a path relative to the workspace."""
    (folder,) = (workspace / "runs" / "tiny").iterdir()
    return folder.relative_to(workspace)


@pytest.fixture
def scene(workspace) -> Path:
    """The test scene that the run was evaluated on."""
    images = (workspace / "cache").glob("synthetic/*/test/images/*.tif")
    return min(images, key=lambda image: image.stat().st_mtime_ns)  # other tests add scenes of other kinds
