"""Scenes cut into lossless PNG tiles, as in the HQ-UNet paper, with a manifest that keeps where they lie."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.data.contract import InputContract, ReadOptions
from qhybrid.data.raster import Window
from qhybrid.data.scenes import SPLITS, Scene, SceneDataset, SceneReader
from qhybrid.errors import DataError, WorkspaceError
from qhybrid.workspace import atomic_folder

TILE_SIZE = 512
MANIFEST = "manifest.json"


def tile_windows(height: int, width: int, size: int = TILE_SIZE) -> Iterator[tuple[int, Window]]:
    """Number the tiles of a scene row by row, as the authors of LandCover.ai do.

    Every position counts, also where the tile overhangs the right or lower edge.

    Yields:
        (number, window) of each tile.
    """
    columns = -(-width // size)
    for row in range(0, height, size):
        for col in range(0, width, size):
            yield row // size * columns + col // size, Window(row, col, size, size)


def _write_png(path: Path, bands: NDArray[Any], valid: NDArray[np.bool_]) -> None:
    """Write bands (C, h, w); where some pixels hold no data an alpha band says which."""
    if not valid.all():
        opaque = np.iinfo(bands.dtype).max
        bands = np.concatenate([bands * valid, np.where(valid, opaque, 0).astype(bands.dtype)[None]])
    count, height, width = bands.shape
    profile = {"driver": "PNG", "height": height, "width": width, "count": count, "dtype": bands.dtype.name}
    try:
        with warnings.catch_warnings(), rasterio.Env(GDAL_PAM_ENABLED="NO"):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the manifest says where tiles lie
            with rasterio.open(path, "w", **profile) as file:
                file.write(bands)
    except RasterioError as error:
        raise WorkspaceError(f"{path}: cannot be written ({error}). Fix: free disk space.") from error


def _mask_values(classes: ClassMap, labels: NDArray[np.uint8], source: Path) -> NDArray[Any]:
    values = classes.decode(labels) if classes.has_codes else labels
    kept = values[labels != IGNORE_INDEX]
    if kept.size and (kept.min() < 0 or kept.max() > np.iinfo(np.uint16).max):
        raise DataError(
            f"{source}: mask values in PNG tiles must lie in 0 to 65535, but reach from {kept.min()} to "
            f"{kept.max()}. Fix: train on the scenes themselves, which are read by windows."
        )
    return np.where(labels != IGNORE_INDEX, values, 0).astype(
        np.uint8 if values.dtype == np.uint8 else np.uint16
    )


def tile_scene(
    scene: Scene,
    images: Path,
    masks: Path,
    classes: ClassMap,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    size: int = TILE_SIZE,
    partial: bool = True,
    contract: InputContract | None = None,
) -> list[dict[str, Any]]:
    """Cut a scene into PNG tiles named `<scene>_<number>.png`.

    Args:
        scene: The scene, with a mask.
        images: Folder for image tiles; it must exist.
        masks: Folder for mask tiles, which hold what `ClassMap.decode` writes, or class indices where it
            cannot; it must exist.
        classes: The label map.
        bands: 1-based band numbers; all that hold data if absent.
        nodata: Image value that means "no data"; absent: what the file says.
        size: Side of the tiles in pixels.
        partial: Also write tiles that overhang the scene; what lies outside is transparent and counts as
            nodata.
            LandCover.ai's authors leave them out.
        contract: What the scene is read for, in place of `bands` and `nodata`; absent: what it makes itself.

    Returns:
        What the manifest says of each tile; tiles without any data are left out.

    Raises:
        DataError: If the image is not of a kind that PNG can hold (1 or 3 bands of uint8 or uint16).
    """
    if contract is None:
        contract = InputContract.of_scene(scene.image, bands, ReadOptions(nodata=nodata))
    reader = SceneReader(scene, classes, contract)
    info = reader.image.info
    if len(reader.image.bands) not in (1, 3) or info.dtype not in ("uint8", "uint16"):
        raise DataError(
            f"{scene.image}: PNG tiles must have 1 or 3 bands of uint8 or uint16, but these would have "
            f"{len(reader.image.bands)} of {info.dtype}. Fix: choose bands, or train on the scenes "
            "themselves, which are read by windows."
        )
    entries = []
    for number, window in tile_windows(*reader.shape, size):
        whole = window.row + size <= reader.shape[0] and window.col + size <= reader.shape[1]
        raw, valid = reader.read(window)
        if not valid.any() or not (whole or partial):
            continue
        labels = reader.read_labels(window)
        name = f"{scene.id}_{number}"
        _write_png(images / f"{name}.png", raw, valid)
        _write_png(
            masks / f"{name}.png", _mask_values(classes, labels, scene.image)[None], labels != IGNORE_INDEX
        )
        entries.append(
            {
                "id": name,
                "scene": scene.id,
                "location": scene.location,
                "source": scene.image.name,
                "window": list(window),
                "transform": list(reader.transform_of(window))[:6],
                "crs": None if info.crs is None else info.crs.to_wkt(),
            }
        )
    reader.close()
    return entries


def tile_dataset(
    dataset: SceneDataset,
    output: Path,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    size: int = TILE_SIZE,
    partial: bool = True,
    splits: Sequence[str] = SPLITS,
    progress: Callable[[int, int], None] | None = None,
    contract: InputContract | None = None,
) -> Path:
    """Cut all scenes of a data set into PNG tiles.

    The folder `output` has `<split>/images`, `<split>/masks` and `manifest.json`, and is read back by the
    data set `geotiff_folder` with its default options and the label map in the manifest: the recipe's, or,
    where classes are colours or text, class indices.

    Args:
        dataset: The data set.
        output: Folder to write; it appears whole or not at all.
        bands: 1-based band numbers; all that hold data if absent.
        nodata: Image value that means "no data"; absent: what each file says.
        size: Side of the tiles in pixels.
        partial: Also write tiles that overhang a scene.
        splits: Which splits to write.
        progress: Called with (scenes done, scenes in all).
        contract: What scenes are read for, in place of `bands` and `nodata`; absent: what the first one
            makes.

    Returns:
        The folder.

    Raises:
        DataError: If a split is empty or an image is not of a kind that PNG can hold.
        WorkspaceError: If the folder exists and is not empty.
    """
    scenes = [(split, scene) for split in splits for scene in dataset.scenes(split)]
    if contract is None and scenes:
        contract = InputContract.of_scene(scenes[0][1].image, bands, ReadOptions(nodata=nodata))
    with atomic_folder(output) as folder:
        tiles = []
        for done, (split, scene) in enumerate(scenes, start=1):
            images, masks = folder / split / "images", folder / split / "masks"
            images.mkdir(parents=True, exist_ok=True)
            masks.mkdir(parents=True, exist_ok=True)
            entries = tile_scene(
                scene, images, masks, dataset.classes, bands, nodata, size, partial, contract
            )
            tiles += [{"split": split, **entry} for entry in entries]
            if progress is not None:
                progress(done, len(scenes))
        manifest = {
            "dataset": dataset.name,
            "tile_size": size,
            "bands": None if bands is None else list(bands),
            "classes": dataset.classes.as_written().to_dict(),
            "tiles": tiles,
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return output
