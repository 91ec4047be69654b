"""What every kind of noise channel has: rates, Kraus operators, scaling.

A kind is one class: a `NoiseChannel` with its rates as fields and its Kraus operators. All else follows from
these: Pauli-transfer matrices, Aer's errors, scaling, tables. `transfer` is needed for gradients alone.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from typing import Any, ClassVar, Literal, Self, TypeVar, overload

import numpy as np

from qhybrid.config import StrictModel, validated
from qhybrid.errors import ConfigError, PluginError, QHybridError
from qhybrid.noise.paulis import ComplexArray
from qhybrid.plugins import Registry

LARGEST_P = {1: 4 / 3, 2: 16 / 15}
"""Largest depolarizing parameter that is still a channel, by number of qubits."""
COMPLETENESS = 1e-9
"""Largest deviation of sum K^dagger K from the identity."""
RESERVED = ("kind", "after", "qubits", "channel")
"""Keys of a profile's list of channels that are no fields of a channel."""
ROUNDING = 1e-12
"""How far sums and limits may be off by rounding."""
Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Rate:
    """What a number of a channel is; it stands beside its field.

    ``p: Annotated[float, Rate()] = Field(ge=0, le=1)``

    Attributes:
        unit: For tables; "" for probabilities.
        law: How it follows a factor on the noise: rates and angles are multiplied, times are divided.
        bound: Where a multiplied rate saturates; infinity for angles.
    """

    unit: str = ""
    law: Literal["multiplied", "divided"] = "multiplied"
    bound: float = 1.0

    def scaled(self, value: float, factor: float) -> float | None:
        """Return a value at another strength of the noise; None for a time without end."""
        if self.law == "divided":
            return value / factor if factor else None
        return saturated(value, factor, self.bound)


class NoiseChannel(StrictModel):
    """One kind of noise after a gate.

    Attributes:
        kind: Its name in profiles.
        sizes: Numbers of qubits on which it acts as one. A kind of size 1 alone acts on each qubit of a gate
            by itself.
    """

    kind: ClassVar[str]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of qubits on which it acts as one."""
        return (1,)

    @abstractmethod
    def kraus(self, num_qubits: int) -> list[ComplexArray]:
        """Return the Kraus operators K of rho -> sum K rho K^dagger.

        Args:
            num_qubits: One of `sizes`; kinds of size 1 may take any number, see `on_each`.

        Returns:
            Matrices, or Qiskit's `Kraus`, of shape (2^k, 2^k) in Qiskit's order: the gate's first qubit is
            the least significant bit.
        """

    def transfer(self, rates: Mapping[str, Any], num_qubits: int) -> Rows | None:
        """Return the Pauli-transfer matrix as a function of the rates; None: no gradients for this kind.

        Args:
            rates: Real torch tensors without dimensions, by the names of `rates`.
            num_qubits: One of `sizes`.

        Returns:
            Rows of numbers and tensors, 4^k by 4^k: v_P -> sum_Q R_PQ v_Q over the Pauli strings in the order
            I, X, Y, Z, the gate's first qubit being the most significant digit.
        """
        return None

    @property
    def label(self) -> str:
        """What tables call it: its kind, and the settings that are no rates."""
        rates = self.rate_fields()
        settings = [f"{key} {value}" for key, value in self if key not in rates and value is not None]
        return " ".join([self.kind.replace("_", " "), *([f"({', '.join(settings)})"] if settings else [])])

    @property
    def rates(self) -> dict[str, float]:
        """Its rates by name; of a field with several, `field.key`."""
        return {name: value for name, (_, value) in self._listed().items()}

    @property
    def units(self) -> dict[str, str]:
        """The units of its rates; "" for probabilities."""
        return {name: rate.unit for name, (rate, _) in self._listed().items()}

    def scaled(self, factor: float) -> Self:
        """Return the channel at another strength: 0 is the identity, 1 the channel itself.

        Rates are multiplied and saturate, times are divided, angles are multiplied.

        Raises:
            ConfigError: If the factor is negative or not finite.
        """
        check_factor(factor)
        changed = {
            name: self._scaled_field(rate, getattr(self, name), factor)
            for name, rate in self.rate_fields().items()
        }
        return validated(type(self), {**dict(self), **changed}, f"channel `{self.kind}` scaled by {factor:g}")

    def _scaled_field(self, rate: Rate, value: Any, factor: float) -> Any:
        if isinstance(value, Mapping):
            return {key: rate.scaled(one, factor) for key, one in value.items()}
        return None if value is None else rate.scaled(value, factor)

    def saturates(self, factor: float) -> bool:
        """Return whether `scaled` gives less than the factor asks for, because a rate reaches its bound."""
        return any(
            rate.law == "multiplied" and value <= rate.bound < value * factor
            for rate, value in self._listed().values()
        )

    def with_rates(self, values: Mapping[str, float]) -> Self:
        """Return the channel with other rates, which are not checked.

        Raises:
            KeyError: If the channel has no such rate.
        """
        known: dict[str, float] = self.rates
        changed: dict[str, Any] = {}
        for name, value in values.items():
            field, _, key = name.partition(".")
            if name not in known:
                raise KeyError(name)
            changed[field] = {**changed.get(field, getattr(self, field)), key: value} if key else value
        return self.model_copy(update=changed)

    @classmethod
    def rate_fields(cls) -> dict[str, Rate]:
        """Return the fields that are rates."""
        found = {
            name: next((one for one in field.metadata if isinstance(one, Rate)), None)
            for name, field in cls.model_fields.items()
        }
        return {name: rate for name, rate in found.items() if rate is not None}

    def _listed(self) -> dict[str, tuple[Rate, float]]:
        listed: dict[str, tuple[Rate, float]] = {}
        for name, rate in self.rate_fields().items():
            value = getattr(self, name)
            if isinstance(value, Mapping):
                listed |= {f"{name}.{key}": (rate, one) for key, one in value.items()}
            elif value is not None:
                listed[name] = (rate, value)
        return listed

    def __hash__(self) -> int:
        return hash((type(self), self.model_dump_json()))


KindT = TypeVar("KindT", bound=type[NoiseChannel])
CHANNELS: Registry[type[NoiseChannel]] = Registry("noise channel")
"""Kinds of noise channels by name."""


@overload
def register_noise_channel(kind: KindT, *, replace: bool = False) -> KindT: ...


@overload
def register_noise_channel(kind: None = None, *, replace: bool = False) -> Callable[[KindT], KindT]: ...


def register_noise_channel(kind: Any = None, *, replace: bool = False) -> Any:
    """Make a kind of channel known to profiles, by its `kind`; also as a decorator.

    Args:
        kind: The class.
        replace: Whether it may take the place of another one, as of a notebook's cell that runs again.

    Raises:
        PluginError: If it is no channel, has no name, its name is taken, or a field is called like a key of
            the profile.
    """
    if kind is None:
        return partial(register_noise_channel, replace=replace)
    if not (isinstance(kind, type) and issubclass(kind, NoiseChannel)):
        raise PluginError(f"A noise channel must be a subclass of NoiseChannel, but is {kind!r}.")
    taken = sorted(set(RESERVED) & set(kind.model_fields))
    if taken or not isinstance(getattr(kind, "kind", None), str):
        raise PluginError(
            f"Noise channel `{kind.__name__}` must have a class attribute `kind` and no field called "
            f"{', '.join(RESERVED)}, but has {f'field `{taken[0]}`' if taken else 'no `kind`'}."
        )
    return CHANNELS.register(kind.kind, kind, replace=replace)


@lru_cache(maxsize=1024)
def checked_kraus(channel: NoiseChannel, num_qubits: int) -> tuple[ComplexArray, ...]:
    """Return a channel's Kraus operators.

    Raises:
        ConfigError: If it does not act on that many qubits, or its operators are of another shape or do not
            preserve the trace: sum K^dagger K = I must hold within 1e-9.
    """
    if num_qubits not in channel.sizes:
        allowed = " or ".join(map(str, channel.sizes))
        raise ConfigError(
            f"Noise channel `{channel.kind}` acts on {allowed} qubits, but not on {num_qubits}."
        )
    try:
        given: Any = channel.kraus(num_qubits)
        # Qiskit's `Kraus` keeps them; arrays have another `data`.
        listed = given.data if type(given).__name__ == "Kraus" else given
        operators = tuple(np.asarray(one, dtype=complex) for one in listed)
    except QHybridError:
        raise
    except Exception as error:  # anything may go wrong in channels of others
        raise ConfigError(
            f"Noise channel `{channel.kind}` must give its Kraus operators on {num_qubits} qubit(s) as a "
            f"list of matrices, but `kraus` fails ({type(error).__name__}: {error})."
        ) from error
    side = 2**num_qubits
    if not operators or any(one.shape != (side, side) for one in operators):
        raise ConfigError(
            f"Kraus operators of noise channel `{channel.kind}` on {num_qubits} qubit(s) must have shape "
            f"{(side, side)}, but have {[one.shape for one in operators]}."
        )
    deviation = float(np.abs(sum(one.conj().T @ one for one in operators) - np.eye(side)).max())
    if not deviation <= COMPLETENESS:
        raise ConfigError(
            f"Noise channel `{channel.kind}` must preserve the trace (sum K^dagger K = I), but deviates by "
            f"{deviation:.2e} with {channel.rates}."
        )
    return operators


@lru_cache(maxsize=1024)
def is_identity(channel: NoiseChannel, num_qubits: int) -> bool:
    """Return whether a channel does nothing: every Kraus operator is a number times the identity."""
    return all(
        np.array_equal(one, one[0, 0] * np.eye(len(one))) for one in checked_kraus(channel, num_qubits)
    )


def on_each(operators: Sequence[ComplexArray], num_qubits: int) -> list[ComplexArray]:
    """Return the Kraus operators of a one-qubit channel that acts on each of several qubits by itself."""
    products = []
    for chosen in product(operators, repeat=num_qubits):
        result = np.eye(1, dtype=complex)
        for one in chosen:
            result = np.kron(one, result)
        products.append(result)
    return products


def saturated(value: float, factor: float, bound: float) -> float:
    """Return value times factor, at most `bound`; what is beyond it stays for factors of at least 1."""
    return value if factor >= 1 and value > bound else min(value * factor, bound)


def check_factor(factor: float) -> None:
    """Check a factor on noise.

    Raises:
        ConfigError: If it is negative or not finite.
    """
    if not (math.isfinite(factor) and factor >= 0):
        raise ConfigError(f"Argument `factor` must be a number of at least 0, but is {factor}.")
