"""The engine `routed` of recipes and commands: a named device, its calibrated noise, its own layouts."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.devices import load_device
from qhybrid.engines.base import Engine, check_noise
from qhybrid.engines.exact.plan import simulation_cost
from qhybrid.engines.make import make_engine
from qhybrid.engines.mapped import DeviceMapping, MappedEngine
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

INNER = ("exact", "aer")
LAYOUTS: dict[str, Callable[[CircuitSpec], float] | None] = {"simulation": simulation_cost, "gates": None}


def _inner(kind: str, options: dict[str, Any], noise: NoiseProfile | None) -> Engine:
    """Return an inner engine; a function of the module, so that engines can be sent to other processes."""
    return make_engine(kind, noise=noise, **options)


class RoutedEngine(MappedEngine):
    """Transpiles each circuit to a device once and executes the result on the qubits that it uses.

    Args:
        noise: Error rates by the device's qubits; None for those of its calibration. `NoiseProfile()` is a
            device without noise.
        shots: As of the inner engine.
        seed: As of the inner engine.
        device: As of the inner engine.
        dtype: As of the inner engine.
        backend: Name of a fake backend (`qhybrid.devices.list_devices()`).
        engine: What executes the routed circuits: "exact" or "aer".
        idle: Whether qubits also relax while they wait for others.
        scale: Factor on all error rates; decay times are divided by it.
        layout_seed: Decides the layouts that are tried.
        trials: Number of layouts that are tried.
        layout: Which of them is taken: "simulation" (the cheapest to simulate exactly, a few more two-qubit
            gates perhaps) or "gates" (fewest two-qubit gates, then smallest errors).
        options: Options of the inner engine, such as ``{"method": "density_matrix"}``.
    """

    kind = "routed"

    def __init__(
        self,
        noise: NoiseProfile | None = None,
        shots: int | None = None,
        seed: int | None = None,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        backend: str = "",
        engine: str = "exact",
        idle: bool = False,
        scale: float = 1.0,
        layout_seed: int = 0,
        trials: int = 8,
        layout: str = "simulation",
        options: dict[str, Any] | None = None,
    ) -> None:
        check_noise(noise)
        if not backend:
            raise EngineError(
                "Engine `routed` must be told a device, but option `backend` is not given. Fix: "
                "backend='fake_torino', or another of `qhybrid noise devices`."
            )
        if engine not in INNER:
            raise EngineError(f"Option `engine` must be one of {', '.join(INNER)}, but is {engine!r}.")
        if layout not in LAYOUTS:
            raise EngineError(f"Option `layout` must be one of {', '.join(LAYOUTS)}, but is {layout!r}.")
        if not isinstance(scale, int | float) or not 0 <= scale < math.inf:
            raise EngineError(f"Option `scale` must be a number of at least 0, but is {scale!r}.")
        found = load_device(backend)
        profile = NoiseProfile.from_backend(found) if noise is None else noise
        if idle:
            profile = profile.model_copy(update={"idle": "scheduled"})
        if scale != 1:
            profile = profile.scale(scale)
        given = {"shots": shots, "seed": seed, "device": device, "dtype": dtype, **(options or {})}
        make = partial(_inner, engine, given)
        super().__init__(make, DeviceMapping(found, layout_seed, trials, LAYOUTS[layout]), profile)
        # Bad options are found now and not at the first circuit.
        self._description = {
            "kind": self.kind,
            "calibration": found.date,
            "scale": scale,
            "trials": trials,
            "layout": layout,
            "engine": engine,
        }
        make(profile)

    def explain(self, spec: CircuitSpec, batch: int = 64) -> Any:
        """Return method and predicted cost of the routed circuit; see `ExactEngine.explain`.

        Raises:
            EngineError: If the inner engine predicts no costs.
        """
        routed = self._mapping.route(spec)
        engine = self._make(self._noise_of(routed))
        explain = getattr(engine, "explain", None)
        if explain is None:
            raise EngineError(f"Engine `{engine.kind}` predicts no costs. Fix: engine='exact'.")
        return explain(routed.spec, batch)

    def describe(self) -> dict[str, Any]:
        """Return what the inner engine says of itself, with the device, its calibration and its noise."""
        return {**super().describe(), **self._description}
