"""All distinct channels of a circuit from noise rates, by torch: differentiable, on any device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qhybrid.engines.exact.rates import Leaf, RatedChannel, RateLayout
from qhybrid.engines.gates.pauli_transfer import Array, transfer_matrix
from qhybrid.engines.noise.channels import channel_transfer
from qhybrid.engines.noise.readout import ROTATIONS
from qhybrid.noise.sections import GateError, PlacedChannel


@dataclass(frozen=True)
class _ErrorTable:
    """Distinct errors of gates of one size k.

    Attributes:
        p: Slots of the depolarizing parameters, shape (G,).
        t1: Slots of T1, shape (G, k).
        t2: Slots of T2, shape (G, k).
        microseconds: Durations, shape (G, k).
        channels: For each error its listed channels, in time order.
    """

    p: torch.Tensor
    t1: torch.Tensor
    t2: torch.Tensor
    microseconds: torch.Tensor
    channels: tuple[tuple[PlacedChannel, ...], ...]


class RateTable:
    """Computes the channels of a plan from rates, differentiably.

    Args:
        plan: The plan, after the circuit has been lowered and fused.
        leaves: For every register of channels the leaves it holds.
        like: Real tensor that shows dtype and device.
    """

    def __init__(self, plan: RateLayout, leaves: Sequence[Sequence[Leaf]], like: torch.Tensor) -> None:
        self._names, self._like = plan.names, like
        self._tables = {
            size: _error_table(plan, errors, like) for size, errors in plan.errors.items() if errors
        }
        slots = [[plan.slot(p01), plan.slot(p10)] for p01, p10, _, _ in plan.readouts]
        self._readout_slots = torch.as_tensor(slots, dtype=torch.long, device=like.device).reshape(-1, 2)
        gates = [[hadamard, dagger] for _, _, hadamard, dagger in plan.readouts]
        self._readout_gates = torch.as_tensor(gates, dtype=torch.long, device=like.device).reshape(-1, 2)
        self._constants = like.new_tensor(plan.constants)
        ones = len(plan.errors[1])
        offset = {"channel 1": 0, "readout": ones, "channel 2": 0}
        self._order = [
            torch.as_tensor([offset[kind] + i for kind, i in some], dtype=torch.long, device=like.device)
            for some in leaves
        ]
        dagger, hadamard = (transfer_matrix(gate.to_matrix()) for gate in ROTATIONS["Y"])
        self._dagger, self._hadamard = (torch.as_tensor(m).to(like) for m in (dagger, hadamard))
        self._decay = torch.as_tensor(_decay_parts()).to(like)
        self._identity = torch.eye(16).to(like)[0]

    def __call__(self, rates: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
        """Return the registers of channels: one qubit (N, 4, 4), two qubits (N, 4, 4, 4, 4)."""
        given = torch.stack([rates[name].to(self._like) for name in self._names])
        values = torch.cat([given, 2 * given, self._constants])
        single = self._channels(self._tables[1], values, rates)
        none = self._like.new_zeros(0, 4, 4, 4, 4)
        double = self._channels(self._tables[2], values, rates) if 2 in self._tables else none
        single = torch.cat([single, self._readouts(values, single)])
        return [single.index_select(0, self._order[0]), double.index_select(0, self._order[1])]

    def _readouts(self, values: torch.Tensor, single: torch.Tensor) -> torch.Tensor:
        """Return the maps from a Pauli vector to (1, <X>, <Y>, <Z>) as they are read, shape (N, 4, 4)."""
        p01, p10 = values[self._readout_slots].unbind(1)
        hadamard, dagger = single[self._readout_gates].unbind(1)
        zero = torch.zeros_like(p01)
        z = torch.stack([p01 - p10, zero, zero, 1 - p01 - p10], dim=1).unsqueeze(1)
        x = z @ hadamard @ self._hadamard
        y = x @ dagger @ self._dagger
        return torch.cat([self._identity[:4].expand(len(z), 1, 4), x, y, z], dim=1)

    def _channels(
        self, table: _ErrorTable, values: torch.Tensor, rates: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return all channels of one size; see `engines.noise.channels.gate_channel`."""
        e1, e2 = (torch.exp(-table.microseconds / values[slots]) for slots in (table.t1, table.t2))
        constant, on_e1, on_e2 = self._decay.unbind(0)
        decay = constant + e1[..., None, None] * on_e1 + e2[..., None, None] * on_e2
        size = decay.shape[1]
        joint = decay[:, 0] if size == 1 else torch.einsum("gab,gcd->gacbd", decay[:, 0], decay[:, 1])
        first = self._identity[: 4**size]
        kept = first + (1 - values[table.p]).unsqueeze(1) * (1 - first)
        result = joint * kept.reshape(-1, *(1,) * size, *(4,) * size)
        if not any(table.channels):
            return result
        listed = torch.stack([self._listed(own, size, rates) for own in table.channels])
        return (listed @ result.reshape(-1, 4**size, 4**size)).reshape(result.shape)

    def _listed(
        self, channels: Sequence[PlacedChannel], size: int, rates: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the matrix of a gate's listed channels, shape (4^k, 4^k)."""
        result = torch.eye(4**size).to(self._like)
        for placed in channels:
            matrix = self._transfer(placed, rates)
            if len(placed.places) < size:
                around = [torch.eye(4).to(self._like) for _ in range(size)]
                around[placed.places[0]] = matrix
                matrix = torch.kron(*around)
            result = matrix @ result
        return result

    def _transfer(self, placed: PlacedChannel, rates: Mapping[str, torch.Tensor]) -> torch.Tensor:
        channel, size = placed.channel, len(placed.places)
        if not isinstance(channel, RatedChannel):
            return torch.as_tensor(channel_transfer(channel, size).copy()).to(self._like)
        own = {rate: self._number(value) for rate, value in channel.channel.rates.items()}
        own |= {rate: rates[name].to(self._like) for rate, name in channel.names.items()}
        rows = channel.channel.transfer(own, size)
        assert rows is not None  # `rates.channel_rate` refuses kinds without
        return torch.stack([torch.stack([self._number(value) for value in row]) for row in rows])

    def _number(self, value: Any) -> torch.Tensor:
        return value if isinstance(value, torch.Tensor) else self._like.new_tensor(float(value))


def _error_table(plan: RateLayout, errors: Sequence[GateError], like: torch.Tensor) -> _ErrorTable:
    decays = [[(math.inf, math.inf, 0.0) if one is None else (one.t1_us, one.t2_us, one.ns / 1000)
               for one in error.relaxations] for error in errors]  # fmt: skip

    def index(values: object) -> torch.Tensor:
        return torch.as_tensor(values, dtype=torch.long, device=like.device)

    return _ErrorTable(
        index([plan.slot(error.p) for error in errors]),
        index([[plan.slot(t1) for t1, _, _ in own] for own in decays]),
        index([[plan.slot(t2) for _, t2, _ in own] for own in decays]),
        like.new_tensor([[us for _, _, us in own] for own in decays]),
        tuple(error.channels for error in errors),
    )


def _decay_parts() -> Array:
    """Return A, B, C of relaxation A + exp(-t/T1) B + exp(-t/T2) C, shape (3, 4, 4)."""
    parts = np.zeros((3, 4, 4))
    parts[0, 0, 0] = parts[0, 3, 0] = parts[1, 3, 3] = parts[2, 1, 1] = parts[2, 2, 2] = 1.0
    parts[1, 3, 0] = -1.0
    return parts
