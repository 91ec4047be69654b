"""QuantumLayer against TorchConnector's own contract, Qiskit's statevector, and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit import transpile
from qiskit.circuit import ParameterVector, QuantumCircuit
from qiskit.quantum_info import Operator, Pauli, SparsePauliOp, Statevector
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import EstimatorQNN, SamplerQNN
from safetensors.torch import load_file, save_model

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import make_engine
from qhybrid.errors import CircuitError, EngineError
from qhybrid.layers import QuantumLayer, quantum_layers


def one_qubit_spec() -> CircuitSpec:
    """<Z> = cos(x + w), <X> = sin(x + w)."""
    x, w = ParameterVector("x", 1), ParameterVector("w", 1)
    circuit = QuantumCircuit(1)
    circuit.ry(x[0], 0)
    circuit.ry(w[0], 0)
    return CircuitSpec.from_circuit(circuit, list(x), list(w), [SparsePauliOp("Z"), SparsePauliOp("X")])


def reference(spec: CircuitSpec, inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    rows = []
    for row in inputs:
        bound = spec.circuit.assign_parameters(
            dict(zip(spec.input_params, row)) | dict(zip(spec.weight_params, weights))
        )
        state = Statevector(bound)
        rows.append([state.expectation_value(observable).real for observable in spec.observables])
    return np.array(rows)


def test_is_a_torch_connector_with_one_parameter_entry():
    layer = QuantumLayer(one_qubit_spec())
    assert isinstance(layer, TorchConnector)
    assert list(layer.state_dict()) == ["weight"]
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert layer.weight is layer._weights
    assert layer.neural_network.num_inputs == 1


def test_closed_form_value_and_gradients():
    layer = QuantumLayer(one_qubit_spec(), initial_weights=torch.tensor([0.3]))
    x = torch.tensor([[0.5], [-1.2]], dtype=torch.float64, requires_grad=True)
    values = layer(x)
    angle = x.detach()[:, 0].numpy() + np.float32(0.3)
    np.testing.assert_allclose(
        values.detach().numpy(), np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-12
    )
    (values[:, 0] + 2 * values[:, 1]).sum().backward()
    slope = -np.sin(angle) + 2 * np.cos(angle)
    np.testing.assert_allclose(x.grad[:, 0].numpy(), slope, atol=1e-12)
    np.testing.assert_allclose(layer.weight.grad.numpy(), [slope.sum()], atol=1e-6)


def test_hq_unet_circuit_agrees_with_statevector_on_a_small_grid():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    rng = np.random.default_rng(0)
    inputs, weights = rng.uniform(-3, 3, (3, 12)), rng.uniform(-3, 3, 8).astype(np.float32)
    layer = QuantumLayer(spec, initial_weights=weights)
    found = layer(torch.tensor(inputs)).detach().numpy()
    np.testing.assert_allclose(found, reference(spec, inputs, weights), atol=1e-10)


@pytest.mark.parametrize("shape", [(1,), (0, 1), (1, 1), (3, 1), (2, 3, 1), (2, 0, 4, 1)])
def test_any_leading_shape(shape):
    layer = QuantumLayer(one_qubit_spec(), initial_weights=np.array([0.0]))
    values = layer(torch.zeros(shape))
    assert values.shape == (*shape[:-1], 2)
    assert torch.allclose(values[..., 0], torch.ones(shape[:-1]))


def test_state_dict_of_a_plain_torch_connector_loads():
    layer = QuantumLayer(one_qubit_spec())
    layer.load_state_dict({"weight": torch.tensor([0.1]), "_weights": torch.tensor([0.1])})
    assert layer.weight.item() == pytest.approx(0.1)
    layer.load_state_dict({"_weights": torch.tensor([0.7])})
    assert layer.weight.item() == pytest.approx(0.7)


def test_safetensors_round_trip(tmp_path):
    layer = QuantumLayer(one_qubit_spec())
    save_model(layer, str(tmp_path / "w.safetensors"))
    other = QuantumLayer(one_qubit_spec())
    other.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert torch.equal(layer.weight, other.weight)


def test_autocast_does_not_reach_the_circuit():
    layer = QuantumLayer(one_qubit_spec(), initial_weights=np.array([0.0]))
    x = torch.tensor([[1.2345]])
    with torch.autocast("cpu", torch.bfloat16):
        values = layer(x)
        half = layer(x.bfloat16())
    assert values.dtype == torch.float32
    assert values[0, 0].item() == pytest.approx(np.cos(1.2345), abs=1e-6)
    assert half.dtype == torch.float32


def test_functional_call_swaps_the_weight():
    layer = QuantumLayer(one_qubit_spec(), initial_weights=np.array([0.0]))
    found = torch.func.functional_call(layer, {"weight": torch.tensor([0.4])}, (torch.zeros(1, 1),))
    assert found[0, 0].item() == pytest.approx(np.cos(0.4), abs=1e-6)


def test_vmap_and_second_derivative():
    layer = QuantumLayer(one_qubit_spec(), initial_weights=np.array([0.3], dtype=np.float32)).double()
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    values = torch.func.vmap(lambda row: layer(row[None])[0])(x)
    torch.testing.assert_close(values, layer(x))
    curvature = torch.func.vmap(torch.func.hessian(lambda row: layer(row[None])[0, 0]))(x)
    expected = -torch.cos(x[:, 0] + layer.weight.item())
    torch.testing.assert_close(curvature[:, 0, 0], expected)


def test_from_qnn_gives_the_same_numbers_as_the_qnn():
    spec = one_qubit_spec()
    qnn = EstimatorQNN(
        circuit=spec.circuit,
        input_params=list(spec.input_params),
        weight_params=list(spec.weight_params),
        observables=list(spec.observables),
        input_gradients=True,
        default_precision=0.0,
    )
    layer = QuantumLayer.from_qnn(qnn)
    x, w = np.array([[0.4], [1.1]]), np.array([0.2])
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(w))
    np.testing.assert_allclose(layer(torch.tensor(x)).detach().numpy(), qnn.forward(x, w), atol=1e-6)


def transpiled_qnn(observables, **options):
    """An EstimatorQNN of three different qubits, plain or transpiled to a line."""
    x, w = ParameterVector("x", 3), ParameterVector("w", 1)
    circuit = QuantumCircuit(3)
    for qubit in range(3):
        circuit.ry(x[qubit], qubit)
    circuit.cx(0, 1)
    circuit.cx(0, 2)
    circuit.ry(w[0], 0)
    if options:
        circuit = transpile(circuit, basis_gates=["rz", "sx", "cx"], seed_transpiler=1, optimization_level=1,
                            **options)  # fmt: skip
    return EstimatorQNN(
        circuit=circuit,
        input_params=list(x),
        weight_params=list(w),
        observables=observables(circuit),
        default_precision=0.0,
    )


ON_QUBITS = [SparsePauliOp("IIZ"), SparsePauliOp("IZI"), SparsePauliOp("XIZ")]
KINDS = {
    "before": lambda circuit: ON_QUBITS,
    "after": lambda circuit: [one.apply_layout(circuit.layout) for one in ON_QUBITS],
    "default": lambda circuit: None,
}
LINES = {
    "permuted": {"coupling_map": [[0, 1], [1, 2]], "initial_layout": [2, 0, 1]},
    "wider": {"coupling_map": [[0, 1], [1, 2], [2, 3], [3, 4]], "initial_layout": [4, 2, 1]},
}


@pytest.mark.filterwarnings("ignore:Circuit .* has been transpiled")
@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_transpiled_qnn_gives_the_numbers_of_the_plain_one(line, kind):
    x, w = np.array([[0.3, 0.8, 1.4], [-0.2, 2.0, 0.6]]), np.array([0.4])
    plain = transpiled_qnn(KINDS["before" if kind == "after" else kind])
    if (line, kind) == ("wider", "before"):
        # EstimatorQNN itself takes no observables of the circuit before.
        with pytest.raises(ValueError, match="does not match"):
            transpiled_qnn(KINDS[kind], **LINES[line]).forward(x, w)
    qnn = transpiled_qnn(KINDS[kind], **LINES[line])
    layer = QuantumLayer.from_qnn(qnn, layout_applied={"after": True}.get(kind)).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(w))
    found = layer(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(found, plain.forward(x, w), atol=1e-6)


def test_other_kinds_of_observables_of_a_qnn():
    spec = one_qubit_spec()
    for observable in (Pauli("X"), Operator(Pauli("X"))):
        qnn = EstimatorQNN(circuit=spec.circuit, input_params=list(spec.input_params),
                           weight_params=list(spec.weight_params), observables=observable)  # fmt: skip
        assert QuantumLayer.from_qnn(qnn).spec.observables == (SparsePauliOp("X"),)


def test_sampler_qnn_is_refused_with_a_remedy_that_holds():
    spec = one_qubit_spec()
    sampler = SamplerQNN(circuit=spec.circuit, input_params=list(spec.input_params),
                         weight_params=list(spec.weight_params))  # fmt: skip
    with pytest.raises(CircuitError, match=r"SamplerQNN.*Fix: EstimatorQNN.*\(1 - <Z>\) / 2"):
        QuantumLayer.from_qnn(sampler)
    layer = QuantumLayer(spec, initial_weights=np.array([0.2])).double()
    by_remedy = (1 - layer(torch.tensor([[0.4]], dtype=torch.float64))[0, 0].item()) / 2
    assert by_remedy == pytest.approx(np.sin(0.3) ** 2, abs=1e-8)  # probability of 1 after RY(0.6)


def test_network_face_gives_full_jacobians():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    network = QuantumLayer(spec).neural_network
    rng = np.random.default_rng(1)
    x, w = rng.uniform(-1, 1, (2, 12)), rng.uniform(-1, 1, 8)
    by_input, by_weight = network.backward(x, w)
    assert by_input.shape == (2, 8, 12)
    assert by_weight.shape == (2, 8, 8)
    step = 1e-6
    for k in range(8):
        shift = step * np.eye(8)[k]
        slope = (network.forward(x, w + shift) - network.forward(x, w - shift)) / (2 * step)
        np.testing.assert_allclose(by_weight[:, :, k], slope, atol=1e-7)
    for k in range(12):
        shift = step * np.eye(12)[k]
        slope = (network.forward(x + shift, w) - network.forward(x - shift, w)) / (2 * step)
        np.testing.assert_allclose(by_input[:, :, k], slope, atol=1e-7)


def test_changing_the_engine_keeps_weights_and_values():
    layer = QuantumLayer(one_qubit_spec())
    x = torch.rand(3, 1)
    before = layer(x)
    layer.engine = make_engine("aer", method="statevector")
    assert layer.engine.kind == "aer"
    torch.testing.assert_close(layer(x), before)
    assert list(quantum_layers(torch.nn.Sequential(layer))) == ["0"]


def test_errors():
    layer = QuantumLayer(one_qubit_spec())
    with pytest.raises(EngineError, match=r"takes 1 inputs.*\(2, 3\)"):
        layer(torch.zeros(2, 3))
    with pytest.raises(EngineError, match="finite"):
        layer(torch.tensor([[float("nan")]]))
    with pytest.raises(EngineError, match=r"shape \(1,\), but has \(2,\)"):
        QuantumLayer(one_qubit_spec(), initial_weights=np.zeros(2))
    with pytest.raises(CircuitError, match="EstimatorQNN"):
        QuantumLayer.from_qnn(object())


def no_input_spec() -> CircuitSpec:
    """<Z> = cos(w0) and <X> = sin(w0) cos(w1), after RY(w0), RZ(w1)."""
    w = ParameterVector("w", 2)
    circuit = QuantumCircuit(1)
    circuit.ry(w[0], 0)
    circuit.rz(w[1], 0)
    return CircuitSpec.from_circuit(circuit, [], list(w), ["Z", "X"])


@pytest.mark.parametrize("engine", ["network", "statevector", "aer"])
def test_a_layer_without_inputs(engine):
    chosen = make_engine("aer") if engine == "aer" else make_engine("exact", method=engine)
    layer = QuantumLayer(no_input_spec(), chosen, initial_weights=torch.tensor([0.4, 1.1]))
    expected = torch.tensor([np.cos(0.4), np.sin(0.4) * np.cos(1.1)], dtype=torch.float32)
    values = layer()
    torch.testing.assert_close(values, expected)  # shape (n_obs,)
    values[1].backward()
    slopes = [np.cos(0.4) * np.cos(1.1), -np.sin(0.4) * np.sin(1.1)]
    np.testing.assert_allclose(layer.weight.grad.numpy(), slopes, atol=1e-6)
    for shape in ((1, 0), (3, 0), (0, 0), (2, 4, 0)):
        torch.testing.assert_close(layer(torch.zeros(shape)), expected.expand(*shape[:-1], 2))
    with pytest.raises(EngineError, match=r"takes 0 inputs.*\(2, 1\)"):
        layer(torch.zeros(2, 1))


def test_a_layer_without_inputs_is_what_a_torch_connector_is():
    spec = no_input_spec()
    qnn = EstimatorQNN(circuit=spec.circuit, weight_params=list(spec.weight_params), default_precision=0.0,
                       observables=list(spec.observables))  # fmt: skip
    weights = np.array([0.4, 1.1])
    theirs, ours = TorchConnector(qnn, weights), QuantumLayer.from_qnn(qnn, None, weights)
    assert theirs().shape == ours().shape == (2,)
    torch.testing.assert_close(ours(), theirs().float(), atol=1e-6, rtol=0)
    for layer in (theirs, ours):
        layer().sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-6, rtol=0)
    by_input, by_weight = ours.neural_network.backward(None, weights)
    assert by_input is None
    np.testing.assert_allclose(by_weight, qnn.backward(None, weights)[1], atol=1e-9)


def test_a_circuit_with_inputs_asks_for_them():
    with pytest.raises(EngineError, match="1 inputs in the last dimension, but was given nothing"):
        QuantumLayer(one_qubit_spec())()


@pytest.mark.parametrize("weights", [np.array([0.3]), torch.tensor([0.3], dtype=torch.float64), [0.3]])
def test_initial_weights_of_a_network(weights):
    spec = one_qubit_spec()
    qnn = EstimatorQNN(circuit=spec.circuit, input_params=list(spec.input_params), default_precision=0.0,
                       weight_params=list(spec.weight_params), observables=Operator(Pauli("X")))  # fmt: skip
    layer = QuantumLayer.from_qnn(qnn, make_engine("exact"), weights)
    assert layer.weight.item() == pytest.approx(0.3)
    assert layer(torch.tensor([0.5])).item() == pytest.approx(np.sin(0.8), abs=1e-6)


@pytest.mark.parametrize("weights", [[float("nan")], [1j], [float("inf")], [0.1, 0.2]])
def test_initial_weights_are_real_and_finite(weights):
    with pytest.raises(EngineError, match="`initial_weights` must"):
        QuantumLayer(one_qubit_spec(), initial_weights=np.array(weights))
