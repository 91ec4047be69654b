"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import io
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import settings
from image_folders import write_ph2
from PIL import Image
from rasterio.transform import from_origin

from qhybrid.report import circuit_cards

# Machines that run tests are busy: a slow example says nothing about the code.
settings.register_profile("qhybrid", deadline=None)
settings.load_profile("qhybrid")

CLASSES = [
    {"name": "dark", "values": [0], "color": "#000000"},
    {"name": "bright", "values": [7], "color": "#ffffff"},
]


def pytest_collection_modifyitems(items):
    """Begin with trainings: files of half a minute must not be the last ones, with one process idle."""
    items.sort(key=lambda item: "training" not in item.path.parts)


def pytest_collection_finish():
    """Keep the garbage collector from all that was imported, and let it look seldom: it takes up to a fifth
    of the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True, scope="session")
def _one_thread_each():
    """Tests run in several processes side by side: more threads than cores only slow them down."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data sets that are not part of the project."""
    beside_checkout = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("QHYBRID_DATA", beside_checkout))
    if not (root / "sentinel2_korea").is_dir():
        pytest.skip(
            f"real data not found in {root}; set QHYBRID_DATA to the folder that holds sentinel2_korea/"
        )
    return root


@pytest.fixture(scope="session")
def common_cache(tmp_path_factory) -> Path:
    """The cache of all tests, also of those that other processes run side by side with these."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"


@pytest.fixture(autouse=True)
def _private_cache(common_cache, monkeypatch):
    """Keep tests away from the user's own cache."""
    monkeypatch.setenv("QHYBRID_CACHE", str(common_cache))


_DRAWN = {
    "qhybrid.evaluation.diagnosis.diagnose": ("draw_diagnosis",),
    "qhybrid.evaluation.image_report": ("_draw_classified", "_draw_segmented", "draw_confusion"),
    "qhybrid.evaluation.report_files": ("draw_confusion", "draw_samples", "draw_scene_map"),
    "qhybrid.training.images.run": ("draw_learning_curves",),
    "qhybrid.training.scenes.pictures": ("draw_learning_curves", "draw_samples"),
}
"""Pictures of every training, evaluation and diagnosis: they take longer than a tiny one itself."""


@pytest.fixture(autouse=True, scope="module")
def _empty_pictures(request):
    """Write empty pictures of results, but in modules marked `pictures`, which ask what is on them."""
    if request.node.get_closest_marker("pictures"):
        yield
        return
    empty = io.BytesIO()
    Image.new("RGB", (1, 1)).save(empty, "PNG")

    def draw(*arguments, **_):
        output = [one for one in arguments if isinstance(one, Path)][-1]
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(empty.getvalue())
        return output

    with pytest.MonkeyPatch.context() as patch:
        for module, names in _DRAWN.items():
            for name in names:
                patch.setattr(f"{module}.{name}", draw)
        yield


@pytest.fixture(autouse=True, scope="session")
def _circuits_drawn_once():
    """Draw a circuit for the first report that has it: it takes longer than the rest of the page."""
    drawn: dict[tuple, bytes] = {}
    draw = circuit_cards.draw_svg

    def draw_once(spec, path, fold):
        key = (spec.fingerprint, spec.name, *map(str, spec.circuit.parameters), fold)
        if key not in drawn:
            drawn[key] = draw(spec, path, fold=fold).read_bytes()
        path.write_bytes(drawn[key])
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(circuit_cards, "draw_svg", draw_once)
        yield


def write_scene(folder: Path, name: str, seed: int, size: int = 48, east: float = 0.0) -> None:
    """Write an image of two bands whose left and right parts differ, and its mask."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), np.uint8)
    mask[:, int(rng.integers(size // 3, size // 2)) :] = 7
    image = (40 + 20 * mask + rng.integers(0, 30, (2, size, size))).astype(np.uint8)
    profile = {"driver": "GTiff", "height": size, "width": size, "crs": "EPSG:2180"}
    profile["transform"] = from_origin(east, 1000.0, 1.0, 1.0)
    for kind, array in (("images", image), ("masks", mask[None])):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        with rasterio.open(
            folder / kind / f"{name}.tif", "w", count=len(array), dtype="uint8", **profile
        ) as file:
            file.write(array)


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """Data root with data set `tiny`: 2 training scenes, 1 for validation, 1 for test."""
    root = tmp_path_factory.mktemp("data")
    for seed, (split, name) in enumerate([("train", "a"), ("train", "b"), ("val", "c"), ("test", "d")]):
        write_scene(root / "tiny" / split, name, seed, east=1000.0 * seed)
    return root


def _tiny_content(**training) -> dict:
    return {
        "name": "tiny",
        "seed": 3,
        "data": {
            "dataset": "geotiff_folder",
            "root": "tiny",
            "classes": CLASSES,
            "patch_size": 16,
            "patches_per_epoch": 12,
        },
        "model": {"name": "hq_unet", "widths": [2, 2, 3, 3, 4], "grid": 2},
        "training": {"epochs": 2, "batch_size": 4, "progress": False, **training},
    }


@pytest.fixture(scope="session")
def tiny_content():
    """Function that returns the content of a recipe which trains on `tiny_data` in a second."""
    return _tiny_content


@pytest.fixture(scope="session")
def ph2_folder(tmp_path_factory) -> Path:
    """A tiny PH2: 20 images of 32 x 48 in five folds."""
    folder = tmp_path_factory.mktemp("ph2")
    write_ph2(folder)
    return folder
