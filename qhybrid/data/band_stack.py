"""Bands of several files as one raster: a VRT on the finest grid, kept in the cache folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags

from qhybrid.data.locations import gdal_name, local_file
from qhybrid.data.raster import open_raster
from qhybrid.errors import DataError
from qhybrid.workspace import cache_dir, write_text

_GDAL_TYPES = {
    "uint8": "Byte",
    "int8": "Int8",
    "uint16": "UInt16",
    "int16": "Int16",
    "uint32": "UInt32",
    "int32": "Int32",
    "float32": "Float32",
    "float64": "Float64",
}
_HALF_PIXEL = 0.5


@dataclass(frozen=True)
class BandSource:
    """Where bands come from.

    Attributes:
        name: What they are called.
        place: The file.
        band: 1-based number; None for all bands of the file.
        said: What is known of the file's bands beside the file: `scale`, `offset`, `nodata`.
        whole_name: The name is that of the band, not of a file of several bands.
    """

    name: str
    place: Path
    band: int | None = None
    said: tuple[Mapping[str, Any], ...] = ()
    whole_name: bool = False


@dataclass(frozen=True)
class _Band:
    """One band of a stack, with the metadata of its file.

    Attributes:
        alpha: The file calls it alpha.
        masked: The file has a validity mask for it: alpha, an internal one, or a .msk file.
        nodata_said: Its nodata is not in the file, which GDAL would therefore mix with data.
    """

    name: str
    place: Path
    number: int
    shape: tuple[int, int]
    crs: Any
    transform: Any
    dtype: str
    tags: dict[str, str] = field(default_factory=dict)
    alpha: bool = False
    masked: bool = False
    nodata_said: bool = False


def stack_bands(sources: Sequence[BandSource], resampling: str = "bilinear") -> Path:
    """Return a raster of the bands of several files.

    It has the grid of the file with the smallest pixels; the others must be in its CRS and are resampled.
    Files without georeference are taken to show the same ground. Names, nodata, scale and offset of the bands
    are kept; those that only `said` knows are added. Ground that a file does not cover, or that its mask
    leaves out, has no data.

    Args:
        sources: The bands in their order.
        resampling: For files with larger pixels: `nearest`, `bilinear`, `cubic` or `average`.

    Raises:
        DataError: If a file cannot be opened, lacks a band, or is in another CRS.
    """
    bands = [band for source in sources for band in _bands(source)]
    grid = min(bands, key=lambda band: (abs(band.transform.determinant), -band.shape[0] * band.shape[1]))
    for band in bands:
        if band.crs != grid.crs:
            raise DataError(
                f"{band.place} and {grid.place}: bands of one scene must be in one CRS, but are in "
                f"{band.crs} and {grid.crs}. Fix: reproject one (gdalwarp)."
            )
        turned = any(abs(one.transform.b) + abs(one.transform.d) > 0 for one in (band, grid))
        if turned and band.transform != grid.transform:
            raise DataError(
                f"{band.place} and {grid.place}: rotated rasters must have one grid, but have two. Fix: warp "
                "them to one (gdalwarp)."
            )
    own = (grid.shape, grid.transform)
    known = [band if (band.shape, band.transform) == own else _with_own_nodata(band) for band in bands]
    return _kept(_document(known, grid, resampling))


def _kept(document: Element) -> Path:
    """Return the file of a VRT in the cache folder."""
    text = tostring(document, encoding="unicode")
    file = cache_dir() / "stacks" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.vrt"
    if not file.is_file():
        write_text(file, text)
    return file


def _with_own_nodata(band: _Band) -> _Band:
    """Return a band whose file says what its nodata is, so that resampling leaves these pixels out."""
    if not band.nodata_said:
        return band
    return replace(band, place=_kept(_document([band], band, "nearest")), number=1, nodata_said=False)


def _bands(source: BandSource) -> list[_Band]:
    """Return the bands of a source, read from its file."""
    with open_raster(source.place) as file:
        numbers = range(1, file.count + 1) if source.band is None else (source.band,)
        found = []
        for number in numbers:
            if not 1 <= number <= file.count:
                raise DataError(
                    f"{source.place}: band {number} of asset {source.name} is needed, but the file has "
                    f"{file.count} band(s)."
                )
            index = number - 1
            said = source.said[index] if index < len(source.said) else {}
            tags = _tags(said, file.nodatavals[index], file.scales[index], file.offsets[index])
            own = source.whole_name or file.count == 1
            name = source.name if own else f"{source.name}:{number}"
            found.append(
                _Band(
                    name,
                    source.place,
                    number,
                    file.shape,
                    file.crs or None,
                    file.transform,
                    file.dtypes[index],
                    tags,
                    alpha=file.colorinterp[index] == ColorInterp.alpha,
                    masked=MaskFlags.per_dataset in file.mask_flag_enums[index],
                    nodata_said="NoDataValue" in tags and file.nodatavals[index] is None,
                )
            )
    return found


def _tags(said: Mapping[str, Any], nodata: float | None, scale: float, offset: float) -> dict[str, str]:
    """Return nodata, offset and scale of a band as VRT elements; the file's own come first."""
    if (scale, offset) == (1.0, 0.0):
        scale, offset = float(said.get("scale") or 1.0), float(said.get("offset") or 0.0)
    if nodata is None and said.get("nodata") is not None:
        nodata = float(said["nodata"])
    tags = {} if nodata is None else {"NoDataValue": repr(float(nodata))}
    return tags | ({} if (scale, offset) == (1.0, 0.0) else {"Offset": repr(offset), "Scale": repr(scale)})


def _document(bands: Sequence[_Band], grid: _Band, resampling: str) -> Element:
    """Return the VRT of bands on the grid of one of them."""
    height, width = grid.shape
    root = Element("VRTDataset", rasterXSize=str(width), rasterYSize=str(height))
    if grid.crs is not None:
        SubElement(root, "SRS").text = grid.crs.to_wkt()
    if not grid.transform.is_identity:
        SubElement(root, "GeoTransform").text = ", ".join(map(repr, map(float, grid.transform.to_gdal())))
    common = np.result_type(*(np.dtype(band.dtype) for band in bands)).name
    if common not in _GDAL_TYPES:
        raise DataError(f"{grid.place}: bands must be of real numbers, but they are {common} together.")
    for number, band in enumerate(bands, start=1):
        element = SubElement(root, "VRTRasterBand", dataType=_GDAL_TYPES[common], band=str(number))
        SubElement(element, "Description").text = band.name
        if band.alpha:
            SubElement(element, "ColorInterp").text = "Alpha"
        for tag, text in band.tags.items():
            SubElement(element, tag).text = text
        _add_source(element, "SimpleSource", band, grid, str(band.number), resampling)
    _add_mask(root, bands, grid)
    return root


def _add_mask(root: Element, bands: Sequence[_Band], grid: _Band) -> None:
    """Add a mask of the ground that all files cover and no mask leaves out; none where that is all."""
    masks = {band.place: band for band in bands if band.masked}
    parts = {band.place: band for band in bands if not _contains(_placed(band, grid), _all_of(grid))}
    if not masks and not parts:
        return
    element = SubElement(SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
    if len(masks) + len(parts) > 1:  # the least of all sources; where one has nothing, that is 0
        element.set("subClass", "VRTDerivedRasterBand")
        SubElement(element, "PixelFunctionType").text = "min"
    for band in masks.values():
        _add_source(element, "SimpleSource", band, grid, f"mask,{band.number}", "nearest")
    for band in parts.values():
        source = _add_source(element, "ComplexSource", band, grid, str(band.number), "nearest")
        SubElement(source, "ScaleOffset").text = "255"
        SubElement(source, "ScaleRatio").text = "0"


def _add_source(
    element: Element, kind: str, band: _Band, grid: _Band, number: str, resampling: str
) -> Element:
    """Add the file of a band as what a band of the VRT is read from."""
    source = SubElement(element, kind, resampling=resampling)
    file = local_file(band.place)
    name = str(file.resolve()) if file == band.place else gdal_name(band.place)
    SubElement(source, "SourceFilename", relativeToVRT="0").text = name
    SubElement(source, "SourceBand").text = number
    rows, cols = band.shape
    SubElement(source, "SrcRect", xOff="0", yOff="0", xSize=str(cols), ySize=str(rows))
    left, top, right, bottom = map(repr, _placed(band, grid))
    width, height = (repr(float(b) - float(a)) for a, b in ((left, right), (top, bottom)))
    SubElement(source, "DstRect", xOff=left, yOff=top, xSize=width, ySize=height)
    return source


def _all_of(grid: _Band) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a grid in its own pixels."""
    return 0.0, 0.0, float(grid.shape[1]), float(grid.shape[0])


def _contains(outer: tuple[float, ...], inner: tuple[float, ...]) -> bool:
    """Return whether a rectangle covers another one, but for less than half a pixel."""
    ends = zip(outer, inner, (1, 1, -1, -1))
    return all((own - other) * sign < _HALF_PIXEL for own, other, sign in ends)


def _placed(band: _Band, grid: _Band) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a band in pixels of the grid."""
    rows, cols = map(float, band.shape)
    here, there = band.transform, grid.transform
    if here.is_identity or there.is_identity:
        return _all_of(grid)
    if here == there:
        return 0.0, 0.0, cols, rows
    left, top = (here.c - there.c) / there.a, (here.f - there.f) / there.e
    right, bottom = left + cols * here.a / there.a, top + rows * here.e / there.e
    # Coordinates in files are rounded: whole pixels are meant where they nearly are.
    return round(left, 6), round(top, 6), round(right, 6), round(bottom, 6)
