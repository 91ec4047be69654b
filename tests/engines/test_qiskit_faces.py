from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.primitives import StatevectorEstimator
from qiskit.quantum_info import SparsePauliOp
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.gradients import ParamShiftEstimatorGradient
from qiskit_machine_learning.neural_networks import EstimatorQNN

from qhybrid.circuits import build_circuit
from qhybrid.engines import make_engine
from qhybrid.engines.faces import ExactEstimator, ExactEstimatorGradient
from qhybrid.errors import EngineError


@pytest.fixture
def circuit():
    x = ParameterVector("x", 3)
    circuit = QuantumCircuit(2)
    circuit.ry(x[0], 0)
    circuit.crx(x[1] * x[0], 0, 1)
    circuit.rz(2 * x[2], 1)
    circuit.cx(1, 0)
    return circuit


def pubs_of(circuit):
    random = np.random.default_rng(0)
    single = SparsePauliOp(["ZZ", "IX"], [1.0, -0.5])
    several = [["ZI"], ["XX"], [SparsePauliOp(["YY", "II"], [0.5, 2.0])]]
    bound = circuit.assign_parameters([0.1, 0.2, 0.3])
    return [
        (circuit, single, random.normal(size=3)),
        (circuit, single, random.normal(size=(5, 3))),
        (circuit, several, random.normal(size=(4, 3))),
        (circuit, several, random.normal(size=(6, 1, 4, 3))),
        (bound, "ZZ"),
        (bound, ["ZZ", "XX"]),
    ]


def test_pubs_are_broadcast_as_by_qiskit(circuit):
    pubs = pubs_of(circuit)
    ours, theirs = ExactEstimator().run(pubs).result(), StatevectorEstimator().run(pubs).result()
    for mine, reference in zip(ours, theirs):
        assert mine.data.evs.shape == reference.data.evs.shape
        np.testing.assert_allclose(mine.data.evs, reference.data.evs, atol=1e-10)
        np.testing.assert_array_equal(mine.data.stds, reference.data.stds)
        assert mine.data.shape == reference.data.shape


def test_precision_is_honoured(circuit):
    values = np.tile([0.3, 0.2, 0.1], (20000, 1))
    estimator = ExactEstimator(seed=1)
    exact = estimator.run([(circuit, "ZZ", values[:1])]).result()[0].data.evs[0]
    found = estimator.run([(circuit, "ZZ", values)], precision=0.05).result()[0].data
    assert found.evs.std() == pytest.approx(0.05, rel=0.05)
    assert found.evs.mean() == pytest.approx(exact, abs=5 * 0.05 / 20000**0.5)
    assert (found.stds == 0.05).all()
    own = estimator.run([(circuit, "ZZ", values[:1], 0.01)], precision=0.05).result()[0].data
    assert (own.stds == 0.01).all()
    with pytest.raises(EngineError, match="default_precision"):
        ExactEstimator(default_precision=-1)


def test_pubs_of_one_circuit_are_executed_together(circuit, monkeypatch):
    engine = make_engine("exact")
    calls = []
    original = engine.expectations
    monkeypatch.setattr(engine, "expectations", lambda *arguments: (calls.append(1), original(*arguments))[1])
    values = np.ones((3, 3))
    ExactEstimator(engine).run([(circuit, label, values) for label in ("ZZ", "XX", "IZ")]).result()
    assert len(calls) == 1


def test_gradient_agrees_with_parameter_shift(circuit):
    observables = [
        SparsePauliOp("ZZ"),
        SparsePauliOp(["XI", "IY"], [0.3, 0.7]),
        SparsePauliOp("YY"),
    ]
    circuits, values = [circuit] * 3, [[0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [0.1, 0.2, 0.3]]
    ours = ExactEstimatorGradient().run(circuits, observables, values).result()
    theirs = ParamShiftEstimatorGradient(StatevectorEstimator()).run(circuits, observables, values).result()
    np.testing.assert_allclose(ours.gradients, theirs.gradients, atol=1e-8)
    some = [circuit.parameters[2], circuit.parameters[0]]
    chosen = ExactEstimatorGradient().run(circuits[:1], observables[:1], values[:1], [some]).result()
    np.testing.assert_allclose(chosen.gradients[0], ours.gradients[0][[2, 0]])


def test_estimator_qnn_in_torch_agrees_with_the_engine():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    estimator = ExactEstimator()
    network = EstimatorQNN(
        circuit=spec.circuit,
        observables=list(spec.observables),
        input_params=list(spec.input_params),
        weight_params=list(spec.weight_params),
        estimator=estimator,
        gradient=ExactEstimatorGradient(estimator),
        input_gradients=True,
        default_precision=0.0,
    )
    weights = torch.linspace(0, 1, spec.num_weights)
    layer = TorchConnector(network, initial_weights=weights.numpy())
    inputs = torch.linspace(-1, 1, 3 * spec.num_inputs).reshape(3, -1).requires_grad_()
    values = layer(inputs)
    values.square().sum().backward()
    same_inputs, same_weights = inputs.detach().clone().requires_grad_(), weights.clone().requires_grad_()
    reference = make_engine("exact").expectations(spec, same_inputs, same_weights)
    reference.square().sum().backward()
    torch.testing.assert_close(values, reference, atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.grad, same_inputs.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(layer.weight.grad, same_weights.grad, atol=1e-4, rtol=1e-4)
