"""A Qiskit EstimatorV2 on the exact engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from qiskit import QuantumCircuit
from qiskit.primitives import BaseEstimatorV2, DataBin, PrimitiveJob, PrimitiveResult, PubResult
from qiskit.primitives.containers import EstimatorPubLike
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.engine import ExactEngine
from qhybrid.engines.gates.pauli_transfer import Array
from qhybrid.errors import EngineError
from qhybrid.seeding import numpy_generator

Operator = tuple[tuple[str, complex], ...]
"""An observable as sorted pairs (Pauli label, coefficient)."""


class ExactEstimator(BaseEstimatorV2):  # type: ignore[misc]
    """Exact expectation values by Qiskit's estimator interface.

    Pubs of the same circuit and parameter values are executed together, whatever their observables.

    Args:
        engine: The engine that computes; a new exact one without noise and shots if None.
        default_precision: Standard deviation of the estimates of pubs that name none; 0 gives exact values.
        seed: Seed of the deviations of a precision above 0; None for new ones each time.

    Raises:
        EngineError: If the default precision is negative.
    """

    def __init__(
        self, engine: ExactEngine | None = None, default_precision: float = 0.0, seed: int | None = None
    ) -> None:
        if not default_precision >= 0:
            raise EngineError(f"Argument `default_precision` must be at least 0, but is {default_precision}.")
        self.engine = engine or ExactEngine()
        self._precision = default_precision
        self._random = np.random.default_rng() if seed is None else numpy_generator(seed, "estimator")

    def run(
        self, pubs: Iterable[EstimatorPubLike], *, precision: float | None = None
    ) -> PrimitiveJob[PrimitiveResult[PubResult]]:
        """Execute pubs; see `qiskit.primitives.BaseEstimatorV2.run`.

        Args:
            pubs: Tuples (circuit, observables, parameter values, precision), broadcast as Qiskit does.
            precision: Standard deviation of the estimates of pubs that name none.
        """
        wanted = self._precision if precision is None else precision
        coerced = [EstimatorPub.coerce(pub, wanted) for pub in pubs]
        job: PrimitiveJob[PrimitiveResult[PubResult]] = PrimitiveJob(self._run, coerced)
        job._submit()
        return job

    def _run(self, pubs: Sequence[EstimatorPub]) -> PrimitiveResult[PubResult]:
        tables = [_table(pub) for pub in pubs]
        groups: dict[tuple[int, bytes], list[int]] = {}
        for index, (pub, (rows, _)) in enumerate(zip(pubs, tables)):
            groups.setdefault((id(pub.circuit), rows.tobytes()), []).append(index)
        values: dict[int, Array] = {}
        for members in groups.values():
            values.update(self._evaluate([pubs[i] for i in members], [tables[i] for i in members], members))
        results = [self._result(pub, values[index]) for index, pub in enumerate(pubs)]
        return PrimitiveResult(results, metadata={"version": 2})

    def _evaluate(
        self,
        pubs: Sequence[EstimatorPub],
        tables: Sequence[tuple[Array, list[Operator]]],
        members: Sequence[int],
    ) -> dict[int, Array]:
        """Return the broadcast values of pubs that share circuit and parameter values, by member."""
        operators = list(dict.fromkeys(operator for _, own in tables for operator in own))
        place = {operator: index for index, operator in enumerate(operators)}
        spec = circuit_spec(pubs[0].circuit, [_operator(operator) for operator in operators])
        rows = torch.as_tensor(tables[0][0], dtype=torch.float64)
        with torch.no_grad():
            found = self.engine.expectations(spec, rows, rows.new_zeros(0)).numpy()
        result = {}
        for member, pub, (_, own) in zip(members, pubs, tables):
            columns = np.array([place[operator] for operator in own], dtype=int).reshape(
                pub.observables.shape
            )
            samples = np.arange(len(rows)).reshape(pub.parameter_values.shape)
            samples, columns = np.broadcast_arrays(samples, columns)
            result[member] = np.asarray(found[samples, columns])
        return result

    def _result(self, pub: EstimatorPub, values: Array) -> PubResult:
        deviations = np.full_like(values, pub.precision)
        if pub.precision:
            values = self._random.normal(values, pub.precision)
        data = DataBin(evs=values, stds=deviations, shape=pub.shape)
        return PubResult(
            data, metadata={"target_precision": pub.precision, "circuit_metadata": pub.circuit.metadata}
        )


def circuit_spec(circuit: QuantumCircuit, observables: Sequence[SparsePauliOp]) -> CircuitSpec:
    """Return a circuit as spec with all its parameters, in Qiskit's order, as inputs."""
    return CircuitSpec(str(circuit.name), circuit, tuple(circuit.parameters), (), tuple(observables))


def _table(pub: EstimatorPub) -> tuple[Array, list[Operator]]:
    """Return a pub's parameter rows, shape (B, n), and its observables, both flattened."""
    parameters = list(pub.circuit.parameters)
    count = int(np.prod(pub.parameter_values.shape, dtype=int))
    values: Any = pub.parameter_values.as_array(parameters) if parameters else np.zeros((count, 0))
    rows = np.ascontiguousarray(values, dtype=float).reshape(count, len(parameters))
    operators = [tuple(sorted(operator.items())) for operator in np.asarray(pub.observables).reshape(-1)]
    return rows, operators


def _operator(operator: Operator) -> SparsePauliOp:
    return SparsePauliOp([label for label, _ in operator], [coefficient for _, coefficient in operator])
