from __future__ import annotations

import pickle

import engine_cases as cases
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Parameter, ParameterVector
from qiskit.circuit.library import efficient_su2, zz_feature_map
from qiskit.quantum_info import SparsePauliOp, Statevector, random_unitary

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import make_engine
from qhybrid.errors import CircuitError, EngineError

F64 = torch.float64


def random_arguments(spec, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(batch, spec.num_inputs, dtype=F64, generator=generator)
    return inputs, torch.randn(spec.num_weights, dtype=F64, generator=generator)


def z(*qubits, n):
    return SparsePauliOp.from_sparse_list([("Z" * len(qubits), list(qubits), 1.0)], num_qubits=n)


@settings(deadline=None, max_examples=30)
@given(spec=cases.specs(), seed=st.integers(0, 99))
def test_random_circuits_agree_with_statevector(spec, seed):
    inputs, weights = random_arguments(spec, seed=seed)
    values = make_engine("exact").expectations(spec, inputs, weights)
    reference = cases.statevector_values(spec, inputs.numpy(), weights.numpy())
    np.testing.assert_allclose(values.numpy(), reference, atol=1e-10)


@settings(deadline=None, max_examples=8)
@given(spec=cases.specs(max_qubits=8, max_gates=20), seed=st.integers(0, 99))
def test_random_circuits_of_eight_qubits_agree_with_statevector(spec, seed):
    inputs, weights = random_arguments(spec, seed=seed)
    values = make_engine("exact").expectations(spec, inputs, weights)
    reference = cases.statevector_values(spec, inputs.numpy(), weights.numpy())
    np.testing.assert_allclose(values.numpy(), reference, atol=1e-10)


@settings(deadline=None, max_examples=25)
@given(spec=cases.specs(max_qubits=4, max_gates=10), seed=st.integers(0, 99))
def test_gradients_agree_with_central_differences(spec, seed):
    inputs, weights = random_arguments(spec, seed=seed)
    engine = make_engine("exact")
    leaves = [inputs.clone().requires_grad_(), weights.clone().requires_grad_()]
    engine.expectations(spec, *leaves).square().sum().backward()
    step = 1e-5
    for which, leaf in enumerate(leaves):
        numeric = torch.zeros_like(leaf)
        for place in range(leaf.numel()):
            sides = []
            for sign in (1, -1):
                moved = [inputs.clone(), weights.clone()]
                moved[which].view(-1)[place] += sign * step
                sides.append(engine.expectations(spec, *moved).square().sum())
            numeric.view(-1)[place] = (sides[0] - sides[1]) / (2 * step)
        analytic = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        torch.testing.assert_close(analytic, numeric, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("grid", [1, 2, 3])
@pytest.mark.parametrize("order", ["chain", "even_odd"])
def test_hq_unet_agrees_with_statevector(grid, order):
    spec = build_circuit("hq_unet_qcnn", grid=grid, pair_order=order)
    inputs, weights = random_arguments(spec)
    values = make_engine("exact").expectations(spec, inputs, weights)
    reference = cases.statevector_values(spec, inputs.numpy(), weights.numpy())
    np.testing.assert_allclose(values.numpy(), reference, atol=1e-10)


@pytest.mark.parametrize("reps", [1, 2])
def test_zz_feature_map_and_su2_agree_with_statevector(reps):
    features, ansatz = zz_feature_map(4, reps=reps), efficient_su2(4, reps=reps)
    circuit = features.compose(ansatz)
    spec = CircuitSpec.from_circuit(
        circuit, list(features.parameters), list(ansatz.parameters), [z(0, n=4), z(0, 1, 2, 3, n=4)]
    )
    inputs, weights = random_arguments(spec)
    values = make_engine("exact").expectations(spec, inputs, weights)
    np.testing.assert_allclose(
        values.numpy(), cases.statevector_values(spec, inputs.numpy(), weights.numpy()), atol=1e-10
    )


def test_closed_form_value_and_gradient_of_one_rotation():
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.rx(x, 0)
    spec = CircuitSpec.from_circuit(circuit, [x], [], [SparsePauliOp("Z"), SparsePauliOp("Y")])
    inputs = torch.tensor([[0.3], [1.2]], dtype=F64, requires_grad=True)
    values = make_engine("exact").expectations(spec, inputs, torch.zeros(0, dtype=F64))
    torch.testing.assert_close(values, torch.cat([inputs.cos(), -inputs.sin()], dim=1))
    (slope,) = torch.autograd.grad(values[:, 0].sum(), inputs)
    torch.testing.assert_close(slope, -inputs.sin())


def test_composite_instructions_are_opened():
    x = ParameterVector("x", 2)
    inner = QuantumCircuit(2, name="block")
    inner.ry(x[0], 0)
    inner.crx(x[0] * x[1], 0, 1)
    outer = QuantumCircuit(3)
    outer.append(inner.to_instruction(), [2, 0])
    outer.append(inner.to_gate(), [1, 2])
    outer.unitary(random_unitary(8, seed=1), [0, 2, 1])
    outer.swap(0, 2)
    spec = CircuitSpec.from_circuit(outer, list(x), [], [z(0, 2, n=3), z(1, n=3)])
    inputs, weights = random_arguments(spec)
    values = make_engine("exact").expectations(spec, inputs, weights)
    np.testing.assert_allclose(
        values.numpy(), cases.statevector_values(spec, inputs.numpy(), weights.numpy()), atol=1e-10
    )


def test_identity_observables_unused_qubits_and_unused_parameters():
    x, w = ParameterVector("x", 2), ParameterVector("w", 2)
    circuit = QuantumCircuit(3)
    circuit.ry(x[0], 1)
    observables = [
        SparsePauliOp("III", 2.5),
        z(0, n=3),
        SparsePauliOp("XII"),
        SparsePauliOp(["IZI", "IZI", "III"], [0.5, 0.25, 1.0]),
        SparsePauliOp.from_sparse_list([], num_qubits=3),
    ]
    spec = CircuitSpec.from_circuit(circuit, list(x), list(w), observables)
    inputs = torch.tensor([[0.4, 9.0]], dtype=F64, requires_grad=True)
    weights = torch.ones(2, dtype=F64, requires_grad=True)
    values = make_engine("exact").expectations(spec, inputs, weights)
    expected = torch.tensor([[2.5, 1.0, 0.0, 1.0 + 0.75 * np.cos(0.4), 0.0]], dtype=F64)
    torch.testing.assert_close(values, expected)
    gradients = torch.autograd.grad(
        values.sum(), [inputs, weights], allow_unused=True, materialize_grads=True
    )
    torch.testing.assert_close(gradients[0], torch.tensor([[-0.75 * np.sin(0.4), 0.0]], dtype=F64))
    torch.testing.assert_close(gradients[1], torch.zeros(2, dtype=F64))


@pytest.mark.parametrize("name", ["no_qubits", "no_gates", "no_observables", "no_parameters"])
def test_empty_things(name):
    x = Parameter("x")
    circuit = QuantumCircuit(0 if name == "no_qubits" else 1)
    if name in ("no_observables",):
        circuit.rx(x, 0)
    observables = {"no_qubits": [SparsePauliOp("", 3.0)], "no_observables": []}.get(
        name, [SparsePauliOp("Z")]
    )
    spec = CircuitSpec.from_circuit(circuit, [] if name == "no_parameters" else [x], [], observables)
    inputs, weights = random_arguments(spec, batch=3)
    values = make_engine("exact").expectations(spec, inputs, weights)
    assert values.shape == (3, len(observables))
    expected = 3.0 if name == "no_qubits" else 1.0
    assert torch.equal(values, torch.full_like(values, expected))


def test_empty_batch_keeps_the_gradient_path():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs = torch.zeros(0, spec.num_inputs, requires_grad=True)
    weights = torch.zeros(spec.num_weights, requires_grad=True)
    values = make_engine("exact").expectations(spec, inputs, weights)
    assert values.shape == (0, spec.num_observables)
    values.sum().backward()
    assert torch.equal(weights.grad, torch.zeros_like(weights))
    assert inputs.grad.shape == inputs.shape


def test_single_precision_is_near_double_precision():
    spec = build_circuit("hq_unet_qcnn", grid=3)
    inputs, weights = random_arguments(spec, batch=4)
    engine = make_engine("exact")
    single = engine.expectations(spec, inputs.float(), weights.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), engine.expectations(spec, inputs, weights), atol=1e-5, rtol=0)


def test_requested_arithmetic_is_used_and_the_result_follows_the_inputs():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = random_arguments(spec)
    fine = make_engine("exact", dtype=torch.float64).expectations(spec, inputs.float(), weights.float())
    assert fine.dtype == torch.float32
    reference = make_engine("exact").expectations(spec, inputs.float().double(), weights.float().double())
    assert torch.equal(fine, reference.float())


@pytest.mark.parametrize("options", [{}, {"shots": 20, "seed": 1}])
def test_engines_travel_to_other_processes(options):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = random_arguments(spec)
    used = make_engine("exact", **options)
    used.expectations(spec, inputs, weights)
    there = pickle.loads(pickle.dumps(used))  # noqa: S301 - our own bytes
    torch.testing.assert_close(
        there.expectations(spec, inputs, weights), used.expectations(spec, inputs, weights), atol=0, rtol=0
    )


def test_second_derivatives_and_functional_transforms():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = random_arguments(spec)
    engine = make_engine("exact")
    assert torch.autograd.gradgradcheck(
        lambda a, b: engine.expectations(spec, a, b)[:, :3],
        (inputs.clone().requires_grad_(), weights.clone().requires_grad_()),
    )
    jacobian = torch.func.jacrev(lambda b: engine.expectations(spec, inputs, b))(weights)
    forward = torch.func.jacfwd(lambda b: engine.expectations(spec, inputs, b))(weights)
    torch.testing.assert_close(jacobian, forward)
    many = torch.stack([weights, weights + 1])
    mapped = torch.func.vmap(lambda b: engine.expectations(spec, inputs, b))(many)
    torch.testing.assert_close(mapped[1], engine.expectations(spec, inputs, weights + 1))


def test_layout_of_a_transpiled_circuit_is_followed():
    from qiskit import transpile

    spec = build_circuit("hq_unet_qcnn", grid=2)
    routed = transpile(
        spec.circuit,
        basis_gates=["rz", "sx", "x", "cz"],
        coupling_map=[[0, 1], [1, 2], [2, 3], [3, 4]],
        seed_transpiler=3,
    )
    observables = [observable.apply_layout(routed.layout) for observable in spec.observables]
    there = CircuitSpec.from_circuit(
        routed, spec.input_params, spec.weight_params, observables, layout_applied=True
    )
    inputs, weights = random_arguments(spec)
    engine = make_engine("exact")
    torch.testing.assert_close(
        engine.expectations(there, inputs, weights),
        engine.expectations(spec, inputs, weights),
        atol=1e-10,
        rtol=0,
    )


def measured():
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    return circuit


def reset():
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.reset(0)
    return circuit


def branched():
    circuit = QuantumCircuit(QuantumRegister(1), ClassicalRegister(1))
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(0)
    return circuit


@pytest.mark.parametrize("build", [measured, reset, branched])
def test_circuits_that_are_not_unitary_are_refused(build):
    spec = CircuitSpec.from_circuit(build(), [], [], SparsePauliOp("Z"))
    with pytest.raises(CircuitError, match="unitary"):
        make_engine("exact").expectations(spec, torch.zeros(1, 0), torch.zeros(0))


@pytest.mark.parametrize(
    ("inputs", "weights", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(8), r"\(batch, 12\).*\(2, 3\)"),
        (torch.zeros(2, 12), torch.zeros(7), r"\(8,\).*\(7,\)"),
        (torch.zeros(2, 12, dtype=torch.int64), torch.zeros(8), "int64"),
        (torch.full((2, 12), torch.nan), torch.zeros(8), "finite.*nan"),
        (torch.zeros(2, 12), torch.full((8,), torch.inf), "finite.*inf"),
    ],
)
@pytest.mark.parametrize("kind", ["exact", "aer"])
def test_bad_arguments_are_refused(kind, inputs, weights, message):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    with pytest.raises(EngineError, match=message):
        make_engine(kind).expectations(spec, inputs, weights)


def test_complex_observables_are_refused():
    spec = CircuitSpec.from_circuit(QuantumCircuit(1), [], [], SparsePauliOp("Z", 1j))
    with pytest.raises(EngineError, match="real coefficients"):
        make_engine("exact").expectations(spec, torch.zeros(1, 0), torch.zeros(0))


def test_statevector_reference_is_itself_right():
    """The reference of this file against a value known by heart: GHZ states have <ZZ> = 1."""
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    assert Statevector(circuit).expectation_value(SparsePauliOp("ZZ")).real == pytest.approx(1.0)
