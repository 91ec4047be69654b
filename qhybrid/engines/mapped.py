"""Circuits as a device would run them: routed to its couplings and gates, on its qubits, with their noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from qhybrid.circuits.delays import has_delays
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.devices import Device
from qhybrid.engines.base import Engine
from qhybrid.noise import NoiseProfile

DEFAULT_TRIALS = 4
"""Runs of the transpiler for one circuit, of which the best is taken."""


@dataclass(frozen=True)
class RoutedCircuit:
    """A circuit on the qubits of a device that it uses.

    Attributes:
        spec: The routed circuit on these qubits alone, numbered from 0.
        qubits: The device's qubits, in that order.
    """

    spec: CircuitSpec
    qubits: tuple[int, ...]

    @property
    def gate_counts(self) -> Mapping[str, int]:
        """Number of gates of each name."""
        return {str(name): int(count) for name, count in self.spec.circuit.count_ops().items()}


class DeviceMapping:
    """Routes circuits to a device; each circuit once.

    Args:
        device: Its couplings and gates.
        seed: Decides the layouts.
        trials: Runs of the transpiler.
        cost: Chooses among their results; see `CircuitSpec.transpile`.
    """

    def __init__(
        self,
        device: Device,
        seed: int = 0,
        trials: int = DEFAULT_TRIALS,
        cost: Callable[[CircuitSpec], Any] | None = None,
    ) -> None:
        self.device = device
        self.seed = seed
        self.trials = trials
        self.cost = cost
        self._routed: dict[str, RoutedCircuit] = {}

    def route(self, spec: CircuitSpec) -> RoutedCircuit:
        """Return the circuit as the device runs it.

        Raises:
            CircuitError: If the circuit does not fit the device.
        """
        if spec.fingerprint not in self._routed:
            routed = spec.transpile(self.device.target, self.seed, trials=self.trials, cost=self.cost)
            qubits = routed.used_qubits
            self._routed[spec.fingerprint] = RoutedCircuit(routed.restrict(qubits), qubits)
        return self._routed[spec.fingerprint]


class MappedEngine(Engine):
    """Executes routed circuits on another engine; inputs, weights and observables are the circuit's own.

    Args:
        make: Makes the engine of a noise profile (None: no noise).
        mapping: Routes the circuits.
        profile: Noise of the device, on its own qubits; it is restricted to those a circuit uses.
    """

    kind = "mapped"

    def __init__(
        self,
        make: Callable[[NoiseProfile | None], Engine],
        mapping: DeviceMapping,
        profile: NoiseProfile | None,
    ) -> None:
        self._make = make
        self._mapping = mapping
        self._profile = profile
        self._engines: dict[str, Engine] = {}
        self._new_seed: int | None = None

    def expectations(self, spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the routed circuit's expectation values, shape (B, n_obs); see `Engine.expectations`."""
        routed = self._mapping.route(spec)
        if spec.fingerprint not in self._engines:
            self._engines[spec.fingerprint] = self._make(self._noise_of(routed))
            if self._new_seed is not None:
                self._engines[spec.fingerprint].reseed(self._new_seed)
        return self._engines[spec.fingerprint].expectations(routed.spec, inputs, weights)

    def _noise_of(self, routed: RoutedCircuit) -> NoiseProfile | None:
        """Return the noise of a routed circuit; of one that waits with the length of the device's clock."""
        if self._profile is None:
            return None
        noise, dt = self._profile.restrict(routed.qubits), self._mapping.device.target.dt
        if noise.dt_ns is None and dt and has_delays(routed.spec.circuit):
            noise = noise.model_copy(update={"dt_ns": dt * 1e9})
        return noise

    def reseed(self, seed: int) -> None:
        """Draw from another seed from now on, for circuits that come later too; see `Engine.reseed`."""
        self._new_seed = seed
        for engine in self._engines.values():
            engine.reseed(seed)

    def circuit_key(self, spec: CircuitSpec) -> str:
        """Return the hash of the routed circuit and of its qubits, which decide its noise."""
        routed = self._mapping.route(spec)
        return f"{routed.spec.fingerprint} on {','.join(map(str, routed.qubits))}"

    def describe(self) -> dict[str, Any]:
        """Return what the engine says of itself, with the device and the noise on its qubits."""
        inner = self._make(self._profile)
        if self._new_seed is not None:
            inner.reseed(self._new_seed)
        return {
            **inner.describe(),
            "device": self._mapping.device.name,
            "transpile_seed": self._mapping.seed,
        }
