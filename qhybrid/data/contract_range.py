"""Whether the numbers of a scene are encoded as those of the training scenes, and what converts them.

The same ground can be written as 0 to 255, as 257 times that, as 0 to 1, or with an offset of 1000. Number
types alone do not tell: 16-bit and floating-point files hold the same values. So values decide, from a small
even sample. A dark or a bright scene differs from training by a factor too, but by a smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.contract_bands import BandInput
from qhybrid.data.contract_reading import ImageReader, Reading
from qhybrid.data.raster import Window
from qhybrid.data.raster_file import BandInfo
from qhybrid.errors import DataError

Floats = NDArray[np.float64]
Conversion = tuple[Floats, Floats, str | None]
"""Gain and shift of each band, and what to warn of."""

_SIDE = 32
"""Side of the windows that a sample is read from, in pixels."""
_SMALL, _CHUNK, _SMALL_SAMPLE = 1 << 19, 1 << 15, 1 << 13
"""Pixels of a scene that is read as a whole, that are read of it at once, and that are kept of it."""
_GRIDS = (5, 11, 23, None)
"""Windows in each direction; the next one is for scenes that have hardly any data in the first, the last one
reads all."""
_ENOUGH = 1000
"""Pixels with data that a sample needs, where the scene has them."""
_SAME_TYPE, _OTHER_TYPE, _ONE_SCENE = (1 / 100, 10.0), (1 / 8, 8.0), (1 / 100, 100.0)
"""How many times the largest values of training those of a scene may be: of the same number type; of another
one, where another encoding is likelier; and where training is one scene so far, which may be a dark one."""
_BEYOND = 0.1
"""By how much of its span values may exceed what a number type holds: interpolation overshoots."""
_EVEN = float(np.log(6))
"""Largest share of contrast in the distance of a scene: water and fields are even, and no fault."""
_CLEAR = 0.25
"""Standard deviations by which one offset must fit better than another to be believed."""
_FACTORS = (16.0, 8.0, 4.0, 100.0, 1000.0, 10_000.0, 65_535.0)


@dataclass(frozen=True, eq=False)
class SceneSample:
    """Statistics of a small even sample of a scene, each of shape (C,).

    Attributes:
        mean: Means.
        std: Standard deviations.
        low: 0.5th percentiles.
        high: 99.5th percentiles.
        extremes: Whether there are no other values than the smallest and the largest of the number type.
        pixels: Sampled pixels with data; the rest is 0 without any.
        unsaid: Fraction of them that have training's nodata in all bands, though the file does not say so.
    """

    mean: Floats
    std: Floats
    low: Floats
    high: Floats
    extremes: NDArray[np.bool_]
    pixels: int
    unsaid: float = 0.0

    def converted(self, gain: Floats, shift: Floats) -> SceneSample:
        """Return the statistics of values * gain + shift."""
        mean, *ends = (values * gain + shift for values in (self.mean, self.low, self.high))
        low, high = np.minimum(*ends), np.maximum(*ends)
        return replace(self, mean=mean, std=self.std * np.abs(gain), low=low, high=high)


def sample_image(path: Any, reading: Reading, unsaid: Sequence[float] | None = None) -> SceneSample:
    """Read a sample of a scene in the numbers of its file.

    Args:
        path: The raster file.
        reading: Its bands and nodata.
        unsaid: What has meant "no data" in training, of each band, where the file does not say it.

    Raises:
        DataError: If the file is damaged where the sample lies.
    """
    reader = ImageReader(path, Reading(reading.bands, reading.nodata, picture=reading.picture))
    values: NDArray[Any] = np.empty((len(reader.bands), 0))
    small = reader.info.height * reader.info.width <= _SMALL
    for grid in _GRIDS:
        parts = []
        windows, step = _windows(*reader.info.shape, None if small else grid)
        for window in windows:
            raw, valid = reader.read(window)
            every = 1 if valid.sum() <= step else step  # a few pixels are all needed
            parts.append(raw.reshape(len(raw), -1)[:, ::every][:, valid.ravel()[::every]])
        values = np.concatenate(parts, axis=1)
        if small or values.shape[1] >= _ENOUGH:
            break
    reader.close()
    bands, pixels = values.shape
    if not pixels:
        nothing = np.zeros(bands)
        return SceneSample(nothing, nothing, nothing, nothing, nothing.astype(bool), 0)
    extremes = np.zeros(bands, dtype=bool)
    if values.dtype.kind in "ui":
        ends = np.iinfo(values.dtype)
        extremes = ((values == ends.min) | (values == ends.max)).all(axis=1)
    each = np.empty((4, bands))
    for place, band in enumerate(values):  # one by one: in double precision all would be most of the memory
        numbers = band.astype(np.float64)
        spread = numbers.std() if np.ptp(numbers) else 0.0  # rounding of the mean is no spread
        each[:, place] = numbers.mean(), spread, *np.percentile(numbers, (0.5, 99.5))
    mean, std, low, high = each
    empty = 0.0 if unsaid is None else float((np.array(unsaid) == values.T).all(axis=1).mean())
    return SceneSample(mean, std, low, high, extremes, pixels, empty)


def _windows(height: int, width: int, grid: int | None) -> tuple[list[Window], int]:
    """Return windows spread evenly over a scene, row by row, and a step over their pixels.

    Without a number of windows in each direction the scene is read as a whole, of which a part of the pixels
    is enough: of small scenes, because reads cost more than pixels.
    """
    if grid is None:
        rows = max(1, _CHUNK // width)
        strips = [Window(row, 0, min(rows, height - row), width) for row in range(0, height, rows)]
        return strips, min(height * width, _SMALL) // _SMALL_SAMPLE | 1  # odd: not always the same columns

    def starts(length: int) -> list[int]:
        return sorted({int(start) for start in np.linspace(0, max(0, length - _SIDE), grid)})

    sides = min(_SIDE, height), min(_SIDE, width)
    return [Window(row, col, *sides) for row in starts(height) for col in starts(width)], 1


def check_numbers(path: Any, own: Sequence[BandInfo], wanted: Sequence[BandInput] = ()) -> None:
    """Check that scales and offsets of bands are numbers.

    Raises:
        DataError: If one is NaN or infinite.
    """
    bands: list[BandInfo | BandInput] = [*own, *wanted]
    said = [value for band in bands for value in (band.scale, band.offset)]
    if not np.isfinite(said).all():
        raise _no_scales(path, own, wanted)


def _no_scales(path: Any, own: Sequence[BandInfo], wanted: Sequence[BandInput]) -> DataError:
    def shown(bands: Sequence[BandInfo | BandInput]) -> str:
        scales, offsets = np.array([(band.scale, band.offset) for band in bands]).T
        return f"{_numbers(scales)} and {_numbers(offsets)}"

    training = f", and {shown(wanted)} in training" if wanted else ""
    return DataError(
        f"{path}: scales of bands must be numbers above 0, and offsets numbers, but are {shown(own)} "
        f"here{training}. Fix: correct them in the file (gdal_edit.py -scale -offset)."
    )


def conversion_of_file(
    own: Sequence[BandInfo], wanted: Sequence[BandInput], sample: SceneSample, path: Any
) -> Conversion | None:
    """Return what turns a scene's numbers into training's, as the scales and offsets of both files say.

    Physical values are number * scale + offset; the first training scene's numbers are what the model knows,
    so that numbers become (number * scale + offset - training's offset) / training's scale. Where one of both
    files says nothing (scale 1, offset 0), it may hold physical values, or have lost what it said: values
    decide.

    Args:
        own: The scene's bands.
        wanted: The model's bands.
        sample: Of the scene.
        path: The scene, for messages.

    Returns:
        Gain and shift of each band, and what to warn of; None where numbers stay as they are.

    Raises:
        DataError: If one file says nothing, and values do not tell what is meant.
    """
    check_numbers(path, own, wanted)
    scale, offset = np.array([(band.scale, band.offset) for band in own]).T
    train_scale, train_offset = np.array([(band.scale, band.offset) for band in wanted]).T
    if (scale == train_scale).all() and (offset == train_offset).all():
        return None
    if not (scale > 0).all() or not (train_scale > 0).all():
        raise _no_scales(path, own, wanted)
    way = scale / train_scale, (offset - train_offset) / train_scale
    silent = (scale == 1).all() and (offset == 0).all()
    silent_training = (train_scale == 1).all() and (train_offset == 0).all()
    if not (silent or silent_training) or not sample.pixels:
        return *way, None
    return _judged(way, offset / scale - train_offset / train_scale, silent, wanted, sample, path)


def _judged(
    said: tuple[Floats, Floats],
    shift: Floats,
    silent: bool,
    wanted: Sequence[BandInput],
    sample: SceneSample,
    path: Any,
) -> Conversion | None:
    """Decide by values between what is said literally, another offset alone, and the numbers as they are."""
    one, zero = np.ones(len(wanted)), np.zeros(len(wanted))
    literal, moved, kept = (
        _misfit(sample.converted(*way), wanted) for way in (said, (one, shift), (one, zero))
    )
    slack = 0.0 if silent else float(np.log(2))  # what the scene itself says counts more than what it omits
    if np.abs(np.log(said[0])).max() > np.log(2) and literal <= min(moved, kept) + slack:
        return *said, None
    shifted = said if np.abs(np.log(said[0])).max() <= np.log(2) else (one, shift)
    if not shifted[1].any() and (shifted[0] == 1).all():
        return None
    as_it_is, by_offset = (_from_low_end(sample.converted(*way), wanted) for way in ((one, zero), shifted))
    if abs(as_it_is - by_offset) < _CLEAR:
        if not silent:
            return *shifted, None
        offsets = _numbers(np.array([band.offset for band in wanted]))
        raise DataError(
            f"{path}: scale and offset must be known, because the training scenes have the offset {offsets}, "
            "but the file says none, and its values fit with and without that. Fix: write both into the file "
            "(gdal_edit.py -scale -offset), or give `--scale 1` if its numbers are those of training."
        )
    if as_it_is < by_offset:
        says = "says no scale and offset" if silent else "says scale and offset and the training scenes none"
        return one, zero, f"it {says}, but its numbers fit those of training as they are, and are taken so"
    said_none = "it says no scale and offset; its numbers fit with an offset of 0, and are converted so"
    return *shifted, said_none if silent else None


def _misfit(sample: SceneSample, wanted: Sequence[BandInput]) -> float:
    """Return by how much the largest values differ from training's, as the logarithm of a factor."""
    ratios = magnitude_ratios(sample, wanted)
    known = ratios[np.isfinite(ratios) & (ratios > 0)]
    return float(np.abs(np.log(known)).max()) if len(known) else 0.0


def _from_low_end(sample: SceneSample, wanted: Sequence[BandInput]) -> float:
    """Return how far the darkest values are from training's: clouds and water change them least."""
    parts = [(abs(low - band.low) / band.std) for low, band in zip(sample.low, wanted) if band.std > 0]
    return float(np.mean(parts)) if parts else 0.0


def magnitude_ratios(sample: SceneSample, wanted: Sequence[BandInput]) -> Floats:
    """Return how many times the largest values of training those of a scene are; NaN: that means nothing.

    Args:
        sample: Of the scene, converted.
        wanted: The C bands.
    """
    here = np.maximum(np.abs(sample.low), np.abs(sample.high))
    there = np.array([max(abs(band.low), abs(band.high)) if band.std > 0 else np.nan for band in wanted])
    there[there == 0] = np.nan
    ratios: Floats = here / there
    return ratios


def foreign_band(
    own: Sequence[BandInfo],
    wanted: Sequence[BandInput],
    sample: SceneSample,
    one_scene: bool,
    by_file: bool,
    scaled: bool,
) -> tuple[int, str] | None:
    """Return a band whose numbers are not encoded as training's, and why; None if there is none.

    Args:
        own: The scene's bands.
        wanted: The model's bands.
        sample: Of the scene, converted as its file says.
        one_scene: The model's statistics are of one scene so far.
        by_file: The file has said how its numbers become training's.
        scaled: Numbers were multiplied with a factor that was asked for.
    """
    if not sample.pixels:
        return None
    ratios = magnitude_ratios(sample, wanted)
    for place, (here, band) in enumerate(zip(own, wanted)):
        if not np.isfinite(ratios[place]) or ratios[place] == 0:
            continue
        ratio = _common_ratio(float(ratios[place]), abs(sample.mean[place]), abs(band.mean))
        trained = band.dtype or ("uint8" if band.low >= 0 and band.high <= 255 else None)
        if trained == here.dtype == "uint8":
            continue  # both may use all there is
        low, high = _ONE_SCENE if one_scene else _SAME_TYPE
        if np.dtype(here.dtype).kind == "f":
            low *= 2.5  # per cent against fractions
        if not by_file and band.dtype not in (None, here.dtype):
            low, high = _OTHER_TYPE
        if not (by_file or scaled):
            if trained is not None and not _holds(trained, sample.low[place], sample.high[place]):
                return place, f"no {trained} holds them"
            if not _holds(here.dtype, band.low, band.high):
                return place, f"no {here.dtype} holds training's"
        if not low <= ratio <= high:
            return place, f"they are {ratio:.3g} times as large"
    return None


def _common_ratio(largest: float, mean: float, trained_mean: float) -> float:
    """Return the ratio of the largest values or of the means, whichever is nearer to 1.

    Another encoding multiplies both; a few very bright things, as in radar images, only the largest values.
    """
    means = mean / trained_mean if trained_mean > 0 else np.inf
    if largest > 1:
        return max(1.0, min(largest, means))
    return min(1.0, max(largest, means))


def _holds(dtype: str, low: float, high: float) -> bool:
    """Return whether an integer type holds values, up to overshoot; floating-point types hold any."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return True
    ends = np.iinfo(kind)
    slack = _BEYOND * (float(ends.max) - float(ends.min))
    return float(ends.min) - slack <= low and high <= float(ends.max) + slack


def likely_factor(sample: SceneSample, band: BandInput, place: int, dtype: str) -> str | None:
    """Return the factor between common encodings that fits best, as an option is written.

    None where no factor alone makes both mean and contrast of a band those of training.
    """
    mean, std = float(sample.mean[place]), float(sample.std[place])
    if mean * band.mean <= 0 or std * band.std <= 0:
        return None
    if abs(np.log(mean / band.mean * band.std / std)) > np.log(2):
        return None
    # 0 to 1 is 255 times smaller than 8 bits, 16 bits are 257 times larger; values are too near to tell.
    whole = all(np.dtype(kind).kind in "ui" for kind in (dtype, band.dtype or dtype))
    factors = (257.0 if whole else 255.0, *_FACTORS)
    candidates = {f"{factor:g}": factor for factor in factors} | {f"1/{f:g}": 1 / f for f in factors}
    return min(candidates, key=lambda text: abs(np.log(candidates[text] * mean / band.mean)))


def largest_shift(sample: SceneSample, wanted: Sequence[BandInput]) -> tuple[int, float]:
    """Return the band whose values are furthest from training's, and their distance.

    The distance of a band is sqrt(m^2 + c^2): m is the shift of its mean in training's standard deviations, c
    the logarithm of the ratio of both standard deviations, at most log 6 for an even surface. In three
    sets of aerial and satellite tiles (222 tiles) it is 0.5 for the middle tile and above 1.3 for 3 %; for
    the same tiles at an eighth of the light it is 2.1 to 4.
    """
    far = []
    for mean, std, band in zip(sample.mean, sample.std, wanted):
        contrast = (
            _EVEN if std == 0 else min(float(abs(np.log(std / band.std))) if band.std > 0 else 0, _EVEN)
        )
        far.append(np.hypot((mean - band.mean) / band.std, contrast) if band.std > 0 else 0.0)
    place = int(np.argmax(far))
    return place, float(far[place])


def _numbers(values: Floats) -> str:
    return ", ".join(dict.fromkeys(f"{value:g}" for value in values.tolist()))
