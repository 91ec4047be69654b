"""Parts of a noise profile: values of one qubit or one kind of gate, and the noise of a single gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from qhybrid.config import StrictModel
from qhybrid.noise.channels.base import LARGEST_P, NoiseChannel, is_identity

SYMMETRIC = frozenset({"cz", "swap", "iswap", "rzz", "rxx", "ryy", "cp", "cu1", "cs", "csdg"})
"""Two-qubit gates that do the same whichever qubit comes first."""

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
class PlacedChannel:
    """A channel on some of a gate's qubits.

    Attributes:
        channel: The channel.
        places: Which of the gate's qubits it acts on, by their places in the gate; in the gate's order.
    """

    channel: NoiseChannel
    places: tuple[int, ...]

    @property
    def ideal(self) -> bool:
        """Whether nothing happens."""
        return is_identity(self.channel, len(self.places))


@dataclass(frozen=True)
class GateError:
    """The noise after one gate: depolarizing on all its qubits, then relaxation of each, then channels.

    Attributes:
        p: Depolarizing parameter.
        relaxations: One for each qubit of the gate, None without relaxation.
        channels: In time order.
    """

    p: float
    relaxations: tuple[Relaxation | None, ...]
    channels: tuple[PlacedChannel, ...] = ()

    @property
    def relaxes(self) -> bool:
        """Whether any qubit relaxes."""
        return any(relaxation is not None for relaxation in self.relaxations)

    @property
    def ideal(self) -> bool:
        """Whether nothing happens."""
        return self.p == 0 and not self.relaxes and all(placed.ideal for placed in self.channels)

    def saturates(self, factor: float) -> bool:
        """Return whether it cannot be that many times as strong: a rate reaches its bound."""
        channels = any(placed.channel.saturates(factor) for placed in self.channels)
        return channels or self.p <= 1 < self.p * factor


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


def gate_key(name: str, qubits: Sequence[int]) -> str:
    """Return the key of a gate on certain qubits in `NoiseProfile.gates`, as in `cz 3 4`."""
    return " ".join([name, *map(str, qubits)])


def plain_key(key: str) -> str:
    """Return a key as `gate_key` writes it: without spaces and zeros that it does not need.

    Raises:
        ValueError: If it is not a name with up to two different qubits.
    """
    name, *qubits = key.split() or [""]
    numbers = [int(qubit) for qubit in qubits if qubit.isdecimal()]
    if not name or len(numbers) < len(qubits) or len(numbers) > 2:
        raise ValueError(f"must read `name` or `name qubit qubit`, but is {key!r}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"must name two different qubits, but is {key!r}")
    return gate_key(name, numbers)


def renumbered(key: str, place: Mapping[int, int]) -> str | None:
    """Return the key of a gate (`cz 3 4`) on qubits that are numbered anew; None if one is not kept."""
    name, *words = key.split()
    if not all(int(word) in place for word in words):
        return None
    return gate_key(name, [place[int(word)] for word in words])
