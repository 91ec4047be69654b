"""What goes wrong on a device: error rates of gates, decay times, read-out errors, other channels.

Conventions are Qiskit's. Depolarizing with parameter p on k qubits maps rho to (1 - p) rho + p I / 2^k, so p
may be up to 4^k / (4^k - 1). After a gate that lasts `ns` nanoseconds each of its qubits also relaxes with T1
and T2 towards |0>; listed channels follow in their order. p01 = P(read 0 | prepared 1) and p10 = P(read 1 |
prepared 0).
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from qhybrid.config import StrictModel
from qhybrid.errors import EngineError
from qhybrid.noise.basis import DEFAULT_BASIS, check_basis
from qhybrid.noise.channels.base import LARGEST_P
from qhybrid.noise.sections import (
    SYMMETRIC,
    GateError,
    GateNoise,
    PlacedChannel,
    QubitNoise,
    Relaxation,
    gate_key,
    plain_key,
)
from qhybrid.noise.sites import DELAY, ChannelNoise


class NoiseRates(StrictModel):
    """The content of a noise profile, and what it says of a single gate; everything is off by default.

    Attributes:
        name: What reports call it.
        description: What it stands for.
        source: Where the numbers come from.
        date: When they were taken.
        device: The device that a calibration is of, whatever the profile is called and scaled by: sweeps
            route circuits to it.
        p_1q: Depolarizing parameter of one-qubit gates, 0 to 4/3.
        p_2q: Depolarizing parameter of two-qubit gates, 0 to 16/15.
        t1_us: Energy relaxation time in microseconds; None for none.
        t2_us: Dephasing time in microseconds, at most 2 T1; None for none.
        gate_1q_ns: Duration of one-qubit gates in nanoseconds.
        gate_2q_ns: Duration of two-qubit gates in nanoseconds.
        readout_p01: Probability to read 0 after preparing 1.
        readout_p10: Probability to read 1 after preparing 0.
        qubits: Values of single qubits, by index.
        gates: Values of kinds of gates, by `name` or `name qubit ...`; these win over those of qubits. For
            gates that are the same from both sides (cz, rzz, ...) either order of the qubits is found.
        listed_only: Profiles of devices: a one-qubit gate must be listed in `gates` by its name and its qubit
            in `qubits`, a two-qubit gate in `gates` with its qubits; any other gate is an error.
        idle: `scheduled`: qubits also relax while they wait for others, in a schedule as late as possible.
        channels: Channels of any kind, after depolarizing and relaxation, and where each of them acts.
        basis: What composite gates and gates on more than two qubits are taken apart into before noise is
            applied: Qiskit's names of gates on one and two qubits.
        dt_ns: What a device's clock takes for one step, in nanoseconds: the unit `dt` of delays. Circuits
            that are routed to a device get that of the device.
        assumed: Names of values that a device's calibration does not have, as in `qubits.3.t1_us` and
            `gates.cz 3 4.p`: medians of the device stand there.
    """

    name: str = "noise"
    description: str = ""
    source: str = ""
    date: str = ""
    device: str = ""
    p_1q: float = Field(default=0.0, ge=0, le=LARGEST_P[1])
    p_2q: float = Field(default=0.0, ge=0, le=LARGEST_P[2])
    t1_us: float | None = Field(default=None, gt=0)
    t2_us: float | None = Field(default=None, gt=0)
    gate_1q_ns: float = Field(default=0.0, ge=0)
    gate_2q_ns: float = Field(default=0.0, ge=0)
    readout_p01: float = Field(default=0.0, ge=0, le=1)
    readout_p10: float = Field(default=0.0, ge=0, le=1)
    qubits: dict[int, QubitNoise] = Field(default_factory=dict)
    gates: dict[str, GateNoise] = Field(default_factory=dict)
    listed_only: bool = False
    idle: Literal["none", "scheduled"] = "none"
    channels: tuple[ChannelNoise, ...] = ()
    basis: tuple[str, ...] = DEFAULT_BASIS
    dt_ns: float | None = Field(default=None, gt=0)
    assumed: tuple[str, ...] = ()

    @model_serializer(mode="wrap")
    def _without_unused(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what older profiles do not have: their hashes stay."""
        content: dict[str, Any] = plain(self)
        unused = {
            "channels": not self.channels,
            "basis": self.basis == DEFAULT_BASIS,
            "dt_ns": self.dt_ns is None,
            "assumed": not self.assumed,
        }
        return {key: value for key, value in content.items() if not unused.get(key, False)}

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
        plain: dict[str, GateNoise] = {}
        for given, noise in value.items():
            try:
                key = plain_key(given)
            except ValueError as error:
                raise ValueError(f"a gate's key {error}") from error
            if key in plain:
                raise ValueError(f"gate `{key}` must stand once, but stands twice")
            if len(key.split()) == 3 and noise.p is not None and noise.p > LARGEST_P[2]:
                raise ValueError(f"gate `{key}` must have p of at most 16/15, but has {noise.p}")
            plain[key] = noise
        return plain

    @model_validator(mode="after")
    def _decay_is_physical(self) -> NoiseRates:
        for qubit in [None, *self.qubits]:
            t1, t2 = self._decay(qubit)
            if t2 > 2 * t1:
                place = "" if qubit is None else f" of qubit {qubit}"
                raise ValueError(f"t2_us{place} must be at most 2 * t1_us, but is {t2} with t1_us = {t1}")
        return self

    @field_validator("basis")
    @classmethod
    def _basis_is_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        check_basis(value)
        return value

    @model_validator(mode="after")
    def _basis_is_used(self) -> NoiseRates:
        if self.listed_only and self.basis != DEFAULT_BASIS:
            raise ValueError("`basis` is not used with listed_only: circuits are transpiled to the device")
        return self

    def gate_error(self, name: str, qubits: tuple[int, ...]) -> GateError:
        """Return the noise after a gate.

        Args:
            name: Qiskit's name of the gate.
            qubits: The one or two qubits it acts on.

        Raises:
            EngineError: If the profile has listed gates only, and this one is not among them.
        """
        p, ns = self._rates(name, qubits)
        return GateError(
            p, tuple(self._relaxation(qubit, ns) for qubit in qubits), self._placed(name, qubits)
        )

    def idle_error(self, qubit: int, ns: float) -> GateError:
        """Return the noise of a qubit that waits.

        Args:
            qubit: The qubit.
            ns: Duration in nanoseconds.
        """
        return GateError(0.0, (self._relaxation(qubit, ns),), self._placed(DELAY, (qubit,)))

    def duration_ns(self, name: str, qubits: tuple[int, ...]) -> float:
        """Return how long a gate takes, in nanoseconds; see `gate_error`."""
        return self._rates(name, qubits)[1]

    def readout(self, qubit: int) -> tuple[float, float]:
        """Return (p01, p10) of a qubit.

        Raises:
            EngineError: If the profile has listed qubits only, and this one is not among them.
        """
        if self.listed_only and qubit not in self.qubits:
            raise self.not_listed("read-out", (qubit,))
        own = self.qubits.get(qubit, QubitNoise())
        p01 = self.readout_p01 if own.readout_p01 is None else own.readout_p01
        p10 = self.readout_p10 if own.readout_p10 is None else own.readout_p10
        return p01, p10

    @property
    def gate_names(self) -> tuple[str, ...]:
        """Names of the gates that the profile lists, in `gates` and in its channels."""
        listed = [key.split()[0] for key in self.gates]
        return tuple(dict.fromkeys([*listed, *(name for one in self.channels for name in one.gate_names)]))

    def not_listed(self, what: str, qubits: tuple[int, ...]) -> EngineError:
        """Return the error for a gate or read-out that a device does not have."""
        return EngineError(
            f"Noise profile `{self.name}` of a device must list all that the circuit uses, but has no values "
            f"for {what} on qubit(s) {', '.join(map(str, qubits))}: circuits are as "
            "written, not as the device executes them. Fix: in a recipe the engine that maps them, `engine: "
            "{kind: routed, options: {backend: DEVICE}}`; in Python spec.transpile(target), with circuit and "
            "profile restricted to the same qubits."
        )

    def _rates(self, name: str, qubits: tuple[int, ...]) -> tuple[float, float]:
        """Return depolarizing parameter and duration of a gate: the most specific values that there are."""
        exact = self.gates.get(gate_key(name, qubits))
        if exact is None and name in SYMMETRIC:
            exact = self.gates.get(gate_key(name, qubits[::-1]))
        kind = self.gates.get(name)
        if self.listed_only and exact is None:
            known = len(qubits) == 1 and kind is not None and qubits[0] in self.qubits
            if not known:
                raise self.not_listed(f"gate `{name}`", qubits)
        p, ns = self._own(qubits)
        for noise in (kind, exact):
            p = noise.p if noise is not None and noise.p is not None else p
            ns = noise.ns if noise is not None and noise.ns is not None else ns
        return p, ns

    def _placed(self, name: str, qubits: tuple[int, ...]) -> tuple[PlacedChannel, ...]:
        return tuple(placed for one in self.channels for placed in one.placed(name, qubits))

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
