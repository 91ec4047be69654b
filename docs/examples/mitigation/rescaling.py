"""Error mitigation `rescaling`: divides every value by the share of a signal that the noise leaves.

The share is known from simulation: with all angles at zero a circuit's observable has the value o without
noise and r o with it, and r is taken for all other angles too. This is exact where noise shrinks all values
alike, as depolarizing noise on the gates of one qubit does, and an approximation elsewhere (compare
M. Urbanek et al., Phys. Rev. Lett. 127, 270502 (2021), who measure r on the device). An observable whose
value at zero angles is too small tells nothing, and stays as it is.

It needs no further executions: on hardware the calibration takes the place of the noise profile.

    qhybrid --plugin docs/examples/mitigation/rescaling.py sweep SWEEP.yaml
    qhybrid --plugin docs/examples/mitigation/rescaling.py hardware plan RUN --mitigation rescaling
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines import DeviceForm, Engine, make_engine, register_mitigation
from qhybrid.noise import NoiseProfile

if TYPE_CHECKING:
    from qhybrid.hardware.circuits.readings import Readings

__version__ = "1.0"
SMALLEST = 0.1
"""Values at zero angles below this tell nothing about the noise."""
WEAKEST = 0.05
"""Shares of the signal below this are not divided by: only noise would grow."""


def shares(spec: CircuitSpec, profile: NoiseProfile) -> torch.Tensor:
    """Return the share of every observable that the noise leaves, 1 where it is not known; shape (n_obs,)."""
    inputs = torch.zeros(1, spec.num_inputs, dtype=torch.float64)
    weights = torch.zeros(spec.num_weights, dtype=torch.float64)
    with torch.no_grad():
        ideal = make_engine("exact").expectations(spec, inputs, weights)[0]
        noisy = make_engine("exact", noise=profile).expectations(spec, inputs, weights)[0]
    known = (ideal.abs() > SMALLEST) & (noisy / ideal > WEAKEST)
    return torch.where(known, noisy / torch.where(known, ideal, 1.0), 1.0)


class Rescaled(Engine):
    """Divides the values of another engine by the shares of their signal."""

    kind = "rescaled"

    def __init__(self, engine: Engine, profile: NoiseProfile) -> None:
        self._engine, self._profile = engine, profile
        self._shares: dict[str, torch.Tensor] = {}

    def expectations(self, spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the rescaled expectation values, shape (B, n_obs)."""
        if spec.fingerprint not in self._shares:
            self._shares[spec.fingerprint] = shares(spec, self._profile)
        values = self._engine.expectations(spec, inputs, weights)
        return values / self._shares[spec.fingerprint].to(values)

    def circuit_key(self, spec: CircuitSpec) -> str:
        """Return the hash of the other engine's circuit."""
        return self._engine.circuit_key(spec)

    def describe(self) -> dict[str, Any]:
        """Return what the other engine says of itself, and the method."""
        return {**self._engine.describe(), "mitigation": {"method": "rescaling", "version": __version__}}


def wrap(make: Callable[[NoiseProfile, int], Engine], profile: NoiseProfile) -> Engine:
    """Return the engine of a profile with its values rescaled."""
    return Rescaled(make(profile, 0), profile)


def estimate(readings: Readings) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return rescaled means and variances of what was read on one place of the device."""
    means, variances = readings.means[0], readings.variances[0]
    if readings.noise is None:
        return means, variances
    left = np.ones(means.shape[1])
    for spec, group in zip(readings.circuits, readings.groups, strict=True):
        left[list(group)] = shares(spec, readings.noise)[: len(group)].numpy()
    return means / left, variances / left**2


register_mitigation(
    "rescaling",
    wrap,
    label="rescaled signal",
    description="divides values by the share of the signal that simulation says the noise leaves",
    needs="the noise profile, or the device's calibration",
    device=DeviceForm(estimate=estimate),
)
