"""Qiskit Aer as a peer, values alone: density matrices under noise, matrix product states for chains."""

from __future__ import annotations

import numpy as np
import torch
from peer_families import Family
from peer_steps import Results, Step
from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, depolarizing_error

from qhybrid.circuits import CircuitSpec


def density_matrix(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> Step:
    """Return a step of values under depolarizing noise."""
    assert family.noise is not None
    model = NoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(family.noise[0], 1), ["ry", "rz", "rx", "h"])
    model.add_all_qubit_quantum_error(depolarizing_error(family.noise[1], 2), ["cx", "cry"])
    return _values(spec, inputs, weights, AerSimulator(method="density_matrix", noise_model=model))


def matrix_product_state(
    spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor
) -> Step:
    """Return a step of values by matrix product states."""
    return _values(spec, inputs, weights, AerSimulator(method="matrix_product_state"))


def _values(spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor, simulator: AerSimulator) -> Step:
    simulator.set_options(max_parallel_threads=1, precision="double")
    circuit = QuantumCircuit(spec.num_qubits)
    circuit.compose(spec.circuit, inplace=True)
    for number, observable in enumerate(spec.observables):
        circuit.save_expectation_value(observable, range(spec.num_qubits), label=str(number))
    names = [*spec.input_params, *spec.weight_params]
    rows = torch.cat([inputs, weights.expand(len(inputs), -1)], dim=1).double().numpy()

    def step() -> Results:
        binds = [{parameter: list(map(float, column)) for parameter, column in zip(names, rows.T)}]
        result = simulator.run(circuit, parameter_binds=binds, shots=1).result()
        values = [
            [result.data(sample)[str(k)] for k in range(spec.num_observables)] for sample in range(len(rows))
        ]
        return [np.asarray(values)]

    return step
