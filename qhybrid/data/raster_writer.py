"""Writing maps: GeoTIFFs that appear whole or not at all and open correctly in GIS tools.

A map is written as a tiled GeoTIFF. As `cog` it is then rewritten by GDAL as a Cloud Optimized GeoTIFF: the
same pixels with overviews, in an order that can be read in parts over the network. Overviews of classes show
the most frequent class, those of measured quantities the mean. Equal maps are equal files, byte by byte.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning

from qhybrid.data.classes import ClassMap
from qhybrid.data.map_bands import MapBands, class_bands, probability_bands
from qhybrid.data.raster import RasterInfo
from qhybrid.data.raster_file import GDAL_ERRORS
from qhybrid.errors import ConfigError, DataError, WorkspaceError
from qhybrid.plugins import near_name
from qhybrid.workspace import atomic_path, write_text

BLOCK = 256
"""Side of the tiles inside the file, in pixels; blocks that start at multiples of it are written best."""
FORMATS = ("cog", "gtiff")
CACHE_MB = 128
"""GDAL's block cache while writing; its default, a share of the machine's memory, may be gigabytes."""


def check_format(name: str) -> str:
    """Return the name of a file format.

    Raises:
        ConfigError: If it is none of `FORMATS`.
    """
    if name not in FORMATS:
        raise ConfigError(
            f"The format of a map must be {' or '.join(FORMATS)}, but is {name}.{near_name(name, FORMATS)}"
        )
    return name


def _profile(like: RasterInfo, bands: MapBands) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "height": like.height,
        "width": like.width,
        "count": len(bands.names),
        "dtype": bands.dtype,
        "nodata": bands.nodata,
        "crs": like.crs,
        "transform": None if like.transform.is_identity else like.transform,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "predictor": 3 if bands.dtype == "float32" else 1,
        "interleave": "band",
        "bigtiff": "if_safer",
    }


def _optimize(source: Path, target: Path, bands: MapBands) -> None:
    """Rewrite a GeoTIFF as a Cloud Optimized one."""
    rasterio.shutil.copy(
        source,
        target,
        driver="COG",
        blocksize=BLOCK,
        compress="deflate",
        predictor="yes" if bands.dtype == "float32" else "no",
        overview_resampling="mode" if bands.categorical else "average",
        overviews="auto",
        bigtiff="if_safer",
    )


class MapWriter:
    """A map on the grid of a scene, written block by block.

    Use it as a context manager: the file takes its place when the block ends without an error and every
    pixel has been written; otherwise nothing is left behind.
    """

    def __init__(
        self,
        path: str | Path,
        like: RasterInfo,
        classes: ClassMap,
        probabilities: bool = False,
        tags: Mapping[str, str] | None = None,
        *,
        bands: MapBands | None = None,
        file_format: str = "gtiff",
    ) -> None:
        """Describe the map; the file is opened on entering the context.

        Args:
            path: The GeoTIFF to write; an existing file is replaced.
            like: Grid, CRS and transform (or ground control points, or rational polynomials) to keep: those
                of the scene.
            classes: The classes; their colours become the colour table.
            probabilities: Write one float32 band a class, NaN where there are no data; else one uint8 band of
                class indices, `IGNORE_INDEX` where there are no data.
            tags: Metadata to keep in the file.
            bands: What is written, in place of the two above.
            file_format: `gtiff`, or `cog`: with overviews, as a Cloud Optimized GeoTIFF.
        """
        self.path = Path(path)
        self._like = like
        self._bands = bands or (probability_bands(classes) if probabilities else class_bands(classes))
        self._optimized = check_format(file_format) == "cog"
        self._tags = dict(tags or {})
        self._stack = ExitStack()
        self._file: Any = None
        self._temporary = Path()
        self._written = 0

    def __enter__(self) -> Self:
        self._temporary = self._stack.enter_context(atomic_path(self.path))
        try:
            self._stack.enter_context(rasterio.Env(GDAL_CACHEMAX=CACHE_MB))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._file = rasterio.open(self._temporary, "w", **_profile(self._like, self._bands))
            self._describe()
        except GDAL_ERRORS as error:
            self._abandon(error)
            raise WorkspaceError(f"{self.path}: cannot be written ({error}).") from error
        return self

    def _describe(self) -> None:
        if self._like.gcps is not None:
            points, crs = self._like.gcps
            self._file.gcps = (list(points), crs)
        if self._like.rpcs is not None:
            self._file.rpcs = self._like.rpcs
        self._file.descriptions = self._bands.names
        colormap = self._bands.colormap()
        if colormap is not None:
            self._file.colorinterp = [ColorInterp.palette]
            self._file.write_colormap(1, colormap)
        self._file.update_tags(**self._bands.tags, **self._tags)

    def write(self, block: NDArray[Any], row: int, col: int = 0) -> None:
        """Write a block of finished pixels.

        Args:
            block: Values (h, w) of a single band, or (bands, h, w); each pixel is written once.
            row: First row of the block in the map.
            col: First column.

        Raises:
            DataError: If the block has another number of bands or does not lie in the map.
            WorkspaceError: If it cannot be written, for example because the disk is full.
        """
        bands = block if block.ndim == 3 else block[None]
        count, height, width = bands.shape
        if count != self._file.count or (block.ndim == 3) == self._bands.categorical:
            raise DataError(
                f"{self.path}: a block must have {self._file.count} band(s), but has shape {block.shape}."
            )
        inside = 0 <= row <= row + height <= self._like.height and 0 <= col <= col + width <= self._like.width
        if not inside:
            raise DataError(
                f"{self.path}: a block must lie in the map of {self._like.height} x {self._like.width} "
                f"pixels, but starts at row {row}, column {col} and has {height} x {width}."
            )
        window = rasterio.windows.Window(col, row, width, height)
        try:
            self._file.write(bands.astype(self._file.dtypes[0], copy=False), window=window)
        except GDAL_ERRORS as error:
            raise WorkspaceError(
                f"{self.path}: cannot be written ({error}). Fix: free disk space."
            ) from error
        self._written += height * width

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon(error)
            return
        try:
            self._file.close()
            self._check_complete()
            self._finish()
        except (*GDAL_ERRORS, DataError, WorkspaceError) as problem:
            self._abandon(problem)
            if isinstance(problem, GDAL_ERRORS):
                raise WorkspaceError(
                    f"{self.path}: cannot be written ({problem}). Fix: free disk space."
                ) from problem
            raise
        self._stack.close()
        sidecar = sidecar_path(self.path)
        sidecar.unlink(missing_ok=True)  # of a map that was here before
        text = self._bands.sidecar()
        if text is not None:
            write_text(sidecar, text)

    def _abandon(self, error: BaseException) -> None:
        if self._file is not None and not self._file.closed:
            self._file.close()
        # Unwinding with an error makes `atomic_path` remove the temporary file instead of moving it.
        self._stack.__exit__(type(error), error, error.__traceback__)

    def _finish(self) -> None:
        if not self._optimized:
            return
        with atomic_path(self._temporary) as optimized:
            optimized.unlink()  # GDAL takes an existing file for a map to be replaced
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", NotGeoreferencedWarning)
                    _optimize(self._temporary, optimized, self._bands)
                    self._check_readable(optimized)
            finally:
                sidecar_path(optimized).unlink(missing_ok=True)
                for overviews in optimized.parent.glob(f"{optimized.name}.*.tmp"):
                    overviews.unlink()

    def _check_complete(self) -> None:
        expected = self._like.height * self._like.width
        if self._written != expected:
            raise DataError(
                f"{self.path}: each pixel of the map must be written once, but {self._written} of {expected} "
                f"were."
            )
        self._check_readable(self._temporary)

    def _check_readable(self, file: Path) -> None:
        """Read a file back: GDAL reports some write errors on closing in its log alone."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(file) as written:
                    for _, window in written.block_windows(1):
                        written.read(window=window)
        except GDAL_ERRORS as error:
            raise WorkspaceError(
                f"{self.path}: could not be written completely ({error}). Fix: free disk space and write it "
                f"again."
            ) from error


def sidecar_path(path: Path) -> Path:
    """Return GDAL's auxiliary file of a raster."""
    return path.with_name(f"{path.name}.aux.xml")


def read_tags(path: Path) -> dict[str, str]:
    """Return the metadata of a map; none if it is no readable raster."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                tags: dict[str, str] = file.tags()
                return tags
    except GDAL_ERRORS:
        return {}
