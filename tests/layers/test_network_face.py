"""Our networks, layers, estimator and gradient in the places of Qiskit Machine Learning's own.

The cases are those of its own tests (networks of one and two inputs and outputs, without inputs, without
weights, without any parameter; connectors; batches; classifiers), with its EstimatorQNN on Qiskit's
statevector as the other opinion. One difference is known: `EffectiveDimension` takes what is no EstimatorQNN
for probabilities, so it wants an EstimatorQNN with our estimator and gradient.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.circuit.library import real_amplitudes, zz_feature_map
from qiskit.primitives import StatevectorEstimator
from qiskit.quantum_info import SparsePauliOp
from qiskit_machine_learning.algorithms import NeuralNetworkRegressor
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.exceptions import QiskitMachineLearningError
from qiskit_machine_learning.neural_networks import EffectiveDimension, EstimatorQNN
from qiskit_machine_learning.optimizers import L_BFGS_B

from qhybrid.engines.faces import ExactEstimator, ExactEstimatorGradient
from qhybrid.layers import QuantumLayer

OBSERVABLES = {
    "one": [("ZZ", 1.0), ("XX", 1.0)],
    "two": [[("ZI", 2.0)], [("IX", 1.0), ("YY", -0.5)]],
    "default": None,
}


def network(num_inputs: int, num_weights: int, observables: str = "one", ours: bool = False) -> EstimatorQNN:
    """Return an EstimatorQNN of two qubits on Qiskit's statevector, or on our estimator and gradient."""
    x, w = ParameterVector("x", num_inputs), ParameterVector("w", num_weights)
    circuit = QuantumCircuit(2)
    circuit.h(0)
    for index, angle in enumerate([*x, *w]):
        (circuit.ry if index % 2 else circuit.rx)(angle, index % 2)
        circuit.cx(0, 1)
    given = OBSERVABLES[observables]
    if given is not None:
        given = [SparsePauliOp.from_list(one) for one in (given if observables == "two" else [given])]
    parts = {"estimator": StatevectorEstimator()}
    if ours:
        estimator = ExactEstimator()
        parts = {"estimator": estimator, "gradient": ExactEstimatorGradient(estimator)}
    return EstimatorQNN(circuit=circuit, input_params=list(x) or None, weight_params=list(w) or None,
                        observables=given, input_gradients=True, default_precision=0.0, **parts)  # fmt: skip


def batches(num_inputs: int) -> list:
    """Return inputs of every shape that a network takes."""
    if not num_inputs:
        return [None]
    many = np.random.default_rng(0).uniform(-2, 2, (2, 3, num_inputs))
    return [*([0.7] if num_inputs == 1 else []), many[0, 0], many[0, 0].tolist(), many[0], many]


@pytest.mark.parametrize("observables", OBSERVABLES)
@pytest.mark.parametrize("sizes", [(1, 1), (2, 2), (3, 1), (0, 2), (2, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("who", ["layer", "estimator"])
def test_values_and_jacobians_have_qiskits_shapes_and_numbers(who, sizes, observables):
    plain = network(*sizes, observables)
    ours = (
        QuantumLayer.from_qnn(plain).neural_network if who == "layer" else network(*sizes, observables, True)
    )
    weights = np.linspace(-1, 2, sizes[1]) if sizes[1] else None
    for inputs in batches(sizes[0]):
        expected, found = plain.forward(inputs, weights), ours.forward(inputs, weights)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-9)
        for one, other in zip(ours.backward(inputs, weights), plain.backward(inputs, weights), strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                assert one.shape == other.shape
                np.testing.assert_allclose(one, other, atol=1e-9)


def test_input_gradients_are_left_out_on_request():
    ours = QuantumLayer.from_qnn(network(2, 2)).neural_network
    ours.input_gradients = False
    by_input, by_weight = ours.backward([0.1, 0.2], [0.3, 0.4])
    assert by_input is None
    assert by_weight.shape == (1, 1, 2)


@pytest.mark.parametrize("who", ["layer", "estimator"])
def test_a_plain_torch_connector_around_our_parts(who):
    qnn, weights = network(2, 2, "two", True), np.array([0.4, -0.9])
    layer = QuantumLayer.from_qnn(qnn, None, weights)
    stock = TorchConnector(qnn if who == "estimator" else layer.neural_network, weights)
    found = []
    for model in (stock, layer):
        rows = torch.linspace(-1, 1, 8).reshape(4, 2).requires_grad_()
        values = model(rows)
        values.pow(2).sum().backward()
        found.append([values.detach(), rows.grad, model.weight.grad])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("sizes", [(1, 1), (2, 2), (0, 2)], ids=str)
def test_a_layer_passes_torchs_own_checks(sizes):
    layer = QuantumLayer.from_qnn(network(*sizes, "two")).double()

    def call(rows: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"weight": weights}, (rows,))

    rows = torch.linspace(-1, 1, 3 * sizes[0], dtype=torch.float64).reshape(3, sizes[0]).requires_grad_()
    weights = torch.linspace(0.2, 1.1, sizes[1], dtype=torch.float64).requires_grad_()
    torch.autograd.gradcheck(call, (rows, weights), check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(call, (rows, weights))
    with pytest.raises(QiskitMachineLearningError):
        layer(torch.zeros(1, sizes[0] + 1))


def test_gradients_of_a_batch_are_the_sum_of_those_of_its_samples():
    torch.manual_seed(0)
    feature_map, ansatz = zz_feature_map(2), real_amplitudes(2, reps=1)
    circuit = feature_map.compose(ansatz)
    qnn = EstimatorQNN(circuit=circuit, input_params=feature_map.parameters, weight_params=ansatz.parameters)
    layer = QuantumLayer.from_qnn(qnn, None, np.full(4, 0.1))
    model = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU(), layer, torch.nn.Linear(1, 2))
    images, targets = torch.rand(5, 4), torch.rand(5, 2)
    gradients = []
    for batches_of in (1, 5):
        model.zero_grad()
        loss = sum(
            (model(some) - target).pow(2).sum()
            for some, target in zip(images.split(batches_of), targets.split(batches_of), strict=True)
        )
        loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    single = torch.stack([model(image) for image in images])  # samples without a batch dimension
    torch.testing.assert_close(single, model(images))


def test_a_regressor_of_qiskit_trains_our_network_as_its_own():
    rows = np.random.default_rng(1).uniform(-1, 1, (6, 2))
    scores = []
    for qnn in (network(2, 2), QuantumLayer.from_qnn(network(2, 2)).neural_network):
        optimizer = L_BFGS_B(maxiter=3)
        model = NeuralNetworkRegressor(qnn, optimizer=optimizer, initial_point=np.full(2, 0.2))
        scores.append(model.fit(rows, np.sign(rows[:, 0])).score(rows, np.sign(rows[:, 0])))
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_effective_dimension_by_our_estimator():
    feature_map, ansatz = zz_feature_map(2), real_amplitudes(2, reps=1)
    estimator = ExactEstimator()
    own = {"estimator": estimator, "gradient": ExactEstimatorGradient(estimator)}
    found = []
    for parts in ({"estimator": StatevectorEstimator()}, own):
        qnn = EstimatorQNN(circuit=feature_map.compose(ansatz), input_params=feature_map.parameters,
                           weight_params=ansatz.parameters, default_precision=0.0, **parts)  # fmt: skip
        samples = np.array([[0.1, 0.9, -0.3, 0.5], [1.3, -0.4, 0.8, 0.2]])
        measure = EffectiveDimension(qnn, weight_samples=samples, input_samples=np.array([[0.3, 0.8]]))
        found.append(measure.get_effective_dimension([100, 1000]))
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
