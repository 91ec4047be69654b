"""Qiskit Aer as an engine: statevector, density matrix or matrix product states, exact or from shots."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.transpiler import PassManager, generate_preset_pass_manager
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engine_kinds import check_count, check_seed
from qhybrid.engines.aer.circuit import angle_circuit
from qhybrid.engines.aer.readout import MeasuredBases, Readout, SavedExpectations
from qhybrid.engines.base import (
    Engine,
    attached,
    check_arguments,
    check_noise,
    described_noise,
    empty_result,
    ordinary_tensors,
)
from qhybrid.engines.exact.cost import memory_limit
from qhybrid.engines.gates.angle_table import AngleTable
from qhybrid.engines.gates.expression import Angle
from qhybrid.engines.noise.aer_model import aer_noise_model
from qhybrid.engines.parameter_shift import shifted_expectations, wanted_angles
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile
from qhybrid.seeding import derive_seed

METHODS = ("statevector", "density_matrix", "matrix_product_state")
PRECISION = {None: "double", torch.float64: "double", torch.float32: "single"}


@dataclass(frozen=True)
class _Prepared:
    """A circuit with one parameter an angle, transpiled, with its read-outs."""

    circuits: tuple[QuantumCircuit, ...]
    noise_models: tuple[NoiseModel | None, ...]
    readout: Readout
    parameters: tuple[Parameter, ...]
    angles: tuple[Angle, ...]
    table: AngleTable
    num_observables: int


class AerEngine(Engine):
    """Expectation values from Aer, gradients by parameter shift.

    Args:
        noise: Error rates of gates and read-outs; None for none.
        shots: Shots of every measured basis; None for exact values (or averages over trajectories).
        seed: Seed of shots and trajectories.
        dtype: torch.float32 or torch.float64 arithmetic; None is float64.
        method: "statevector", "density_matrix" or "matrix_product_state".
        trajectories: Under noise and without shots, "statevector" and "matrix_product_state" average over
            this many random trajectories; "density_matrix" is exact and takes none.
    """

    kind = "aer"

    def __init__(
        self,
        noise: NoiseProfile | None = None,
        shots: int | None = None,
        seed: int | None = None,
        dtype: torch.dtype | None = None,
        method: str = "statevector",
        trajectories: int | None = None,
    ) -> None:
        check_noise(noise)
        if method not in METHODS:
            raise EngineError(f"Option `method` must be one of {', '.join(METHODS)}, but is {method!r}.")
        if dtype not in PRECISION:
            raise EngineError(f"Argument `dtype` must be float32 or float64, but is {dtype}.")
        shots, seed = check_count(shots), check_seed(seed)
        trajectories = check_count(trajectories, "trajectories")
        _check_randomness(noise, method, shots, trajectories, seed)
        self._method = method
        self._noise = noise
        self._shots = shots
        self._trajectories = trajectories
        self._seed = seed
        self._calls = 0
        self._dtype = dtype
        self._simulator = AerSimulator(method=method, precision=PRECISION[dtype])
        self._prepared: dict[str, _Prepared] = {}

    def expectations(self, spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the expectation values of all observables, shape (B, n_obs); see `Engine.expectations`."""
        check_arguments(spec, inputs, weights)
        if not len(inputs):
            return empty_result(spec, inputs, weights)
        prepared = self._prepare(spec)
        rows = inputs.to(device="cpu", dtype=torch.float64).t()
        angles = prepared.table.batched(rows, weights.to(device="cpu", dtype=torch.float64))
        shifted = wanted_angles(prepared.angles, inputs, weights)
        values = shifted_expectations(angles, shifted, lambda moved: self._run(prepared, moved))
        return attached(values.t().to(device=inputs.device, dtype=inputs.dtype), inputs, weights)

    def reseed(self, seed: int) -> None:
        """Draw shots and trajectories from another seed from now on; see `Engine.reseed`."""
        if self.random:
            self._seed, self._calls = seed, 0

    def describe(self) -> dict[str, Any]:
        """Return kind, options, shots, seed and noise."""
        return {
            "kind": self.kind,
            "method": self._method,
            "dtype": None if self._dtype is None else str(self._dtype).removeprefix("torch."),
            "trajectories": self._trajectories,
            "shots": self._shots,
            "seed": self._seed,
            **described_noise(self._noise),
        }

    def _prepare(self, spec: CircuitSpec) -> _Prepared:
        if spec.fingerprint not in self._prepared:
            self._check_memory(spec)
            with ordinary_tensors():
                self._prepared[spec.fingerprint] = self._made_ready(spec)
        return self._prepared[spec.fingerprint]

    def _made_ready(self, spec: CircuitSpec) -> _Prepared:
        native = set(self._simulator.operation_names)
        circuit, parameters, angles = angle_circuit(spec, self._noise, native)
        readout: Readout = MeasuredBases(spec) if self._shots else SavedExpectations(spec, self._noise)
        ready = [self._compiled(one) for one in readout.circuits(circuit)]
        return _Prepared(
            tuple(one for one, _ in ready),
            tuple(model for _, model in ready),
            readout,
            tuple(parameters),
            tuple(angles),
            AngleTable(angles, spec.num_inputs, spec.num_weights, torch.empty(0, dtype=torch.float64)),
            spec.num_observables,
        )

    def _compiled(self, circuit: QuantumCircuit) -> tuple[QuantumCircuit, NoiseModel | None]:
        """Transpile for the simulator; under noise check that no gate was replaced: noise must hit all."""
        ready = _passes(self._method).run(circuit)
        if self._noise is None:
            return ready, None
        if dict(ready.count_ops()) != dict(circuit.count_ops()):
            raise EngineError(
                f"Aer must run the circuit's own gates under noise, but {dict(circuit.count_ops())} became "
                f"{dict(ready.count_ops())}. Fix: transpile the circuit to gates that Aer knows."
            )
        return ready, aer_noise_model(self._noise, ready)

    def _check_memory(self, spec: CircuitSpec) -> None:
        """Refuse states that cannot be held, before Aer runs out of memory."""
        if self._method == "matrix_product_state":
            return
        amplitudes = spec.num_qubits * (2 if self._method == "density_matrix" else 1)
        needed = (8 if self._dtype == torch.float32 else 16) << amplitudes
        limit = memory_limit(torch.device("cpu"))
        if needed > limit:
            raise EngineError(
                f"Aer's method `{self._method}` must hold the state in {limit / 2**20:,.0f} MiB, but "
                f"{spec.num_qubits} qubits take {needed / 2**20:,.0f} MiB. Fix: use make_engine('exact'), "
                "which needs no full state, or method='matrix_product_state'."
            )

    def _run(self, prepared: _Prepared, angles: torch.Tensor) -> torch.Tensor:
        """Return the observables, shape (n_obs, N), for angles of shape (K, N)."""
        count = angles.shape[1]
        if not count or not prepared.num_observables:
            return torch.zeros((prepared.num_observables, count), dtype=torch.float64)
        results = [
            self._result(circuit, model, prepared.parameters, angles)
            for circuit, model in zip(prepared.circuits, prepared.noise_models)
        ]
        return torch.as_tensor(prepared.readout.values(results), dtype=torch.float64).expand(-1, count)

    def _result(
        self,
        circuit: QuantumCircuit,
        model: NoiseModel | None,
        parameters: tuple[Parameter, ...],
        angles: torch.Tensor,
    ) -> Any:
        """Run one circuit for every column of angles; without angles once, or once a column for shots."""
        options: dict[str, Any] = {} if model is None else {"noise_model": model}
        if self._shots or model is not None:
            options["shots"] = self._shots or self._trajectories or 1
        if self._seed is not None:
            options["seed_simulator"] = derive_seed(self._seed, "aer", self._calls) % 2**31
            self._calls += 1
        if parameters:
            values = {parameter: row.tolist() for parameter, row in zip(parameters, angles)}
            result = self._simulator.run([circuit], parameter_binds=[values], **options).result()
        else:
            copies = angles.shape[1] if self._shots else 1
            result = self._simulator.run([circuit] * copies, **options).result()
        if not result.success:
            raise EngineError(f"Aer failed: {result.status}")
        return result


@cache
def _passes(method: str) -> PassManager:
    """Return what makes a circuit ready for a simulator; making this takes longer than its use."""
    return generate_preset_pass_manager(optimization_level=0, backend=AerSimulator(method=method))


def _check_randomness(
    noise: NoiseProfile | None, method: str, shots: int | None, trajectories: int | None, seed: int | None
) -> None:
    needs_trajectories = noise is not None and method != "density_matrix" and shots is None
    if needs_trajectories and trajectories is None:
        raise EngineError(
            f"Under noise Aer's method `{method}` must average over random trajectories, but none are asked "
            "for. Fix: option trajectories=1000, or shots, or method='density_matrix', or "
            "make_engine('exact', noise=...)."
        )
    if not needs_trajectories and trajectories is not None:
        raise EngineError("Option `trajectories` needs noise, a method that draws them, and no shots.")
    if not needs_trajectories and shots is None and seed is not None:
        raise EngineError(
            "Argument `seed` needs noise and trajectories, or shots: exact values are not random."
        )
