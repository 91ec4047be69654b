"""What a device would answer, from its calibration: exact values with shots drawn jointly, or Aer."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine
from qhybrid.engines.shots.sampler import ShotSampler
from qhybrid.engines.shots.source import ShotSource
from qhybrid.hardware.circuits.amplification import amplified
from qhybrid.hardware.circuits.prepared import PreparedCircuit, Pub
from qhybrid.noise import NoiseProfile
from qhybrid.seeding import derive_seed

Array = NDArray[np.float64]
NO_WEIGHTS = torch.empty(0, dtype=torch.float64)


class Simulation:
    """Executes measured circuits; engines are kept, since planning a contraction takes longer than using it.

    Args:
        simulator: `exact` or `aer`.
        noisy: Whether the device's noise counts.
    """

    def __init__(self, simulator: Literal["exact", "aer"] = "exact", noisy: bool = True) -> None:
        self._simulator, self._noisy = simulator, noisy
        self._engines: dict[tuple[int, int, float], Engine] = {}
        self._samplers: dict[tuple[int, int, int, int], ShotSampler] = {}
        self._met: dict[int, PreparedCircuit] = {}

    def means(self, pub: Pub, shots: int | None, *seed: int | str) -> list[Array]:
        """Return the means of a measured circuit's Z strings.

        Args:
            pub: The circuit with its points.
            shots: Executions of every parameter set; None for exact expectation values.
            *seed: Decides the shots.

        Returns:
            For every copy an array of shape (parameter sets, strings).
        """
        copies = len(pub.circuit.copies)
        values = pub.values
        rows = values.reshape(len(values), copies, pub.circuit.num_parameters)
        found = []
        for copy in range(copies):
            inputs = torch.as_tensor(np.ascontiguousarray(rows[:, copy]), dtype=torch.float64)
            number = derive_seed(0, *seed, copy) % 2**31
            run = self._aer if self._simulator == "aer" and shots is not None else self._exact
            found.append(run(pub, copy, inputs, shots, number).detach().numpy())
        return found

    def _number(self, circuit: PreparedCircuit) -> int:
        """Return what a circuit is kept under: one key may have several layouts, so the object decides."""
        self._met[id(circuit)] = circuit  # as long as it is held here no other one has its number
        return id(circuit)

    def _engine(self, pub: Pub, copy: int) -> Engine:
        key = (self._number(pub.circuit), copy, pub.circuit.variants[pub.variant].noise)
        if key not in self._engines:
            self._engines[key] = make_engine("exact", noise=self._noise(pub, copy))
        return self._engines[key]

    def _noise(self, pub: Pub, copy: int) -> NoiseProfile | None:
        """Return the noise on a place; that of twirled gates where a circuit has it raised."""
        place = pub.circuit.copies[copy]
        if place.noise is None or not self._noisy:
            return None
        if all(variant.noise == 1 for variant in pub.circuit.variants):
            return place.noise
        return amplified(
            place.noise, place.specs[pub.variant].circuit, pub.circuit.variants[pub.variant].noise
        )

    def _exact(self, pub: Pub, copy: int, inputs: torch.Tensor, shots: int | None, seed: int) -> torch.Tensor:
        spec = pub.circuit.copies[copy].specs[pub.variant]
        engine = self._engine(pub, copy)
        if shots is None:
            return engine.expectations(spec, inputs, NO_WEIGHTS)
        key = (self._number(pub.circuit), pub.variant, copy, shots)
        if key not in self._samplers:
            noise = self._noise(pub, copy)
            self._samplers[key] = ShotSampler(spec, engine.expectations, shots, "joint", noise)
        return self._samplers[key](inputs, NO_WEIGHTS, ShotSource(seed))

    def _aer(self, pub: Pub, copy: int, inputs: torch.Tensor, shots: int | None, seed: int) -> torch.Tensor:
        place = pub.circuit.copies[copy]
        noise = self._noise(pub, copy)
        engine = make_engine("aer", noise=noise, shots=shots, seed=seed, method="statevector")
        return engine.expectations(place.specs[pub.variant], inputs, NO_WEIGHTS)
