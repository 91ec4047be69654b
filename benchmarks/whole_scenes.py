"""Untrained runs and generated scenes of any size, for the benchmarks that map whole scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

from qhybrid.config import Recipe
from qhybrid.data.classes import ClassMap
from qhybrid.data.statistics import BandStatistics
from qhybrid.models import build_model, resolve_model
from qhybrid.training.run_folder import FORMAT, Meta, save_weights, write_recipe

CLASSES = ("background", "building", "woodland", "water", "road")
COLORS = ("#e3dcc5", "#c0392b", "#1e7b34", "#2f7ed8", "#4d4d4d")
PATCH = 128
STRIP = 256
"""Rows that are generated and written at once."""


def write_scene(path: Path, height: int, width: int, bands: int, dtype: str, big: bool) -> Path:
    """Write a scene of smooth fields with noise, strip by strip, as a tiled GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    top = np.iinfo(dtype).max
    random = np.random.default_rng(0)
    size = {"height": height, "width": width, "count": bands, "dtype": dtype}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "zlevel": 1}
    place = {"crs": "EPSG:2180", "transform": from_origin(500000, 300000, 0.5, 0.5)}
    profile = {"driver": "GTiff", **size, **place, **tiles, "BIGTIFF": "YES" if big else "IF_SAFER"}
    columns = np.arange(width)
    with rasterio.open(path, "w", **profile) as target:
        for row in range(0, height, STRIP):
            rows = np.arange(row, min(row + STRIP, height))[:, None]
            for band in range(bands):
                wave = np.sin(rows / (150 + 40 * band)) * np.cos(columns / (210 + 30 * band))
                noise = random.normal(scale=0.04, size=wave.shape)
                values = np.clip((0.5 + 0.3 * wave + noise) * top, 1, top).astype(dtype)
                target.write(values, band + 1, window=((row, row + len(rows)), (0, width)))
    return path


def statistics_of(bands: int, dtype: str) -> BandStatistics:
    """Return statistics that fit the scenes of `write_scene`."""
    top = float(np.iinfo(dtype).max)
    numbers = tuple(range(1, bands + 1))
    same = {"mean": 0.5 * top, "std": 0.16 * top, "low": 0.0, "high": top}
    return BandStatistics(numbers, *((value,) * bands for value in same.values()), 1)


def write_run(folder: Path, model: dict, bands: int, dtype: str) -> Path:
    """Write a run folder whose weights are random, but the same each time."""
    section = {"in_channels": bands, "num_classes": len(CLASSES), "patch_size": PATCH, **model}
    classes = [
        {"name": name, "values": [number], "color": color}
        for number, (name, color) in enumerate(zip(CLASSES, COLORS))
    ]
    data = {"dataset": "geotiff_folder", "root": ".", "classes": classes, "patch_size": PATCH}
    recipe = Recipe.model_validate({"name": model["name"], "data": data, "model": section})
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = build_model(section)
    statistics = statistics_of(bands, dtype)
    meta = Meta(
        format=FORMAT,
        model=resolve_model(section),
        classes=ClassMap(CLASSES, COLORS, tuple((number,) for number in range(len(CLASSES)))).to_dict(),
        statistics=statistics.to_dict(),
        bands=statistics.bands,
        patch_size=PATCH,
        epoch=1,
        step=1,
        metrics={},
        qhybrid="0",
    )
    write_recipe(folder, recipe)
    save_weights(folder, "best", network, meta)
    return folder
