"""Where the channels of a profile act: after which gates, on which qubits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import SerializeAsAny, field_validator, model_serializer, model_validator

from qhybrid.config import StrictModel, validated
from qhybrid.errors import ConfigError, EngineError
from qhybrid.noise.channels.base import CHANNELS, NoiseChannel
from qhybrid.noise.sections import SYMMETRIC, PlacedChannel, gate_key, plain_key, renumbered

SIZES = {"1q": 1, "2q": 2}
"""Words for all gates of a size."""
DELAY = "delay"


class ChannelNoise(StrictModel):
    """A channel after some gates; in YAML one mapping with `kind`, the channel's own keys, `after`, `qubits`.

    Attributes:
        channel: What happens.
        after: Where: `1q` or `2q` (all gates on one or two qubits), names of gates, or `name qubit ...` as in
            `gates` of a profile; `delay` is every pause, written or scheduled. Nothing: after all gates that
            have enough qubits for the channel.
        qubits: The qubits that it acts on, among those of the gate; None for all. A channel on two qubits
            together needs both.
    """

    channel: SerializeAsAny[NoiseChannel]
    after: tuple[str, ...] = ()
    qubits: tuple[int, ...] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, value: Any) -> Any:
        if isinstance(value, NoiseChannel):
            return {"channel": value}
        if not isinstance(value, Mapping) or "channel" in value:
            return value
        content = dict(value)
        if "kind" not in content:
            raise ValueError(f"a channel must say its `kind`: one of {', '.join(CHANNELS.names())}")
        placing = {key: content.pop(key) for key in ("after", "qubits") if key in content}
        if placing.get("after", "1q") in ([], (), None):
            raise ValueError("`after` must name gates, or be left out: then it is after all of them")
        kind = content.pop("kind")
        try:
            channel = validated(CHANNELS.get(kind), content, f"channel `{kind}`")
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return {"channel": channel, **placing}

    @field_validator("after", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("after")
    @classmethod
    def _keys_are_readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            plain = tuple(map(plain_key, value))
        except ValueError as error:
            raise ValueError(f"an entry of `after` that is not 1q, 2q or delay {error}") from error
        for key in plain:
            name, *qubits = key.split()
            if name in (*SIZES, DELAY) and qubits:
                raise ValueError(f"`after`: `{name}` takes no qubits, but is {key!r}. Fix: the key `qubits`")
        return plain

    @model_validator(mode="after")
    def _can_act(self) -> Self:
        if not self.channel.sizes or not {1, 2}.issuperset(self.channel.sizes):
            raise ValueError(
                f"channel `{self.channel.kind}` must act on one or two qubits, as gates with noise do, but "
                f"its `sizes` are {list(self.channel.sizes)}"
            )
        needed = min(self.channel.sizes)
        own = self.qubits
        if own is not None and (len(set(own)) < max(needed, len(own)) or min(own) < 0):
            raise ValueError(
                f"`qubits` must be at least {needed} distinct indices for channel `{self.channel.kind}`, but "
                f"is {list(own)}"
            )
        short = [key for key in self.after if {**SIZES, DELAY: 1}.get(key, needed) < needed]
        if short:
            raise ValueError(
                f"channel `{self.channel.kind}` acts on {needed} qubits together and cannot follow "
                f"`{short[0]}`"
            )
        return self

    @model_serializer(mode="plain")
    def _flat(self) -> dict[str, Any]:
        content = {"kind": self.channel.kind, **self.channel.model_dump(exclude_none=True)}
        if self.after:
            content["after"] = list(self.after)
        if self.qubits is not None:
            content["qubits"] = list(self.qubits)
        return content

    @property
    def gate_names(self) -> tuple[str, ...]:
        """Names of gates that it lists."""
        names = (key.split()[0] for key in self.after)
        return tuple(dict.fromkeys(name for name in names if name not in (*SIZES, DELAY)))

    @property
    def label(self) -> str:
        """What tables call it: the channel, and where it acts."""
        where = "".join([" after ", ", ".join(self.after)] if self.after else [])
        on = "" if self.qubits is None else f" on {', '.join(map(str, self.qubits))}"
        return f"{self.channel.label}{where}{on}"

    def placed(self, name: str, qubits: tuple[int, ...]) -> tuple[PlacedChannel, ...]:
        """Return the channel on the qubits of one gate: once, once for each qubit, or not at all.

        Args:
            name: Qiskit's name of the gate, or `delay`.
            qubits: The qubits it acts on.

        Raises:
            EngineError: If the gate is listed, but has too few qubits for the channel.
        """
        if not self._follows(name, qubits):
            return ()
        sizes = self.channel.sizes
        if len(qubits) < min(sizes):
            raise EngineError(
                f"Channel `{self.channel.kind}` acts on {min(sizes)} qubits together, but is listed after "
                f"gate `{name}` on {len(qubits)}. Fix: take the gate out of `after`."
            )
        places = tuple(i for i, qubit in enumerate(qubits) if self.qubits is None or qubit in self.qubits)
        if places and len(places) in sizes:
            return (PlacedChannel(self.channel, places),)
        return tuple(PlacedChannel(self.channel, (place,)) for place in places) if 1 in sizes else ()

    def _follows(self, name: str, qubits: tuple[int, ...]) -> bool:
        if not self.after:
            return name != DELAY and len(qubits) >= min(self.channel.sizes)
        keys = {name, gate_key(name, qubits)}
        if name in SYMMETRIC:
            keys.add(gate_key(name, qubits[::-1]))
        if name != DELAY:
            keys |= {word for word, size in SIZES.items() if size == len(qubits)}
        return not keys.isdisjoint(self.after)

    def scaled(self, factor: float) -> ChannelNoise:
        """Return it with its channel at another strength; see `NoiseChannel.scaled`."""
        return self.model_copy(update={"channel": self.channel.scaled(factor)})

    def restricted(self, place: Mapping[int, int]) -> ChannelNoise | None:
        """Return it for some qubits, numbered anew; None if it acts on none of these.

        Args:
            place: The new index of every qubit that is kept.
        """
        after = tuple(key for key in (renumbered(key, place) for key in self.after) if key is not None)
        qubits = None if self.qubits is None else tuple(place[q] for q in self.qubits if q in place)
        if (self.after and not after) or (qubits is not None and len(qubits) < min(self.channel.sizes)):
            return None
        return self.model_copy(update={"after": after, "qubits": qubits})
