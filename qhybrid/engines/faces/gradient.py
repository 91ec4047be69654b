"""A gradient of Qiskit Machine Learning on the exact engine: backpropagation instead of shifted circuits.

As its `ParamShiftEstimatorGradient`, with these differences: there are no options (nothing is sent to a
primitive), gradients are always those of the exact values, also where the engine has shots, and only real
derivatives are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp
from qiskit.quantum_info.operators.base_operator import BaseOperator
from qiskit.transpiler.passmanager import BasePassManager
from qiskit_machine_learning.gradients import BaseEstimatorGradient, DerivativeType, EstimatorGradientResult

from qhybrid.engines.exact.engine import ExactEngine
from qhybrid.engines.faces.estimator import ExactEstimator, circuit_spec
from qhybrid.engines.gates.pauli_transfer import Array
from qhybrid.errors import EngineError


class ExactEstimatorGradient(BaseEstimatorGradient):  # type: ignore[misc]
    """Exact gradients of expectation values, all samples and observables of a circuit at once.

    Args:
        estimator: The estimator whose engine computes; a new one if None.
        pass_manager: Transpiles the circuits first, each once; observables follow the layout. An exact engine
            needs none, but noise counts the gates of the transpiled circuit.

    Raises:
        EngineError: If the estimator is not an `ExactEstimator`.

    Example:
        ``EstimatorQNN(circuit=..., estimator=ExactEstimator(), gradient=ExactEstimatorGradient(),
        default_precision=0)``
    """

    def __init__(
        self, estimator: ExactEstimator | None = None, pass_manager: BasePassManager | None = None
    ) -> None:
        chosen = ExactEstimator() if estimator is None else estimator
        if not isinstance(chosen, ExactEstimator):
            raise EngineError(
                f"Argument `estimator` must be an ExactEstimator, but is a {type(chosen).__name__}. Fix: "
                "ExactEstimatorGradient(ExactEstimator()), or Qiskit's ParamShiftEstimatorGradient."
            )
        super().__init__(chosen, derivative_type=DerivativeType.REAL, pass_manager=pass_manager)
        engine: ExactEngine = chosen.engine
        self._engine = engine.without_shots() if engine.random else engine

    def _run(
        self,
        circuits: Sequence[QuantumCircuit],
        observables: Sequence[BaseOperator],
        parameter_values: Sequence[Sequence[float]] | np.ndarray,
        parameters: Sequence[Sequence[Parameter]],
        **options: Any,
    ) -> EstimatorGradientResult:
        if options:
            raise EngineError(f"Gradients take no options, but were given {', '.join(sorted(options))}.")
        entries: dict[int, list[int]] = {}
        for index, circuit in enumerate(circuits):
            entries.setdefault(id(circuit), []).append(index)
        gradients: list[Array] = [np.zeros(0)] * len(circuits)
        for members in entries.values():
            found = self._of_circuit(
                circuits[members[0]], [(observables[i], parameter_values[i]) for i in members]
            )
            order = {parameter: place for place, parameter in enumerate(circuits[members[0]].parameters)}
            for index, gradient in zip(members, found):
                gradients[index] = gradient[[order[parameter] for parameter in parameters[index]]]
        metadata = [{"parameters": list(own)} for own in parameters]
        return EstimatorGradientResult(gradients=gradients, metadata=metadata, options=self._default_options)

    def _of_circuit(
        self, circuit: QuantumCircuit, asked: Sequence[tuple[BaseOperator, Sequence[float]]]
    ) -> list[Array]:
        """Return the gradient of every asked (observable, parameter values) of one circuit."""
        operators: dict[int, int] = {}
        distinct: list[SparsePauliOp] = []
        samples: dict[bytes, int] = {}
        rows: list[Array] = []
        places = []
        for operator, values in asked:
            if id(operator) not in operators:
                operators[id(operator)] = len(distinct)
                distinct.append(_as_sparse(operator))
            row = np.asarray(values, dtype=float)
            if row.tobytes() not in samples:
                samples[row.tobytes()] = len(rows)
                rows.append(row)
            places.append((samples[row.tobytes()], operators[id(operator)]))
        # The transpiler may drop parameters on which no value depends: theirs is a gradient of 0.
        parameters = tuple(circuit.parameters)
        if self._pass_manager is not None:
            circuit = self._pass_manager.run(circuit)
            distinct = [operator.apply_layout(circuit.layout) for operator in distinct]
        kept = [place for place, parameter in enumerate(parameters) if parameter in set(circuit.parameters)]
        inputs = torch.as_tensor(np.stack(rows), dtype=torch.float64).requires_grad_()
        spec = circuit_spec(circuit, distinct)
        found = self._engine.expectations(spec, inputs[:, kept], inputs.new_zeros(0))
        slopes = [
            torch.autograd.grad(found[:, column].sum(), inputs, retain_graph=True)[0].numpy()
            for column in range(len(distinct))
        ]
        return [slopes[column][sample] for sample, column in places]


def _as_sparse(operator: BaseOperator) -> SparsePauliOp:
    return operator if isinstance(operator, SparsePauliOp) else SparsePauliOp.from_operator(operator)
