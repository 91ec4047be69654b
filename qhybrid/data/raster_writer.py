"""Writing maps: GeoTIFFs that appear whole or not at all and open correctly in GIS tools."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from xml.sax.saxutils import escape

import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.data.raster import RasterInfo
from qhybrid.errors import DataError, WorkspaceError
from qhybrid.workspace import atomic_path, write_text

BLOCK = 256
"""Side of the tiles inside the file, in pixels; blocks that start at multiples of it are written best."""


def _profile(like: RasterInfo, count: int, dtype: str, nodata: float) -> dict[str, Any]:
    return {
        "driver": "GTiff",
        "height": like.height,
        "width": like.width,
        "count": count,
        "dtype": dtype,
        "nodata": nodata,
        "crs": like.crs,
        "transform": None if like.transform.is_identity else like.transform,
        "tiled": True,
        "blockxsize": BLOCK,
        "blockysize": BLOCK,
        "compress": "deflate",
        "predictor": 3 if dtype == "float32" else 1,
        "interleave": "band",
        "bigtiff": "if_safer",
    }


def _category_names(classes: ClassMap) -> str:
    """Return GDAL's auxiliary file with the label values' names; a GeoTIFF has no place for them."""
    names = "".join(f"      <Category>{escape(name)}</Category>\n" for name in classes.names)
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{names}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
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
    ) -> None:
        """Describe the map; the file is opened on entering the context.

        Args:
            path: The GeoTIFF to write; an existing file is replaced.
            like: Grid, CRS and transform to keep: those of the scene.
            classes: The classes; their colours become the colour table.
            probabilities: Write one float32 band a class, NaN where there are no data; else one uint8 band of
                class indices, `IGNORE_INDEX` where there are no data.
            tags: Metadata to keep in the file.
        """
        self.path = Path(path)
        self._like = like
        self._classes = classes
        self._probabilities = probabilities
        self._tags = dict(tags or {})
        self._stack = ExitStack()
        self._file: Any = None
        self._temporary = Path()
        self._written = 0

    def __enter__(self) -> Self:
        classes, count = self._classes, self._classes.num_classes
        profile = (
            _profile(self._like, count, "float32", float("nan"))
            if self._probabilities
            else _profile(self._like, 1, "uint8", IGNORE_INDEX)
        )
        self._temporary = self._stack.enter_context(atomic_path(self.path))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._file = rasterio.open(self._temporary, "w", **profile)
            if self._probabilities:
                self._file.descriptions = classes.names
            else:
                self._file.descriptions = ("class",)
                self._file.colorinterp = [ColorInterp.palette]
                palette = {index: (*map(int, color), 255) for index, color in enumerate(classes.palette())}
                self._file.write_colormap(1, {**palette, IGNORE_INDEX: (0, 0, 0, 0)})
            names = {f"CLASS_{index}": name for index, name in enumerate(classes.names)}
            self._file.update_tags(**names, **self._tags)
        except RasterioError as error:
            self._abandon(error)
            raise WorkspaceError(f"{self.path}: cannot be written ({error}).") from error
        return self

    def write(self, block: NDArray[Any], row: int, col: int = 0) -> None:
        """Write a block of finished pixels.

        Args:
            block: Class indices (h, w), or probabilities (K, h, w); each pixel is written once.
            row: First row of the block in the map.
            col: First column.

        Raises:
            DataError: If the block has another number of classes or does not lie in the map.
            WorkspaceError: If it cannot be written, for example because the disk is full.
        """
        bands = block if block.ndim == 3 else block[None]
        count, height, width = bands.shape
        if count != self._file.count or (block.ndim == 3) != self._probabilities:
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
        except RasterioError as error:
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
        except (RasterioError, DataError, WorkspaceError) as problem:
            self._abandon(problem)
            if isinstance(problem, RasterioError):
                raise WorkspaceError(f"{self.path}: cannot be written ({problem}).") from problem
            raise
        self._stack.close()
        sidecar = self.path.with_name(f"{self.path.name}.aux.xml")
        sidecar.unlink(missing_ok=True)  # of a map that was here before
        if not self._probabilities:
            write_text(sidecar, _category_names(self._classes))

    def _abandon(self, error: BaseException) -> None:
        if self._file is not None and not self._file.closed:
            self._file.close()
        # Unwinding with an error makes `atomic_path` remove the temporary file instead of moving it.
        self._stack.__exit__(type(error), error, error.__traceback__)

    def _check_complete(self) -> None:
        expected = self._like.height * self._like.width
        if self._written != expected:
            raise DataError(
                f"{self.path}: each pixel of the map must be written once, but {self._written} of {expected} "
                f"were."
            )
        # GDAL reports some write errors on closing in its log alone; a damaged file fails here.
        try:
            with rasterio.open(self._temporary) as written:
                for _, window in written.block_windows(1):
                    written.read(window=window)
        except RasterioError as error:
            raise WorkspaceError(
                f"{self.path}: could not be written completely ({error}). Fix: free disk space and write it "
                f"again."
            ) from error
