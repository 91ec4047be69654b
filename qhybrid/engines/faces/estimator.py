"""A Qiskit EstimatorV2 on the exact engine.

As `qiskit.primitives.StatevectorEstimator`, with these differences:

- Circuits and noise are those that the engine takes: a reset in the middle of a circuit is refused, where
  StatevectorEstimator draws its outcome at random. Errors are ValueErrors (`EngineError`, `CircuitError`).
- `stds` are the standard deviations of the values: the precision where a deviation of that size is drawn, and
  those of the measurement where the engine has shots. StatevectorEstimator reports zeros.
- An observable may have projectors (letters 0, 1, +, -, r, l).
- Under shots, the observables of one PUB and parameter set share their shots by the engine's law, as on a
  device; parameter sets and PUBs are independent. The metadata has `shots`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from qiskit import QuantumCircuit
from qiskit.primitives import BaseEstimatorV2, DataBin, PrimitiveJob, PrimitiveResult, PubResult
from qiskit.primitives.containers import EstimatorPubLike
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.quantum_info import SparseObservable, SparsePauliOp

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.engine import ExactEngine
from qhybrid.engines.gates.pauli_transfer import Array
from qhybrid.engines.shots.deviation import shot_variances
from qhybrid.errors import CircuitError, EngineError

Operator = tuple[tuple[str, complex], ...]
"""An observable as sorted pairs (label, coefficient)."""


class ExactEstimator(BaseEstimatorV2):  # type: ignore[misc]
    """Expectation values of the exact engine by Qiskit's estimator interface.

    PUBs of the same circuit and parameter values are executed together where nothing is drawn at random.

    Args:
        engine: The engine that computes; a new exact one without noise and shots if None.
        default_precision: Standard deviation of the normal deviations that are added to the values of PUBs
            that name none; 0 adds nothing.
        seed: Seed of these deviations, as Qiskit takes it: an integer starts again at each PUB, a generator
            goes on, None is new each time. Shots have the engine's own seed.

    Raises:
        EngineError: If an argument is of the wrong kind, or the precision is negative.
    """

    def __init__(
        self,
        engine: ExactEngine | None = None,
        default_precision: float = 0.0,
        seed: np.random.Generator | int | None = None,
    ) -> None:
        if engine is not None and not isinstance(engine, ExactEngine):
            raise EngineError(
                f"Argument `engine` must be an exact engine, but is {engine!r}. Fix: "
                "make_engine('exact', ...)."
            )
        if not _is_precision(default_precision):
            raise EngineError(
                f"Argument `default_precision` must be a number of at least 0, but is {default_precision!r}."
            )
        try:
            np.random.default_rng(seed)
        except (TypeError, ValueError) as error:
            raise EngineError(
                "Argument `seed` must be a whole number from 0 on, a NumPy generator or None, but is "
                f"{seed!r}."
            ) from error
        self.engine = engine or ExactEngine()
        self._precision = default_precision
        self._seed = seed

    @property
    def default_precision(self) -> float:
        """The precision of PUBs that name none."""
        return self._precision

    @property
    def seed(self) -> np.random.Generator | int | None:
        """The seed of the deviations that a precision above 0 adds."""
        return self._seed

    def run(
        self, pubs: Iterable[EstimatorPubLike], *, precision: float | None = None
    ) -> PrimitiveJob[PrimitiveResult[PubResult]]:
        """Execute pubs; see `qiskit.primitives.BaseEstimatorV2.run`.

        Args:
            pubs: Tuples (circuit, observables, parameter values, precision), broadcast as Qiskit does.
            precision: Precision of pubs that name none.
        """
        wanted = self._precision if precision is None else precision
        coerced = [EstimatorPub.coerce(pub, wanted) for pub in pubs]
        job: PrimitiveJob[PrimitiveResult[PubResult]] = PrimitiveJob(self._run, coerced)
        job._submit()
        return job

    def _run(self, pubs: Sequence[EstimatorPub]) -> PrimitiveResult[PubResult]:
        tables = [_table(pub) for pub in pubs]
        groups: dict[object, list[int]] = {}
        for index, (pub, (rows, _)) in enumerate(zip(pubs, tables)):
            key: object = index if self.engine.random else (id(pub.circuit), rows.tobytes())
            groups.setdefault(key, []).append(index)
        found: dict[int, tuple[Array, Array]] = {}
        for members in groups.values():
            found.update(self._evaluate([pubs[i] for i in members], [tables[i] for i in members], members))
        results = [self._result(pub, *found[index]) for index, pub in enumerate(pubs)]
        return PrimitiveResult(results, metadata={"version": 2})

    def _evaluate(
        self,
        pubs: Sequence[EstimatorPub],
        tables: Sequence[tuple[Array, list[Operator]]],
        members: Sequence[int],
    ) -> dict[int, tuple[Array, Array]]:
        """Return values and variances of pubs that share circuit and parameter values, by member."""
        operators = list(dict.fromkeys(operator for _, own in tables for operator in own))
        place = {operator: index for index, operator in enumerate(operators)}
        values, variances = self._values(pubs[0].circuit, operators, tables[0][0])
        result = {}
        for member, pub, (rows, own) in zip(members, pubs, tables):
            columns = np.array([place[operator] for operator in own], dtype=int).reshape(
                pub.observables.shape
            )
            samples = np.arange(len(rows)).reshape(pub.parameter_values.shape)
            samples, columns = np.broadcast_arrays(samples, columns)
            result[member] = np.array(values[samples, columns]), np.array(variances[samples, columns])
        return result

    def _values(
        self, circuit: QuantumCircuit, operators: Sequence[Operator], rows: Array
    ) -> tuple[Array, Array]:
        """Return values and their variances, each of shape (B, operators)."""
        if not operators:
            return np.zeros((len(rows), 0)), np.zeros((len(rows), 0))
        spec = circuit_spec(circuit, [_operator(one, circuit.num_qubits) for one in operators])
        inputs = torch.as_tensor(rows, dtype=torch.float64)
        with torch.no_grad():
            values = self.engine.expectations(spec, inputs, inputs.new_zeros(0)).numpy()
            if not self.engine.random:
                return values, np.zeros_like(values)
            variances = shot_variances(self.engine, spec, inputs, inputs.new_zeros(0))
        return values, variances.numpy()

    def _result(self, pub: EstimatorPub, values: Array, variances: Array) -> PubResult:
        if pub.precision:
            generator = np.random.default_rng(self._seed)
            values = np.asarray(generator.normal(values, pub.precision))
        deviations = np.sqrt(variances + float(pub.precision or 0.0) ** 2)
        data = DataBin(evs=values, stds=deviations, shape=pub.shape)
        metadata = {"target_precision": pub.precision, "circuit_metadata": pub.circuit.metadata}
        if self.engine.random:
            metadata["shots"] = self.engine.describe()["shots"]
        return PubResult(data, metadata=metadata)


def _is_precision(value: object) -> bool:
    return isinstance(value, Real) and 0 <= float(value) < math.inf


def circuit_spec(circuit: QuantumCircuit, observables: Sequence[SparsePauliOp]) -> CircuitSpec:
    """Return a circuit as spec with all its parameters, in Qiskit's order, as inputs.

    Measurements at the end (Qiskit Machine Learning's VQR adds them) change no observable that is diagonal on
    the measured qubits; they are left out.

    Raises:
        CircuitError: If an observable has X or Y on a measured qubit.
    """
    if circuit.num_clbits:
        circuit = _without_measurements(circuit, observables)
    return CircuitSpec(str(circuit.name), circuit, tuple(circuit.parameters), (), tuple(observables))


def _without_measurements(circuit: QuantumCircuit, observables: Sequence[SparsePauliOp]) -> QuantumCircuit:
    found = circuit.remove_final_measurements(inplace=False)
    measured = _measured(circuit) - _measured(found)
    for observable in observables:
        turned = np.flatnonzero(observable.paulis.x.any(axis=0))
        if measured & set(turned.tolist()):
            raise CircuitError(
                "Observables must be made of Z and I on qubits that the circuit measures, but "
                f"{observable.paulis.to_labels()} has X or Y on one of {sorted(measured)}. Fix: "
                "circuit.remove_final_measurements(inplace=False)."
            )
    return found


def _measured(circuit: QuantumCircuit) -> set[int]:
    """Return the qubits that a circuit measures."""
    measures = [instruction for instruction in circuit.data if instruction.operation.name == "measure"]
    return {circuit.find_bit(instruction.qubits[0]).index for instruction in measures}


def _table(pub: EstimatorPub) -> tuple[Array, list[Operator]]:
    """Return a pub's parameter rows, shape (B, n), and its observables, both flattened."""
    parameters = list(pub.circuit.parameters)
    count = int(np.prod(pub.parameter_values.shape, dtype=int))
    values: Any = pub.parameter_values.as_array(parameters) if parameters else np.zeros((count, 0))
    rows = np.ascontiguousarray(values, dtype=float).reshape(count, len(parameters))
    operators = [tuple(sorted(operator.items())) for operator in np.asarray(pub.observables).reshape(-1)]
    return rows, operators


def _operator(operator: Operator, num_qubits: int) -> SparsePauliOp:
    """Return an observable as Pauli strings; projectors such as |0><0| = (I + Z) / 2 are multiplied out."""
    if all(set(label) <= set("IXYZ") for label, _ in operator):
        return SparsePauliOp.from_list(list(operator), num_qubits=num_qubits)
    terms = SparseObservable.from_list(list(operator), num_qubits=num_qubits)
    return SparsePauliOp.from_sparse_observable(terms.as_paulis())
