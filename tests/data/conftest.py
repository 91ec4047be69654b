"""Fixtures of the data tests: small rasters and data sets made on the spot."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from qhybrid.config import ClassConfig, DataConfig

CLASSES = (
    ClassConfig(name="field", values=(1,), color="#c8b060"),
    ClassConfig(name="wood", values=(2, 7), color="#206020"),
    ClassConfig(name="town", values=(3,), color="#a03020"),
)


@pytest.fixture(scope="session")
def make_raster():
    """Return a function that writes bands (C, H, W) or one band (H, W) to a raster."""

    def make(path, bands, crs="EPSG:2180", origin=(500_000.0, 500_000.0), pixel=0.5, nodata=None, **profile):
        bands = np.asarray(bands)
        bands = bands if bands.ndim == 3 else bands[None]
        alpha = profile.pop("alpha", None)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        settings = {"driver": "PNG" if Path(path).suffix == ".png" else "GTiff", **profile}
        if crs is not None:
            settings |= {"crs": crs, "transform": from_origin(*origin, pixel, pixel)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(
                path,
                "w",
                height=bands.shape[1],
                width=bands.shape[2],
                count=len(bands),
                dtype=bands.dtype.name,
                nodata=nodata,
                **settings,
            ) as file:
                if alpha is not None:
                    kinds = [ColorInterp.gray] * len(bands)
                    kinds[alpha - 1] = ColorInterp.alpha
                    file.colorinterp = kinds
                file.write(bands)
        return Path(path)

    return make


@pytest.fixture
def folder_dataset(tmp_path, make_raster):
    """Return the root and the configuration of a data set with two scenes a split, 3 x 96 x 80."""
    random = np.random.default_rng(0)
    for row, split in enumerate(("train", "val", "test")):
        for number in range(2):
            origin = (500_000.0 + 100 * number, 500_000.0 - 100 * row)
            image = random.integers(1, 255, (3, 96, 80), dtype=np.uint8)
            mask = random.choice(np.array([1, 2, 3, 7], dtype=np.uint8), (96, 80))
            make_raster(tmp_path / "set" / split / "images" / f"{split}{number}.tif", image, origin=origin)
            make_raster(tmp_path / "set" / split / "masks" / f"{split}{number}.tif", mask, origin=origin)
    config = DataConfig(
        dataset="geotiff_folder", root="set", classes=CLASSES, patch_size=32, patches_per_epoch=40
    )
    return tmp_path, config
