"""What all bands of a scene have in common against training: a factor, an offset, or another sign.

One band alone is dark or bright for many reasons. Where all bands differ in the same way, in mean, contrast
and extremes, the file is likelier to be encoded in another way than the ground to be so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qhybrid.data.contract_bands import BandInput
from qhybrid.data.contract_range import Floats, SceneSample

_BANDS = 3
"""Bands that must agree before a common factor or offset is believed."""
_AGREE = float(np.log(2))
"""Largest distance of a ratio from the common factor: 90 % of the tiles of four sets of aerial, satellite and
skin images are nearer, and none of their 250 common factors is below 0.55 or above 1.13."""
_FACTORS, _FACTORS_ONE_SCENE = (1 / 12, 3.5), (1 / 8, 8.0)
"""Common factors that light may make: of a scene against training; where training is one scene so far."""
_FACTORS_FEW, _SAME = (1 / 12, 8.0), float(np.log(1.15))
"""The same for one or two bands, and how near to the factor all their ratios must be."""
_DOUBTFUL = (0.45, 2.2)
"""Common factors that are not warned of."""
_BELOW = -0.25
"""Values this many times the largest of training say that a file has negative numbers on purpose."""
_UNIT, _DARK = 1.02, 0.3
"""Largest value of numbers from 0 to 1, up to overshoot; and what the darkest of them are below."""
_OFFSET_AGREES, _OFFSET_CONTRAST = 0.5, 1.5
"""Fraction by which shifts of bands may differ from their common offset, and ratio of contrasts beside it."""


def other_encoding(sample: SceneSample, wanted: Sequence[BandInput], one_scene: bool) -> str | None:
    """Return why a scene cannot be encoded as training's, from all bands together; None if it can.

    Args:
        sample: Of the scene, converted.
        wanted: The C bands of the model.
        one_scene: The model's statistics are of one scene so far.
    """
    if not sample.pixels:
        return None
    low, high = np.array([(band.low, band.high) for band in wanted]).T
    if (low >= 0).all() and (high > 0).all():
        below = len(wanted) > 1 and bool((sample.low < _BELOW * high).all())
        if below or (sample.high < 0).all():
            return "they are below 0 in all bands, and in training in none"
    if (high < 0).all() and (sample.low >= 0).all() and (sample.high > 0).all():
        return "they are above 0 in all bands, and in training in none"
    if not one_scene and _fractions_for_standardised(sample, wanted):
        return "they are between 0 and 1 in all bands, and in training as far below 0 as above"
    factor = _shared_factor(sample, wanted)
    few = len(wanted) < _BANDS
    least, most = _FACTORS_ONE_SCENE if one_scene else _FACTORS_FEW if few else _FACTORS
    if factor is None or least <= factor <= most:
        return None
    return f"mean, contrast and largest values of all bands are about {factor:.3g} times as large"


def _shared_factor(sample: SceneSample, wanted: Sequence[BandInput]) -> float | None:
    """Return the common factor; of a few bands it must fit closely, because fewer agree."""
    if len(wanted) >= _BANDS:
        return common_factor(sample, wanted)
    return common_factor(sample, wanted, 1, _SAME)


def _fractions_for_standardised(sample: SceneSample, wanted: Sequence[BandInput]) -> bool:
    """Return whether a scene has numbers from 0 to 1, and training those of mean 0 and deviation 1."""
    low, high, mean, std = np.array([(band.low, band.high, band.mean, band.std) for band in wanted]).T
    standardised = (low < _BELOW * high) & (high > _UNIT) & (np.abs(mean) < 0.5 * std) & (std > 0.5)
    fractions = (sample.low >= 0) & (sample.low < _DARK) & (sample.high <= _UNIT)
    return len(wanted) > 1 and bool((standardised & fractions & (sample.std < 0.5 * std)).all())


def doubt(sample: SceneSample, wanted: Sequence[BandInput]) -> str | None:
    """Return what of a scene in training's range points at another encoding, or at other light; else None.

    Per cent in place of 8 bits is a factor of 0.39, which dusk can make too: a reason to look, not to refuse.
    """
    if not sample.pixels:
        return None
    low, high = np.array([(band.low, band.high) for band in wanted]).T
    if (low >= 0).all() and (high > 0).all() and (sample.low < _BELOW * high).all():
        return "values are below 0, and in training none are"
    factor = _shared_factor(sample, wanted)
    if factor is None or _DOUBTFUL[0] <= factor <= _DOUBTFUL[1]:
        return None
    return (
        f"mean, contrast and largest values are {factor:.3g} times those of training"
        f"{' in all bands' if len(wanted) > 1 else ''}: other light, or another encoding, which `--scale "
        f"{1 / factor:.3g}` would convert"
    )


def common_factor(
    sample: SceneSample, wanted: Sequence[BandInput], bands: int = _BANDS, agree: float = _AGREE
) -> float | None:
    """Return the factor between a scene's values and training's that all bands share; None if they do not.

    Args:
        sample: Of the scene, converted.
        wanted: The C bands of the model.
        bands: Least number of bands.
        agree: Largest distance of the logarithm of a ratio from that of the factor.
    """
    low, high, mean, std = np.array([(band.low, band.high, band.mean, band.std) for band in wanted]).T
    positive = [low + high, mean, std, sample.high, sample.mean, sample.std]
    if len(wanted) < bands or (low < 0).any() or (sample.low < 0).any():
        return None
    if any((values <= 0).any() for values in positive):
        return None
    logs = np.log([sample.mean / mean, sample.std / std, sample.high / high])
    middle = float(np.median(logs))
    return float(np.exp(middle)) if np.abs(logs - middle).max() <= agree else None


def common_offset(sample: SceneSample, wanted: Sequence[BandInput]) -> float | None:
    """Return what a scene's values are above or below training's in all bands alike, darkest ones included.

    None where bands do not share an offset, or it is small against the contrast: half of it.
    """
    if len(wanted) < _BANDS or not sample.pixels:
        return None
    low, mean, std = np.array([(band.low, band.mean, band.std) for band in wanted]).T
    shifts: Floats = np.array([sample.low - low, sample.mean - mean])
    offset = float(np.median(shifts))
    if (std <= 0).any() or (sample.std <= 0).any() or abs(offset) < 0.5 * float(np.median(std)):
        return None
    contrast = np.abs(np.log(sample.std / std)).max() <= np.log(_OFFSET_CONTRAST)
    alike = np.abs(shifts - offset).max() <= _OFFSET_AGREES * abs(offset)
    return offset if contrast and alike else None
