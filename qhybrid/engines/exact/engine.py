"""The exact engine's face: arguments in, expectation values out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engine_kinds import check_count, check_seed
from qhybrid.engines.base import (
    Engine,
    attached,
    check_arguments,
    check_noise,
    described_noise,
    empty_result,
    ordinary_tensors,
)
from qhybrid.engines.exact.announce import announced
from qhybrid.engines.exact.cost import memory_limit
from qhybrid.engines.exact.density.execute import DensityExecutor
from qhybrid.engines.exact.explain import Explanation, explain_plan, part_samples
from qhybrid.engines.exact.kept_plans import kept_plan
from qhybrid.engines.exact.mps.method import ChainMethod
from qhybrid.engines.exact.native.execute import NativeExecutor, NotFiniteValues
from qhybrid.engines.exact.native.library import kernels
from qhybrid.engines.exact.network import Network
from qhybrid.engines.exact.options import (
    METHODS,
    by_kernels,
    check_graphs,
    check_kernel,
    check_shots_options,
    refusal,
    usable_device,
)
from qhybrid.engines.exact.plan import NOMINAL_BATCH, CircuitPlan
from qhybrid.engines.exact.rated import RatedCircuit
from qhybrid.engines.exact.rates import check_rates
from qhybrid.engines.exact.replay import CudaGraphs, ReplayedExecutor
from qhybrid.engines.exact.statevector.execute import EVERYTHING, StateExecutor
from qhybrid.engines.exact.statevector.plan import StatePlan
from qhybrid.engines.shots.sampler import SHOTS_SCHEME, ShotSampler
from qhybrid.engines.shots.source import ShotSource
from qhybrid.engines.transforms import is_transformed, plain_values
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

LARGEST_MEMORY = 256
"""Sizes of batches, of all circuits together, whose way is remembered."""
PLAIN = (torch.Tensor, torch.nn.Parameter)
"""Tensors whose memory the compiled library may read."""
Executor = Network | StateExecutor | NativeExecutor | DensityExecutor | ReplayedExecutor


class ExactEngine(Engine):
    """Exact expectation values, differentiable in inputs and weights as often as wanted.

    Circuits are contracted as Pauli-transfer networks of their light cones, or run as batched statevectors,
    or, under noise, as density matrices, whichever is predicted to be fastest.

    Args:
        noise: Error rates of gates and read-outs; None for none.
        shots: Shots of every measured basis; None for exact values. Gradients are always those of the exact
            values.
        seed: Seed of the shots; None for a new one each time.
        device: Torch device of the arithmetic.
        dtype: Arithmetic, torch.float32 or torch.float64; None follows the inputs. Results have the inputs'
            dtype.
        method: "network", "statevector", "density" (noise on gates, up to 12 qubits, compiled kernels), or
            "auto" for the cheapest of them. "mps" is a matrix product state, for
            wide circuits of few layers; it is exact or has an error bound, and "auto" never takes it.
        shots_law: "joint" (observables of one basis share their shots) or "independent" (each string has its
            own); None is joint.
        bond: Largest bond of "mps"; None is 64. No bond ever needs more than 2^(gates across a cut).
        tolerance: Largest error bound of a value that "mps" may return; None is 1e-6.
        kernel: What executes statevectors: "compiled", "torch", or None for the compiled kernels where they
            are installed and the device is the CPU; only these execute density matrices. Values agree to
            rounding: `describe` leaves it out.
        cuda_graphs: On a CUDA device, record value and gradient of a batch size at its second call and replay
            them. Values agree to rounding: `describe` leaves it out.
    """

    kind = "exact"

    def __init__(
        self,
        noise: NoiseProfile | None = None,
        shots: int | None = None,
        seed: int | None = None,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        method: str = "auto",
        shots_law: str | None = None,
        bond: int | None = None,
        tolerance: float | None = None,
        kernel: str | None = None,
        cuda_graphs: bool = False,
    ) -> None:
        check_noise(noise)
        shots, seed = check_count(shots), check_seed(seed)
        check_shots_options(shots, seed, shots_law)
        if dtype not in (None, torch.float32, torch.float64):
            raise EngineError(f"Argument `dtype` must be float32 or float64, but is {dtype}.")
        if method not in METHODS:
            raise EngineError(f"Option `method` must be one of {', '.join(METHODS)}, but is {method!r}.")
        if method != "mps" and (bond is not None or tolerance is not None):
            raise EngineError(
                f"Options `bond` and `tolerance` need method='mps', but the method is {method!r}."
            )
        self._device = usable_device(device)
        self._dtype = dtype
        self._method = method
        check_kernel(kernel, method, self._device)
        self._kernel = kernel
        check_graphs(cuda_graphs, method, self._device)
        self._cuda_graphs = cuda_graphs
        self._noise = noise
        self._chains = ChainMethod(noise, bond, tolerance) if method == "mps" else None
        self._shots = shots
        self._seed = seed
        self._law = shots_law or "joint"
        self._source = ShotSource(seed)
        self._samplers: dict[str, ShotSampler] = {}
        self._explanations: dict[tuple[str, torch.dtype], tuple[tuple[int, int], Explanation]] = {}
        self._plans: dict[str, CircuitPlan] = {}
        self._rated: dict[tuple[str, tuple[str, ...], torch.dtype], RatedCircuit] = {}
        self._executors: dict[tuple[str, str, torch.dtype], Executor] = {}
        self._direct: dict[tuple[str, torch.Size, torch.dtype, int], NativeExecutor] = {}

    def expectations(
        self,
        spec: CircuitSpec,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        rates: Mapping[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Return the expectation values of all observables, shape (B, n_obs); see `Engine.expectations`.

        Args:
            spec: The circuit and its observables.
            inputs: Input angles in radians, shape (B, n_in).
            weights: Trainable angles in radians, shape (n_w,).
            rates: Tensors without dimensions that take the place of rates of the engine's noise profile, by
                name: `p_1q`, `p_2q`, `t1_us`, `t2_us`, `readout_p01`, `readout_p10`, and those of its
                sections, `qubits.3.t1_us` or `gates.cx 0 1.p`, and channels, `channels.0.gamma`. Gradients
                flow to them too.

        Raises:
            EngineError: Also if no method fits the memory; the message carries the numbers.
        """
        check_arguments(spec, inputs, weights)
        if rates:
            return self._with_rates(spec, inputs, weights, rates)
        if not len(inputs):
            return empty_result(spec, inputs, weights)
        if self._shots is None:
            return self._exact(spec, inputs, weights)
        if spec.fingerprint not in self._samplers:
            sampler = ShotSampler(spec, self._exact, self._shots, self._law, self._noise)
            self._samplers[spec.fingerprint] = sampler
        if is_transformed():
            # Draws know no transforms: they are made of plain values, and the derivative is the exact one's.
            drawn = plain_values(partial(self._drawn, spec), inputs, weights)
            values = self._exact(spec, inputs, weights)
            return drawn + (values - values.detach())
        return attached(self._drawn(spec, inputs, weights), inputs, weights, every=False)

    def direct(self, spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor | None:
        """Return the values of a call like an earlier one that the compiled kernels executed; else None."""
        if type(inputs) not in PLAIN or type(weights) not in PLAIN or not (inputs.is_cpu and weights.is_cpu):
            return None
        if inputs.layout != torch.strided or weights.layout != torch.strided:
            return None
        key = (spec.fingerprint, inputs.shape, inputs.dtype, memory_limit(self._device))
        executor = self._direct.get(key)
        if executor is None or weights.shape != (spec.num_weights,) or weights.dtype != executor.dtype:
            return None
        try:
            return executor.samples(inputs, weights, finite=True)
        except NotFiniteValues:
            return None  # the checks say what is wrong

    def _remember(self, spec: CircuitSpec, inputs: torch.Tensor, executor: Executor) -> None:
        """Let calls of that size go straight to the compiled kernels, where these do all there is to do."""
        if self._shots is None and isinstance(executor, NativeExecutor) and inputs.dtype == executor.dtype:
            if len(self._direct) >= LARGEST_MEMORY:
                self._direct.clear()
            key = (spec.fingerprint, inputs.shape, inputs.dtype, memory_limit(self._device))
            self._direct[key] = executor

    def _drawn(self, spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return self._samplers[spec.fingerprint](inputs, weights, self._source)

    def _exact(self, spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        dtype = self._arithmetic(inputs.dtype)
        found = self._explained(spec, len(inputs), dtype)
        if found.method == "refused":
            raise EngineError(refusal(spec, found))
        rows = inputs.to(device=self._device, dtype=dtype).t().contiguous()
        moved = weights.to(device=self._device, dtype=dtype)
        if self._chains is not None:
            values, every = self._chains.values(spec, rows, moved), True
        else:
            executor = self._executor(spec, found.method, dtype)
            values, every = executor(rows, moved), isinstance(executor, StateExecutor)
            self._remember(spec, inputs, executor)
        values = values.t().to(device=inputs.device, dtype=inputs.dtype)
        return attached(values, inputs, weights, every=every)

    def _with_rates(
        self,
        spec: CircuitSpec,
        inputs: torch.Tensor,
        weights: torch.Tensor,
        rates: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        if self._shots is not None or self._method in ("statevector", "density", "mps"):
            raise EngineError(
                "Argument `rates` needs exact values from the network, but the engine has "
                f"shots={self._shots} and method={self._method!r}. Fix: make_engine('exact', noise=...)."
            )
        noise = check_rates(self._noise, rates)
        dtype = self._arithmetic(inputs.dtype)
        if not len(inputs):
            return empty_result(spec, inputs, weights)
        key = (spec.fingerprint, tuple(rates), dtype)
        if key not in self._rated:
            with ordinary_tensors(), announced(spec.name):
                like = torch.empty(0, dtype=dtype, device=self._device)
                self._rated[key] = RatedCircuit(spec, noise, tuple(rates), like)
        rated, limit = self._rated[key], memory_limit(self._device)
        found = explain_plan(rated.plan, max(1, len(inputs)), dtype.itemsize, limit, self._device.type)
        if found.method == "refused":
            raise EngineError(refusal(spec, found))
        rows = inputs.to(device=self._device, dtype=dtype).t().contiguous()
        values = rated(rows, weights.to(device=self._device, dtype=dtype), rates)
        values = values.t().to(device=inputs.device, dtype=inputs.dtype)
        return attached(values, inputs, weights, *rates.values())

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to other processes: plans go along, compiled operations are made anew there."""
        return {**self.__dict__, "_executors": {}, "_direct": {}, "_samplers": {}, "_rated": {}}

    def explain(self, spec: CircuitSpec, batch: int = NOMINAL_BATCH) -> Explanation:
        """Return the method that would be used for a batch of that size, and its predicted cost.

        Args:
            spec: The circuit and its observables.
            batch: Number of samples of one call.
        """
        return self._explained(spec, batch, self._dtype or torch.float32)

    @property
    def last_error_bound(self) -> torch.Tensor | None:
        """Bound of what truncation changed in the last call's values, shape (B, n_obs); zeros where exact.

        Float64 on the CPU. None before the first call of "mps" and for all other methods.
        """
        return None if self._chains is None or self._shots is not None else self._chains.error_bound

    def reseed(self, seed: int) -> None:
        """Draw shots from another seed from now on; see `Engine.reseed`. Exact values stay what they are."""
        if self._shots is not None:
            self._seed = seed
            self._source.reseed(seed)

    def without_shots(self) -> ExactEngine:
        """Return an engine of the same noise, device, arithmetic and method that gives exact values."""
        chains = self._chains
        return ExactEngine(
            self._noise,
            device=str(self._device),
            dtype=self._dtype,
            method=self._method,
            bond=None if chains is None else chains.bond,
            tolerance=None if chains is None else chains.tolerance,
            kernel=self._kernel,
            cuda_graphs=self._cuda_graphs,
        )

    def describe(self) -> dict[str, Any]:
        """Return kind, options, shots, seed and noise."""
        chains = self._chains
        limits = {} if chains is None else {"bond": chains.bond, "tolerance": chains.tolerance}
        drawn = {} if self._shots is None else {"shots_scheme": SHOTS_SCHEME}
        return {
            "kind": self.kind,
            "device": str(self._device),
            "dtype": None if self._dtype is None else str(self._dtype).removeprefix("torch."),
            "method": self._method,
            **limits,
            "shots": self._shots,
            "shots_law": None if self._shots is None else self._law,
            "seed": self._seed,
            **described_noise(self._noise),
            **drawn,
        }

    def _arithmetic(self, dtype: torch.dtype) -> torch.dtype:
        return self._dtype or (torch.float64 if dtype == torch.float64 else torch.float32)

    def _plan(self, spec: CircuitSpec) -> CircuitPlan:
        if spec.fingerprint not in self._plans:
            only = self._method == "network" or not self._uses_kernels
            self._plans[spec.fingerprint] = kept_plan(spec, self._noise, only)
        return self._plans[spec.fingerprint]

    def _explained(self, spec: CircuitSpec, batch: int, dtype: torch.dtype) -> Explanation:
        key = (batch, memory_limit(self._device))
        known = self._explanations.get((spec.fingerprint, dtype))
        if known is None or known[0] != key:
            if self._chains is not None:
                found = self._chains.explain(spec, batch, dtype.itemsize, key[1])
            else:
                plan, kind = self._plan(spec), self._device.type
                options = (self._method, self._uses_kernels)
                found = explain_plan(plan, batch, dtype.itemsize, key[1], kind, *options)
                if self._kernel == "compiled":
                    found = by_kernels(spec, plan, found)
            known = self._explanations[spec.fingerprint, dtype] = key, found
        return known[1]

    def _executor(self, spec: CircuitSpec, method: str, dtype: torch.dtype) -> Executor:
        key = (spec.fingerprint, method, dtype)
        if key not in self._executors:
            with ordinary_tensors(), announced(spec.name):
                self._executors[key] = self._replayed(self._compiled(spec, method, dtype))
        return self._executors[key]

    def _statevector(
        self, states: StatePlan, sizes: tuple[int, int, int], like: torch.Tensor
    ) -> StateExecutor | NativeExecutor:
        rotations = states.rotations
        if not self._uses_kernels or rotations is None:
            return StateExecutor(states, sizes, like)
        return NativeExecutor(rotations, sizes, like, kernels(), lambda: StateExecutor(states, sizes, like))

    @property
    def _uses_kernels(self) -> bool:
        return self._kernel != "torch" and self._device.type == "cpu" and kernels().library is not None

    def _replayed(self, executor: Executor) -> Executor:
        if not self._cuda_graphs:
            return executor
        graphs = CudaGraphs(self._device)
        if isinstance(executor, Network):
            return ReplayedExecutor(executor.twin, graphs, executor.part)
        return ReplayedExecutor(executor, graphs, EVERYTHING)

    def _compiled(self, spec: CircuitSpec, method: str, dtype: torch.dtype) -> Executor:
        plan = self._plan(spec)
        like = torch.empty(0, dtype=dtype, device=self._device)
        sizes = (spec.num_inputs, spec.num_weights, spec.num_observables)
        if method == "statevector" and plan.states is not None:
            return self._statevector(plan.states, sizes, like)
        if plan.network is None:
            raise AssertionError("a method is chosen among those that have a plan")
        network, part = plan.network, part_samples(plan.network.cost, dtype.itemsize)
        if method == "density" and plan.density is not None:
            twin = partial(Network, network.program, network.outputs, sizes, like, part)
            return DensityExecutor(plan.density, sizes, like, kernels(), twin)
        return Network(network.program, network.outputs, sizes, like, part)
