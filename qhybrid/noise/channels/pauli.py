"""Kinds of channels made of Pauli strings: random errors, and rotations that are the same every time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field, field_validator

from qhybrid.config import validated
from qhybrid.errors import ConfigError
from qhybrid.noise.channels.base import (
    LARGEST_P,
    ROUNDING,
    NoiseChannel,
    Rate,
    Rows,
    check_factor,
    on_each,
    register_noise_channel,
)
from qhybrid.noise.paulis import PAULI, ComplexArray, pauli_matrix


@register_noise_channel
class Depolarizing(NoiseChannel):
    """rho -> (1 - p) rho + p I / 2^k, on all qubits of a gate together; saturates at p = 1, fully mixed.

    Attributes:
        p: Depolarizing parameter, 0 to 4/3 on one qubit, to 16/15 on two.
    """

    kind: ClassVar[str] = "depolarizing"
    p: Annotated[float, Rate()] = Field(ge=0, le=LARGEST_P[1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """One qubit, or two together."""
        return (1, 2)

    def kraus(self, num_qubits: int) -> list[ComplexArray]:
        """Every Pauli string with probability p / 4^k, and what is left of 1 for the identity."""
        each = self.p / 4**num_qubits
        left = 1 - self.p + each
        if left < -ROUNDING:
            raise ConfigError(
                f"Channel `depolarizing` must have p of at most {LARGEST_P[num_qubits]:.6g} on {num_qubits} "
                f"qubits, but has {self.p}."
            )
        labels = list(map("".join, product("IXYZ", repeat=num_qubits)))
        weights = [max(left, 0.0), *[each] * (len(labels) - 1)]
        return [math.sqrt(weight) * pauli_matrix(label) for weight, label in zip(weights, labels)]

    def transfer(self, rates: Mapping[str, Any], num_qubits: int) -> Rows:
        """All but the identity shrink by 1 - p."""
        return _diagonal([1.0, *[1 - rates["p"]] * (4**num_qubits - 1)])


@register_noise_channel
class BitFlip(NoiseChannel):
    """X on each qubit with probability p; saturates at p = 1/2, no information left.

    Attributes:
        p: Probability of a flip, 0 to 1.
    """

    kind: ClassVar[str] = "bit_flip"
    p: Annotated[float, Rate(bound=0.5)] = Field(ge=0, le=1)

    def kraus(self, num_qubits: int) -> list[ComplexArray]:
        """sqrt(1 - p) I and sqrt(p) X."""
        return on_each([math.sqrt(1 - self.p) * PAULI["I"], math.sqrt(self.p) * PAULI["X"]], num_qubits)

    def transfer(self, rates: Mapping[str, Any], num_qubits: int) -> Rows:
        """Y and Z shrink by 1 - 2 p."""
        return _diagonal([1.0, 1.0, 1 - 2 * rates["p"], 1 - 2 * rates["p"]])


@register_noise_channel
class PauliChannel(NoiseChannel):
    """Pauli errors, each with a probability of its own; what is left of 1 is no error.

    One letter acts on each qubit by itself, two letters on both qubits of a gate together. With n labels the
    sum saturates at n / (n + 1): all errors and no error are equally likely when the probabilities are equal.

    Attributes:
        probabilities: By label, such as X or ZZ; the first letter acts on the gate's first qubit, as in
            `rzx`.
    """

    kind: ClassVar[str] = "pauli"
    probabilities: Annotated[dict[str, float], Rate()] = Field(min_length=1)

    @field_validator("probabilities", mode="before")
    @classmethod
    def _upper_case(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        upper = {str(key).upper(): one for key, one in value.items()}
        if len(upper) < len(value):
            raise ValueError(f"a label must stand once, but labels are {', '.join(map(str, value))}")
        return upper

    @field_validator("probabilities")
    @classmethod
    def _is_a_law(cls, value: dict[str, float]) -> dict[str, float]:
        sizes = {len(label) for label in value}
        known = all(set(label) <= set(PAULI) and set(label) != {"I"} for label in value)
        if len(sizes) > 1 or not sizes <= {1, 2} or not known:
            raise ValueError(
                "labels must be one or two of the letters I, X, Y, Z, all equally long and none of them the "
                f"identity, but are {', '.join(value)}"
            )
        if min(value.values()) < 0 or sum(value.values()) > 1 + ROUNDING:
            raise ValueError(f"probabilities must be at least 0 and sum to at most 1, but are {value}")
        return value

    @property
    def sizes(self) -> tuple[int, ...]:
        """The length of the labels."""
        return (len(next(iter(self.probabilities))),)

    def kraus(self, num_qubits: int) -> list[ComplexArray]:
        """sqrt(p) P for every label, and sqrt(1 - sum p) I."""
        left = max(0.0, 1 - sum(self.probabilities.values()))
        own = [math.sqrt(p) * pauli_matrix(label) for label, p in self.probabilities.items()]
        own.append(np.asarray(math.sqrt(left) * np.eye(2 ** self.sizes[0], dtype=complex)))
        return on_each(own, num_qubits // self.sizes[0])

    def transfer(self, rates: Mapping[str, Any], num_qubits: int) -> Rows:
        """Every string shrinks by 1 - 2 times the probability of the errors that anticommute with it."""
        errors = {label: rates[f"probabilities.{label}"] for label in self.probabilities}
        diagonal = []
        for string in product("IXYZ", repeat=num_qubits):
            lost: Any = sum(p for label, p in errors.items() if _anticommute(label, string))
            diagonal.append(1 - 2 * lost)
        return _diagonal(diagonal)

    def _total(self) -> tuple[float, float]:
        """Return the probability of any error, and where it saturates."""
        count = sum(p > 0 for p in self.probabilities.values())
        return sum(self.probabilities.values()), count / (count + 1)

    def saturates(self, factor: float) -> bool:
        """Return whether the sum of the probabilities reaches its bound."""
        total, bound = self._total()
        return total <= bound < total * factor

    def scaled(self, factor: float) -> Self:
        """Return the channel at another strength: all probabilities times one number; see the class."""
        check_factor(factor)
        total, bound = self._total()
        if total * factor > bound:
            factor = 1.0 if factor >= 1 and total > bound else bound / total
        probabilities = {label: p * factor for label, p in self.probabilities.items()}
        return validated(type(self), {"probabilities": probabilities}, "channel `pauli` scaled")


@register_noise_channel
class CoherentRotation(NoiseChannel):
    """Over-rotation: exp(-i angle P / 2) after the gate, the same every time; a factor multiplies the angle.

    Attributes:
        axis: P: one letter turns each qubit by itself, two letters (ZZ, ZX, ...) both qubits of a gate
            together, the first letter on the gate's first qubit, as in `rzx`.
        angle_rad: Angle in radians.
    """

    kind: ClassVar[str] = "coherent_rotation"
    axis: str = Field(pattern="^[XYZ]{1,2}$")
    angle_rad: Annotated[float, Rate("rad", bound=math.inf)]

    @field_validator("axis", mode="before")
    @classmethod
    def _upper_case(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of letters."""
        return (len(self.axis),)

    def kraus(self, num_qubits: int) -> list[ComplexArray]:
        """cos(angle / 2) I - i sin(angle / 2) P."""
        pauli, half = pauli_matrix(self.axis), self.angle_rad / 2
        unitary = math.cos(half) * np.eye(len(pauli)) - 1j * math.sin(half) * pauli
        return on_each([unitary], num_qubits // len(self.axis))

    def transfer(self, rates: Mapping[str, Any], num_qubits: int) -> Rows:
        """A string Q that anticommutes with P turns to cos(angle) Q + sin(angle) (-i P Q)."""
        cosine, sine = rates["angle_rad"].cos(), rates["angle_rad"].sin()
        strings = list(map("".join, product("IXYZ", repeat=num_qubits)))
        rows: list[list[Any]] = [[0.0] * len(strings) for _ in strings]
        for column, string in enumerate(strings):
            if not _anticommute(self.axis, string):
                rows[column][column] = 1.0
                continue
            turned = -1j * pauli_matrix(self.axis) @ pauli_matrix(string)
            overlaps = [np.trace(pauli_matrix(other) @ turned).real / len(turned) for other in strings]
            place = int(np.argmax(np.abs(overlaps)))
            rows[column][column], rows[place][column] = cosine, float(round(overlaps[place])) * sine
        return rows

    def scaled(self, factor: float) -> Self:
        """Return the rotation by the angle times a factor."""
        check_factor(factor)
        return self.model_copy(update={"angle_rad": self.angle_rad * factor})


def _anticommute(first: Sequence[str], second: Sequence[str]) -> bool:
    """Return whether two Pauli strings anticommute: an odd number of letters that differ, none of them I."""
    differing = [a != b and "I" not in (a, b) for a, b in zip(first, second, strict=True)]
    return sum(differing) % 2 == 1


def _diagonal(values: list[Any]) -> list[list[Any]]:
    size = range(len(values))
    return [[values[row] if row == column else 0.0 for column in size] for row in size]
