"""What goes wrong on a device: error rates of gates, decay times, read-out errors.

Conventions are Qiskit's. Depolarizing with parameter p on k qubits maps rho to (1 - p) rho + p I / 2^k, so p
may be up to 4^k / (4^k - 1). After a gate that lasts `ns` nanoseconds each of its qubits also relaxes with T1
and T2 towards |0>. p01 = P(read 0 | prepared 1) and p10 = P(read 1 | prepared 0).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from qhybrid.config import StrictModel, read_yaml, validated
from qhybrid.errors import ConfigError

LARGEST_P = {1: 4 / 3, 2: 16 / 15}
"""Largest depolarizing parameter that is still a channel, by number of qubits."""

_Rate1 = Field(default=None, ge=0, le=LARGEST_P[1])
_Microseconds = Field(default=None, gt=0)
_Nanoseconds = Field(default=None, ge=0)
_Probability = Field(default=None, ge=0, le=1)


@dataclass(frozen=True)
class Relaxation:
    """Decay of one qubit during a gate.

    Attributes:
        t1_us: Energy relaxation time in microseconds; infinity for none.
        t2_us: Dephasing time in microseconds, at most 2 T1; infinity for none.
        ns: Duration in nanoseconds.
    """

    t1_us: float
    t2_us: float
    ns: float


@dataclass(frozen=True)
class GateError:
    """The noise after one gate: depolarizing on all its qubits, then relaxation of each.

    Attributes:
        p: Depolarizing parameter.
        relaxations: One for each qubit of the gate, None without relaxation.
    """

    p: float
    relaxations: tuple[Relaxation | None, ...]

    @property
    def ideal(self) -> bool:
        """Whether nothing happens."""
        return self.p == 0 and all(relaxation is None for relaxation in self.relaxations)


class QubitNoise(StrictModel):
    """Values of one qubit; None follows the profile's own.

    Attributes:
        p_1q: Depolarizing parameter of one-qubit gates.
        t1_us: Energy relaxation time in microseconds.
        t2_us: Dephasing time in microseconds.
        gate_1q_ns: Duration of one-qubit gates in nanoseconds.
        readout_p01: Probability to read 0 after preparing 1.
        readout_p10: Probability to read 1 after preparing 0.
    """

    p_1q: float | None = _Rate1
    t1_us: float | None = _Microseconds
    t2_us: float | None = _Microseconds
    gate_1q_ns: float | None = _Nanoseconds
    readout_p01: float | None = _Probability
    readout_p10: float | None = _Probability


class GateNoise(StrictModel):
    """Values of one kind of gate (`cx`), or of one kind on certain qubits (`cx 0 1`).

    Attributes:
        p: Depolarizing parameter.
        ns: Duration in nanoseconds.
    """

    p: float | None = Field(default=None, ge=0, le=LARGEST_P[1])
    ns: float | None = _Nanoseconds


class NoiseProfile(StrictModel):
    """Error rates of a device; everything is off by default.

    Attributes:
        name: What reports call it.
        description: What it stands for.
        source: Where the numbers come from.
        date: When they were taken.
        p_1q: Depolarizing parameter of one-qubit gates, 0 to 4/3.
        p_2q: Depolarizing parameter of two-qubit gates, 0 to 16/15.
        t1_us: Energy relaxation time in microseconds; None for none.
        t2_us: Dephasing time in microseconds, at most 2 T1; None for none.
        gate_1q_ns: Duration of one-qubit gates in nanoseconds.
        gate_2q_ns: Duration of two-qubit gates in nanoseconds.
        readout_p01: Probability to read 0 after preparing 1.
        readout_p10: Probability to read 1 after preparing 0.
        qubits: Values of single qubits, by index.
        gates: Values of kinds of gates, by `name` or `name qubit ...`; these win over those of qubits.
    """

    name: str = "noise"
    description: str = ""
    source: str = ""
    date: str = ""
    p_1q: float = Field(default=0.0, ge=0, le=LARGEST_P[1])
    p_2q: float = Field(default=0.0, ge=0, le=LARGEST_P[2])
    t1_us: float | None = _Microseconds
    t2_us: float | None = _Microseconds
    gate_1q_ns: float = Field(default=0.0, ge=0)
    gate_2q_ns: float = Field(default=0.0, ge=0)
    readout_p01: float = Field(default=0.0, ge=0, le=1)
    readout_p10: float = Field(default=0.0, ge=0, le=1)
    qubits: dict[int, QubitNoise] = Field(default_factory=dict)
    gates: dict[str, GateNoise] = Field(default_factory=dict)

    @field_validator("date", mode="before")
    @classmethod
    def _date_as_text(cls, value: Any) -> Any:
        return value.isoformat() if hasattr(value, "isoformat") else value

    @field_validator("qubits")
    @classmethod
    def _qubits_exist(cls, value: dict[int, QubitNoise]) -> dict[int, QubitNoise]:
        if any(qubit < 0 for qubit in value):
            raise ValueError(f"qubit indices must be at least 0, but are {sorted(value)}")
        return value

    @field_validator("gates")
    @classmethod
    def _gate_keys_are_readable(cls, value: dict[str, GateNoise]) -> dict[str, GateNoise]:
        for key, noise in value.items():
            qubits = key.split()[1:]
            if not all(qubit.isdecimal() for qubit in qubits) or len(qubits) > 2:
                raise ValueError(f"gate keys must read `name` or `name qubit qubit`, but one is {key!r}")
            if len(qubits) == 2 and noise.p is not None and noise.p > LARGEST_P[2]:
                raise ValueError(f"gate `{key}` must have p of at most 16/15, but has {noise.p}")
        return value

    @model_validator(mode="after")
    def _decay_is_physical(self) -> NoiseProfile:
        for qubit in [None, *self.qubits]:
            t1, t2 = self._decay(qubit)
            if t2 > 2 * t1:
                place = "" if qubit is None else f" of qubit {qubit}"
                raise ValueError(f"t2_us{place} must be at most 2 * t1_us, but is {t2} with t1_us = {t1}")
        return self

    @classmethod
    def depolarizing(cls, p_1q: float = 0.0, p_2q: float = 0.0) -> NoiseProfile:
        """Return a profile of depolarizing noise alone.

        Args:
            p_1q: Parameter after every one-qubit gate, 0 to 4/3.
            p_2q: Parameter after every two-qubit gate, 0 to 16/15.

        Raises:
            ConfigError: If a parameter is out of range.
        """
        content = {"name": f"depolarizing {p_1q:g} {p_2q:g}", "p_1q": p_1q, "p_2q": p_2q}
        return validated(cls, content, "NoiseProfile.depolarizing")

    @classmethod
    def load(cls, path: str | Path) -> NoiseProfile:
        """Read a profile from a YAML file.

        Raises:
            ConfigError: If the file cannot be read, or a key or value is wrong.
        """
        content = {"name": Path(path).stem, **read_yaml(path)}
        return validated(cls, content, str(path))

    def scale(self, factor: float) -> NoiseProfile:
        """Return the profile with all rates multiplied: 0 is no noise, 2 is twice as much.

        Depolarizing parameters saturate at 1 (fully mixed), read-out errors at 1/2 (no information); decay
        times are divided. Values that are beyond those bounds already stay as they are when the factor is at
        least 1.

        Args:
            factor: At least 0.

        Raises:
            ConfigError: If the factor is negative or not finite.
        """
        if not (math.isfinite(factor) and factor >= 0):
            raise ConfigError(f"Argument `factor` must be a number of at least 0, but is {factor}.")
        content = self.model_dump()
        content["name"] = f"{self.name} x {factor:g}"
        _scale_section(content, factor)
        for section in [*content["qubits"].values(), *content["gates"].values()]:
            _scale_section(section, factor)
        return validated(type(self), content, f"noise profile `{self.name}` scaled by {factor:g}")

    def gate_error(self, name: str, qubits: tuple[int, ...]) -> GateError:
        """Return the noise after a gate.

        Args:
            name: Qiskit's name of the gate.
            qubits: The one or two qubits it acts on.
        """
        exact = self.gates.get(" ".join([name, *map(str, qubits)]))
        kind = self.gates.get(name)
        p, ns = self._own(qubits)
        for noise in (kind, exact):
            p = noise.p if noise is not None and noise.p is not None else p
            ns = noise.ns if noise is not None and noise.ns is not None else ns
        return GateError(p, tuple(self._relaxation(qubit, ns) for qubit in qubits))

    def readout(self, qubit: int) -> tuple[float, float]:
        """Return (p01, p10) of a qubit."""
        own = self.qubits.get(qubit, QubitNoise())
        p01 = self.readout_p01 if own.readout_p01 is None else own.readout_p01
        p10 = self.readout_p10 if own.readout_p10 is None else own.readout_p10
        return p01, p10

    @property
    def fingerprint(self) -> str:
        """Hash of everything that changes results; names and notes do not enter."""
        content = self.model_dump_json(exclude={"name", "description", "source", "date"})
        return hashlib.sha256(content.encode()).hexdigest()

    def _own(self, qubits: tuple[int, ...]) -> tuple[float, float]:
        """Return depolarizing parameter and duration of a gate of no special kind."""
        if len(qubits) != 1:
            return self.p_2q, self.gate_2q_ns
        own = self.qubits.get(qubits[0], QubitNoise())
        p = self.p_1q if own.p_1q is None else own.p_1q
        return p, self.gate_1q_ns if own.gate_1q_ns is None else own.gate_1q_ns

    def _decay(self, qubit: int | None) -> tuple[float, float]:
        own = QubitNoise() if qubit is None else self.qubits.get(qubit, QubitNoise())
        t1 = self.t1_us if own.t1_us is None else own.t1_us
        t2 = self.t2_us if own.t2_us is None else own.t2_us
        longest = math.inf if t1 is None else t1
        return longest, min(math.inf, 2 * longest) if t2 is None else t2

    def _relaxation(self, qubit: int, ns: float) -> Relaxation | None:
        t1, t2 = self._decay(qubit)
        if ns == 0 or (math.isinf(t1) and math.isinf(t2)):
            return None
        return Relaxation(t1, t2, ns)


def _scale_section(section: dict[str, Any], factor: float) -> None:
    """Multiply the rates of a profile's section in place."""
    for key, value in section.items():
        if value is None or key in ("qubits", "gates"):
            continue
        if key in ("p", "p_1q", "p_2q"):
            section[key] = _saturated(value, factor, 1.0)
        elif key.startswith("readout_"):
            section[key] = _saturated(value, factor, 0.5)
        elif key in ("t1_us", "t2_us"):
            section[key] = value / factor if factor else None


def _saturated(value: float, factor: float, bound: float) -> float:
    return value if factor >= 1 and value > bound else min(value * factor, bound)
