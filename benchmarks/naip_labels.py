"""Vegetation labels for an aerial scene with a near-infrared band, as the polygons of a GeoPackage.

    python benchmarks/naip_labels.py SCENE.tif --to data/naip

The labels of recipe `naip_blocks`, whose scene has none: NDVI = (NIR - red) / (NIR + red), cut at two
thresholds; areas of fewer pixels than `--smallest` join their largest neighbour. They say what the NDVI says,
not what somebody has seen on the ground. FOLDER gets `labels.gpkg` (polygons in the scene's CRS, attribute
`cover`: sparse or dense; no polygon elsewhere) and `scene.vrt`, which refers to the scene.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
from numpy.typing import NDArray
from rasterio.features import shapes, sieve
from rasterio.shutil import copy
from shapely import to_wkb
from shapely.geometry import shape

COVERS = ("", "sparse", "dense")


def ndvi(red: NDArray[np.uint8], infrared: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the normalised difference vegetation index, 0 where both bands are 0."""
    low, high = red.astype(np.float32), infrared.astype(np.float32)
    return np.divide(high - low, high + low, out=np.zeros_like(low), where=high + low > 0)


def write_labels(scene: Path, folder: Path, thresholds: tuple[float, float], smallest: int) -> dict[str, int]:
    """Write `labels.gpkg` and `scene.vrt`.

    Args:
        scene: A raster whose bands 1 and 4 are red and near infrared.
        folder: Where both files go.
        thresholds: NDVI from which vegetation is sparse, and from which it is dense.
        smallest: Smallest area in pixels.

    Returns:
        Number of polygons of each cover.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with rasterio.open(scene) as source:
        values = ndvi(source.read(1), source.read(4))
        cover = sieve(np.digitize(values, thresholds).astype(np.uint8), smallest)
        found = [
            (shape(geometry), COVERS[int(value)])
            for geometry, value in shapes(cover, mask=cover > 0, transform=source.transform)
        ]
        crs = source.crs.to_wkt()
    pyogrio.raw.write(
        folder / "labels.gpkg",
        to_wkb(np.array([geometry for geometry, _ in found])),
        [np.array([name for _, name in found], dtype=object)],
        ["cover"],
        geometry_type="Polygon",
        crs=crs,
        layer="vegetation",
    )
    copy(str(scene.resolve()), str(folder / "scene.vrt"), driver="VRT")
    return {name: sum(1 for _, own in found if own == name) for name in COVERS[1:]}


def main() -> None:
    """Write the labels of one scene."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", type=Path)
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--thresholds", type=float, nargs=2, default=(0.1, 0.4), metavar=("SPARSE", "DENSE"))
    parser.add_argument("--smallest", type=int, default=8, help="smallest area in pixels")
    arguments = parser.parse_args()
    counts = write_labels(arguments.scene, arguments.to, tuple(arguments.thresholds), arguments.smallest)
    print(", ".join(f"{count} polygons {name}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
