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
_BELOW = -0.25
"""Values this many times the largest of training say that a file has negative numbers on purpose."""
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
    factor = common_factor(sample, wanted)
    least, most = _FACTORS_ONE_SCENE if one_scene else _FACTORS
    if factor is None or least <= factor <= most:
        return None
    return f"mean, contrast and largest values of all bands are about {factor:.3g} times as large"


def common_factor(sample: SceneSample, wanted: Sequence[BandInput]) -> float | None:
    """Return the factor between a scene's values and training's that all bands share; None if they do not."""
    low, high, mean, std = np.array([(band.low, band.high, band.mean, band.std) for band in wanted]).T
    positive = [low + high, mean, std, sample.high, sample.mean, sample.std]
    if len(wanted) < _BANDS or (low < 0).any() or (sample.low < 0).any():
        return None
    if any((values <= 0).any() for values in positive):
        return None
    logs = np.log([sample.mean / mean, sample.std / std, sample.high / high])
    middle = float(np.median(logs))
    return float(np.exp(middle)) if np.abs(logs - middle).max() <= _AGREE else None


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
