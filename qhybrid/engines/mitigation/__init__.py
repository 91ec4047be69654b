"""Error mitigation on simulators: engines that correct what another engine reads."""

from qhybrid.engines.mitigation.methods import mitigated_engine
from qhybrid.engines.mitigation.readout import ReadoutCorrection, corrected_observable
from qhybrid.engines.mitigation.zero_noise import ZeroNoiseExtrapolation, extrapolation_coefficients

__all__ = [
    "ReadoutCorrection",
    "ZeroNoiseExtrapolation",
    "corrected_observable",
    "extrapolation_coefficients",
    "mitigated_engine",
]
