"""Kinds of channels that lose energy or phase, each qubit by itself.

References: Nielsen and Chuang, Quantum Computation and Quantum Information, section 8.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from qhybrid.noise.channels.base import ROUNDING, NoiseChannel, Rate, Rows, on_each, register_noise_channel
from qhybrid.noise.paulis import ComplexArray


@register_noise_channel
class AmplitudeDamping(NoiseChannel):
    """Decay of each qubit from |1> to |0> with probability gamma; saturates at gamma = 1.

    Attributes:
        gamma: Probability of decay, 0 to 1.
    """

    kind: ClassVar[str] = "amplitude_damping"
    gamma: Annotated[float, Rate()] = Field(ge=0, le=1)

    def kraus(self, num_qubits: int) -> list[ComplexArray]:
        """diag(1, sqrt(1 - gamma)) and sqrt(gamma) |0><1|."""
        return on_each(_damping(self.gamma), num_qubits)

    def transfer(self, rates: Mapping[str, Any], num_qubits: int) -> Rows:
        """X and Y shrink by sqrt(1 - gamma); z -> (1 - gamma) z + gamma."""
        gamma = rates["gamma"]
        return _decay_rows((1 - gamma).sqrt(), 1 - gamma)


@register_noise_channel
class PhaseDamping(NoiseChannel):
    """Loss of phase of each qubit: off-diagonal elements shrink by sqrt(1 - lam); saturates at lam = 1.

    Attributes:
        lam: Nielsen and Chuang's lambda, 0 to 1.
    """

    kind: ClassVar[str] = "phase_damping"
    lam: Annotated[float, Rate()] = Field(ge=0, le=1)

    def kraus(self, num_qubits: int) -> list[ComplexArray]:
        """diag(1, sqrt(1 - lam)) and diag(0, sqrt(lam))."""
        return on_each(_dephasing(self.lam), num_qubits)

    def transfer(self, rates: Mapping[str, Any], num_qubits: int) -> Rows:
        """X and Y shrink by sqrt(1 - lam)."""
        kept = (1 - rates["lam"]).sqrt()
        return _decay_rows(kept, 1.0)


@register_noise_channel
class ThermalRelaxation(NoiseChannel):
    """Relaxation of each qubit towards |0> for a time of its own, whatever gate it follows.

    T1 and T2 are divided by a factor on the noise, `ns` stays. For relaxation during the gates themselves a
    profile has t1_us, t2_us and the gates' durations.

    Attributes:
        ns: Duration in nanoseconds.
        t1_us: Energy relaxation time in microseconds; None for none.
        t2_us: Dephasing time in microseconds, at most 2 T1; None for 2 T1.
    """

    kind: ClassVar[str] = "thermal_relaxation"
    ns: float = Field(ge=0)
    t1_us: Annotated[float | None, Rate("us", "divided")] = Field(default=None, gt=0)
    t2_us: Annotated[float | None, Rate("us", "divided")] = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _decay_is_physical(self) -> Self:
        if self.t1_us is None and self.t2_us is None:
            raise ValueError("t1_us or t2_us must be given: without a decay time nothing relaxes")
        if self.t1_us is not None and self.t2_us is not None and self.t2_us > 2 * self.t1_us * (1 + ROUNDING):
            raise ValueError(
                f"t2_us must be at most 2 * t1_us, but is {self.t2_us} with t1_us = {self.t1_us}"
            )
        return self

    def scaled(self, factor: float) -> Self:
        """Return it with times divided by a factor; for 0 it lasts no time."""
        if factor == 0:
            return self.model_copy(update={"ns": 0.0})
        return super().scaled(factor)

    def kraus(self, num_qubits: int) -> list[ComplexArray]:
        """Amplitude damping by 1 - e1, then phase damping, so that off-diagonals shrink by e2."""
        t = self.ns / 1000
        slow = 0.0 if self.t1_us is None else t / self.t1_us
        fast = slow / 2 if self.t2_us is None else t / self.t2_us
        damping, dephasing = -math.expm1(-slow), -math.expm1(min(0.0, slow - 2 * fast))
        single = [b @ a for a in _damping(damping) for b in _dephasing(dephasing)]
        return on_each(single, num_qubits)

    def transfer(self, rates: Mapping[str, Any], num_qubits: int) -> Rows:
        """X and Y shrink by e2; z -> e1 z + 1 - e1, with e = exp(-t / T)."""
        t = self.ns / 1000
        e1 = (-t / rates["t1_us"]).exp() if "t1_us" in rates else 1.0
        e2 = (-t / rates["t2_us"]).exp() if "t2_us" in rates else e1**0.5
        return _decay_rows(e2, e1)


def _damping(gamma: float) -> list[ComplexArray]:
    kept, lost = math.sqrt(1 - gamma), math.sqrt(gamma)
    return [np.diag([1.0, kept]).astype(complex), np.array([[0.0, lost], [0.0, 0.0]], dtype=complex)]


def _dephasing(lam: float) -> list[ComplexArray]:
    kept, lost = math.sqrt(1 - lam), math.sqrt(lam)
    return [np.diag([1.0, kept]).astype(complex), np.diag([0.0, lost]).astype(complex)]


def _decay_rows(x: Any, z: Any) -> list[list[Any]]:
    """Return the transfer matrix of a decay to |0>: X and Y times x, Z times z plus 1 - z."""
    return [[1.0, 0.0, 0.0, 0.0], [0.0, x, 0.0, 0.0], [0.0, 0.0, x, 0.0], [1 - z, 0.0, 0.0, z]]
