"""Scenes that have lost the nodata of training: what was left out there would be taken for ground."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qhybrid.data.contract_bands import BandInput
from qhybrid.data.raster import RasterInfo
from qhybrid.data.raster_file import BandInfo

_FEW = 0.01
"""Fraction of pixels with training's nodata from which a file that says none is warned of."""


def unsaid_nodata(
    picture: RasterInfo, own: Sequence[BandInfo], wanted: Sequence[BandInput]
) -> list[float] | None:
    """Return training's nodata of each band, for a file of its types that says neither nodata nor a mask."""
    said = picture.mask_of_file or any(band.nodata is not None for band in own)
    alike = all(here.dtype == band.dtype for here, band in zip(own, wanted))
    known = [band.nodata for band in wanted if band.nodata is not None]
    return None if said or not alike or len(known) < len(wanted) else known


def unsaid_note(image: str | Path, fraction: float, unsaid: Sequence[float] | None) -> str | None:
    """Return what to say of pixels that training would have left out; None where there are hardly any.

    Args:
        image: The scene.
        fraction: Of its pixels, those with these values in all bands.
        unsaid: Training's nodata of each band, from `unsaid_nodata`.
    """
    if unsaid is None or fraction < _FEW:
        return None
    values = ", ".join(f"{value:g}" for value in dict.fromkeys(unsaid))
    return (
        f"{image}: {100 * fraction:.2g} % of its pixels are {values} in all bands, which is no data in the "
        "training scenes; this file says no nodata, and they are taken for ground. Fix: if they are none, "
        f"say so in the file (gdal_edit.py -a_nodata {values.split(',')[0]})."
    )
