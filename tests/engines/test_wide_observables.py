"""Observables on many qubits: closed forms, density matrices, and Aer's matrix-product states."""

from __future__ import annotations

import gc
import math
import threading
import time

import engine_cases as cases
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import Operator, SparsePauliOp, Statevector
from qiskit_aer import AerSimulator

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.engines.exact import announce
from qhybrid.engines.exact import kept_plans as kept_plans_module
from qhybrid.engines.exact import plan as plan_module
from qhybrid.engines.exact import search as search_module
from qhybrid.engines.exact.plan import plan_circuit
from qhybrid.engines.exact.statevector import observables as observables_module
from qhybrid.noise import NoiseProfile

F64 = torch.float64
FLIPS = NoiseProfile(name="flips", readout_p01=0.07, readout_p10=0.02)


def chain(num_qubits: int) -> CircuitSpec:
    """GHZ states with a first rotation by x: sqrt of (1 + cos x) / 2 in all zeros."""
    x, circuit = ParameterVector("x", 1), QuantumCircuit(num_qubits)
    circuit.ry(x[0], 0)
    for qubit in range(num_qubits - 1):
        circuit.cx(qubit, qubit + 1)
    observables = [SparsePauliOp("Z" * num_qubits), SparsePauliOp("X" * num_qubits)]
    return CircuitSpec.from_circuit(circuit, list(x), [], observables)


def layered(num_qubits: int, layers: int, observables, pairs=None) -> CircuitSpec:
    """Rotations by inputs and weights, and CX along a chain, in every layer."""
    x, w = ParameterVector("x", num_qubits), ParameterVector("w", num_qubits * layers)
    circuit = QuantumCircuit(num_qubits)
    for qubit in range(num_qubits):
        circuit.rx(x[qubit], qubit)
    for layer in range(layers):
        for qubit in range(num_qubits):
            circuit.ry(w[layer * num_qubits + qubit], qubit)
        for first, second in pairs or [(q, q + 1) for q in range(num_qubits - 1)]:
            circuit.cx(first, second)
    return CircuitSpec.from_circuit(circuit, list(x), list(w), observables)


def arguments(spec: CircuitSpec, batch: int = 2, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(batch, spec.num_inputs, dtype=F64, generator=generator)
    weights = torch.randn(spec.num_weights, dtype=F64, generator=generator)
    return inputs.requires_grad_(), weights.requires_grad_()


def differences(engine, spec, leaves, step=1e-5):
    """Return the gradient of the sum of all values by central differences."""
    found = []
    with torch.no_grad():
        for leaf in leaves:
            grad = torch.zeros_like(leaf)
            for place in range(leaf.numel()):
                moved = [other.detach().clone() for other in leaves]
                here = next(i for i, other in enumerate(leaves) if other is leaf)
                values = []
                for sign in (1, -1):
                    moved[here] = leaf.detach().clone()
                    moved[here].view(-1)[place] += sign * step
                    values.append(engine.expectations(spec, *moved).sum())
                grad.view(-1)[place] = (values[0] - values[1]) / (2 * step)
            found.append(grad)
    return found


@pytest.mark.parametrize("num_qubits", [5, 24, 127])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_ghz_chains_have_closed_forms(num_qubits, dtype):
    """<Z...Z> is 1 for even n, else cos x; <X...X> is sin x."""
    spec = chain(num_qubits)
    x = torch.tensor([[0.3], [2.0]], dtype=dtype, requires_grad=True)
    values = make_engine("exact").expectations(spec, x, torch.zeros(0, dtype=dtype))
    even = num_qubits % 2 == 0
    expected = torch.cat([torch.ones_like(x) if even else x.cos(), x.sin()], dim=1)
    torch.testing.assert_close(values, expected, atol=1e-5 if dtype != F64 else 1e-12, rtol=0)
    (slope,) = torch.autograd.grad(values.sum(), x)
    torch.testing.assert_close(slope, x.cos() if even else x.cos() - x.sin(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_qubits", [24, 127])
def test_ghz_chains_under_depolarizing_noise(num_qubits):
    """A Pauli string shrinks by 1 - p at every gate it does not commute out of: here all n - 1 of them."""
    noise = NoiseProfile(name="p", p_2q=0.004)
    x = torch.tensor([[0.9]], dtype=F64)
    values = make_engine("exact", noise=noise).expectations(chain(num_qubits), x, torch.zeros(0, dtype=F64))
    kept = 1 - 0.004
    # Z...Z going back through the chain is Z Z, then 1 Z, on each gate's wires by turns: each shrinks once.
    z = kept ** (num_qubits - 1) * (1.0 if num_qubits % 2 == 0 else math.cos(0.9))
    torch.testing.assert_close(
        values, torch.tensor([[z, kept ** (num_qubits - 1) * math.sin(0.9)]], dtype=F64)
    )


@pytest.mark.parametrize("num_qubits", [6, 10, 60])
def test_uneven_read_out_errors_on_wide_strings(num_qubits):
    """All qubits of a GHZ state read 0 or 1 together: the mean of products of the two outcomes."""
    a, b = 1 - 0.07 - 0.02, 0.07 - 0.02
    x = torch.tensor([[0.3], [1.7]], dtype=F64, requires_grad=True)
    values = make_engine("exact", noise=FLIPS).expectations(chain(num_qubits), x, torch.zeros(0, dtype=F64))
    zeros, ones = (1 + x.cos()) / 2, (1 - x.cos()) / 2
    expected = zeros * (b + a) ** num_qubits + ones * (b - a) ** num_qubits
    torch.testing.assert_close(values[:, :1], expected)
    (slope,) = torch.autograd.grad(values[:, 0].sum(), x)
    torch.testing.assert_close(slope, x.sin() / 2 * ((b - a) ** num_qubits - (b + a) ** num_qubits))


@pytest.mark.parametrize("method", ["network", "statevector"])
def test_wide_strings_read_with_errors_in_all_letters(method):
    """Letters X and Y are rotated to Z before they are read, here without noise of their own."""
    letters = "XYZXYZZYX"
    spec = layered(9, 1, [SparsePauliOp([letters, "Z" * 9], [0.7, -0.4]), SparsePauliOp("I" * 8 + "Z")])
    leaves = arguments(spec)
    engine = make_engine("exact", noise=FLIPS, method=method)
    values = engine.expectations(spec, *leaves)
    one = {"X": 0.91, "Y": 0.91, "Z": 0.91}
    expected = np.zeros((2, 2))
    for sample, row in enumerate(leaves[0].detach().numpy()):
        bound = spec.circuit.assign_parameters(
            dict(zip([*spec.input_params, *spec.weight_params], [*row, *leaves[1].detach().numpy()]))
        )
        state = Statevector(bound)
        for place, observable in enumerate(spec.observables):
            for label, coefficient in zip(observable.paulis.to_labels(), observable.coeffs.real):
                moved = state.data.copy()
                for qubit, letter in enumerate(reversed(label)):
                    if letter != "I":
                        pauli = Operator(SparsePauliOp(letter)).data
                        matrix = one[letter] * pauli + 0.05 * np.eye(2)
                        moved = Statevector(moved).evolve(Operator(matrix), [qubit]).data
                expected[sample, place] += coefficient * np.vdot(state.data, moved).real
    np.testing.assert_allclose(values.detach().numpy(), expected, atol=1e-12)
    found = torch.autograd.grad(values.sum(), leaves)
    for a, b in zip(found, differences(engine, spec, leaves)):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=0)


WIDE = st.text("IXYZ", min_size=6, max_size=6).filter(lambda text: sum(c != "I" for c in text) > 4)


@settings(deadline=None, max_examples=15)
@given(labels=st.lists(WIDE, min_size=1, max_size=4), seed=st.integers(0, 99), layers=st.integers(1, 2))
def test_random_wide_strings_agree_with_qiskit(labels, seed, layers):
    rng = np.random.default_rng(seed)
    pairs = [tuple(rng.choice(6, 2, replace=False)) for _ in range(5)]
    spec = layered(6, layers, [SparsePauliOp(labels), SparsePauliOp("ZIIIII")], pairs)
    inputs, weights = arguments(spec, seed=seed)
    reference = cases.statevector_values(spec, inputs.detach().numpy(), weights.detach().numpy())
    results = []
    for method in ("network", "statevector"):
        values = make_engine("exact", method=method).expectations(spec, inputs, weights)
        np.testing.assert_allclose(values.detach().numpy(), reference, atol=1e-10)
        results.append(torch.autograd.grad(values.square().sum(), (inputs, weights)))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_searched_paths_of_closed_read_outs(monkeypatch):
    monkeypatch.setattr(search_module, "SEARCH_ABOVE_SECONDS", 0.0)
    monkeypatch.setattr(search_module, "CLOSED_SECONDS", 0.0)
    monkeypatch.setattr(plan_module, "WIDEST_SWEEP", 1)
    pairs = [(q, (q + 1) % 6) for q in range(6)]
    spec = layered(6, 2, [SparsePauliOp("ZZZZZZ"), SparsePauliOp("XYZXYZ")], pairs)
    inputs, weights = arguments(spec)
    for _ in range(2):
        values = make_engine("exact", method="network").expectations(spec, inputs, weights)
        reference = cases.statevector_values(spec, inputs.detach().numpy(), weights.detach().numpy())
        np.testing.assert_allclose(values.detach().numpy(), reference, atol=1e-10)
    assert {closed for _, closed in search_module.load_paths(spec.fingerprint)} == {True}


@pytest.mark.parametrize("gates", [0, 1, 2])
@pytest.mark.parametrize("method", ["network", "statevector", "mps"])
def test_wide_strings_on_qubits_without_gates(method, gates):
    circuit = QuantumCircuit(6)
    if gates:
        circuit.ry(0.4, 2)
    if gates > 1:
        circuit.crx(0.9, 2, 4)
    labels = ["ZYYXZI", "ZZZZZZ", "ZXZXZZ", "IYZXZZ", "ZZZXZX", "ZXZZIZ"]
    spec = CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp(label) for label in labels])
    state = Statevector(circuit)
    p01, p10 = FLIPS.readout_p01, FLIPS.readout_p10
    expected, read = [], []
    for label in labels:
        expected.append(state.expectation_value(SparsePauliOp(label)).real)
        factors = {"I": np.eye(2), "Z": np.diag([1 - 2 * p10, 2 * p01 - 1])}
        for letter in "XY":
            turned = np.eye(2) * (p01 - p10) + (1 - p01 - p10) * Operator.from_label(letter).data
            factors[letter] = turned
        whole = np.eye(1)
        for letter in label:
            whole = np.kron(whole, factors[letter])
        read.append(state.expectation_value(Operator(whole)).real)
    for noise, wanted in ((None, expected), (FLIPS, read)):
        engine = make_engine("exact", method=method, noise=noise)
        found = engine.expectations(spec, torch.zeros(1, 0, dtype=F64), torch.zeros(0, dtype=F64))
        np.testing.assert_allclose(found[0], wanted, atol=1e-12)


@pytest.mark.parametrize("direction", [1, -1])
def test_chains_beyond_statevectors_agree_with_matrix_product_states(direction):
    """Aer's method; with CX in either direction a sweep from one end or the other is the cheap one."""
    size = 50
    pairs = [(q, q + 1) for q in range(size - 1)][::direction]
    spec = layered(size, 2, [SparsePauliOp("Z" * size), SparsePauliOp("I" * 40 + "ZYXZZZZZXY")], pairs)
    inputs, weights = (leaf.detach() * 0.1 for leaf in arguments(spec, batch=1))
    values = make_engine("exact").expectations(spec, inputs, weights)
    bound = spec.circuit.assign_parameters(
        dict(zip([*spec.input_params, *spec.weight_params], [*inputs[0].tolist(), *weights.tolist()]))
    )
    for place, observable in enumerate(spec.observables):
        bound.save_expectation_value(observable, range(size), label=f"o{place}")
    data = AerSimulator(method="matrix_product_state").run(bound).result().data()
    expected = torch.tensor([[data["o0"], data["o1"]]], dtype=F64)
    assert expected[0, 0].abs() > 0.01
    torch.testing.assert_close(values, expected, atol=1e-9, rtol=0)


def test_wide_strings_under_gate_noise_agree_with_density_matrices():
    noise = NoiseProfile(name="n", p_1q=0.01, p_2q=0.03, readout_p01=0.04, readout_p10=0.01)
    spec = layered(7, 2, [SparsePauliOp("ZZZZZZZ"), SparsePauliOp("XYZXYZX")])
    leaves = arguments(spec)
    engine = make_engine("exact", noise=noise)
    values = engine.expectations(spec, *leaves)
    reference = cases.density_reference(spec, *(leaf.detach() for leaf in leaves), noise)
    np.testing.assert_allclose(values.detach().numpy(), reference, atol=1e-10)
    found = torch.autograd.grad(values.sum(), leaves)
    for a, b in zip(found, differences(engine, spec, leaves)):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=0)
    rates = {name: torch.tensor(value, dtype=F64) for name, value in
             {"p_2q": 0.03, "readout_p01": 0.04}.items()}  # fmt: skip
    rated = engine.expectations(spec, *leaves, rates=rates)
    torch.testing.assert_close(rated, values)


def test_gradients_of_rates_of_a_long_chain():
    """<Z...Z> at x = pi / 2: ((a + b)^n + (b - a)^n) / 2 with a = 1 - p01 - p10 and b = p01 - p10."""
    p01 = torch.tensor(0.03, dtype=F64, requires_grad=True)
    x = torch.full((1, 1), math.pi / 2, dtype=F64)
    engine = make_engine("exact", noise=NoiseProfile(name="r", readout_p01=0.03, readout_p10=0.01))
    value = engine.expectations(chain(30), x, torch.zeros(0, dtype=F64), rates={"readout_p01": p01})[0, 0]
    other = torch.tensor(0.03, dtype=F64, requires_grad=True)
    a, b = 1 - other - 0.01, other - 0.01
    expected = ((a + b) ** 30 + (b - a) ** 30) / 2
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, p01), torch.autograd.grad(expected, other))


def test_signs_of_high_and_low_bits(monkeypatch):
    """Tables of signs that are cut, and sums that are taken in parts, give what whole ones give."""
    labels = ["ZZZZZ", "XYZXY", "YYXIZ", "ZIIXY", "IIIIX", "XYIYX", "ZXYZZ"]
    spec = layered(5, 1, [SparsePauliOp(label) for label in labels])
    inputs, weights = arguments(spec, batch=3)
    reference = cases.statevector_values(spec, inputs.detach().numpy(), weights.detach().numpy())
    whole = make_engine("exact", method="statevector").expectations(spec, inputs, weights)
    slopes = torch.autograd.grad(whole.square().sum(), (inputs, weights))
    monkeypatch.setattr(observables_module, "LOW_BITS", 2)
    monkeypatch.setattr(observables_module, "PARTIAL_SUMS", 4)
    cut = make_engine("exact", method="statevector").expectations(spec, inputs, weights)
    np.testing.assert_allclose(cut.detach().numpy(), reference, atol=1e-12)
    for a, b in zip(torch.autograd.grad(cut.square().sum(), (inputs, weights)), slopes):
        torch.testing.assert_close(a, b)


def test_long_planning_is_announced(monkeypatch, caplog):
    """Planning that takes longer than the silent time is logged while it goes on; a quick one is not."""
    spec = chain(6)
    make_engine("exact").explain(spec)
    assert not caplog.records
    logged = threading.Event()

    def slow(*arguments, **options):
        assert logged.wait(30)
        return plan_circuit(*arguments, **options)

    monkeypatch.setattr(announce, "SILENT_SECONDS", 0.01)
    monkeypatch.setattr(kept_plans_module, "plan_circuit", slow)
    monkeypatch.setattr(
        announce.LOG, "warning", lambda text, *values: (messages.append(text % values), logged.set())
    )
    monkeypatch.setattr(announce, "ANNOUNCED", set())
    messages: list[str] = []
    make_engine("exact").explain(spec)
    (message,) = messages
    assert message.startswith(f"Planning circuit `{spec.name}` takes longer than 0.01 s;")

    def slow_again(*arguments, **options):
        time.sleep(0.05)
        return plan_circuit(*arguments, **options)

    monkeypatch.setattr(kept_plans_module, "plan_circuit", slow_again)
    make_engine("exact", noise=NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02)).explain(spec)
    assert len(messages) == 1  # noise has a plan of its own, of the same circuit


def test_the_garbage_collector_is_as_it_was_after_planning(monkeypatch):
    assert gc.isenabled()
    make_engine("exact").explain(chain(5))
    assert gc.isenabled()
    monkeypatch.setattr(kept_plans_module, "plan_circuit", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_engine("exact").explain(chain(7))
    assert gc.isenabled()


def test_deep_circuits_are_compiled_when_they_are_used(monkeypatch):
    """Their programs are not needed for the choice of a method."""
    monkeypatch.setattr(plan_module, "LARGEST_COMPILED", 100)
    spec = layered(2, 60, [SparsePauliOp("ZZ")])
    plan = plan_circuit(spec)
    assert plan.network is not None
    assert "program" not in vars(plan.network.wanted)
    inputs, weights = (leaf.detach() for leaf in arguments(spec))
    values = make_engine("exact").expectations(spec, inputs, weights)
    reference = cases.statevector_values(spec, inputs.numpy(), weights.numpy())
    np.testing.assert_allclose(values.numpy(), reference, atol=1e-9)


LABELS = ["ZZZZZZ", "XXXXXX", "XZZZZZ", "ZZZZZX", "YZZZZZ", "XXIIII"]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("touched", [0, 1, 3, 5])
@pytest.mark.parametrize("noise", [None, FLIPS])
def test_letters_of_qubits_without_gates(label, touched, noise):
    """A qubit that no gate acts on is |0>: Z is 1, X and Y are 0, whatever the other qubits do."""
    x, circuit = ParameterVector("x", min(touched, 1)), QuantumCircuit(6)
    for qubit in range(touched):
        circuit.ry(x[0], qubit)
        if qubit:
            circuit.cx(qubit - 1, qubit)
    spec = CircuitSpec.from_circuit(circuit, list(x), [], [SparsePauliOp(label)])
    inputs = torch.full((1, len(x)), 0.4, dtype=F64)
    state = Statevector(circuit.assign_parameters(dict.fromkeys(x, 0.4)))
    read = SparsePauliOp([label])
    if noise is not None:
        # Every letter becomes (1 - p01 - p10) P + (p01 - p10): a product of sums of two strings.
        scale, shift = 1 - 0.07 - 0.02, 0.07 - 0.02
        read = SparsePauliOp("")
        for letter in label:
            one = ["I"] if letter == "I" else ["I", letter]
            read = read ^ SparsePauliOp(one, [1.0] if letter == "I" else [shift, scale])
    expected = state.expectation_value(read).real
    for method in ("network", "statevector", "mps"):
        value = make_engine("exact", noise, method=method).expectations(
            spec, inputs, torch.zeros(0, dtype=F64)
        )
        assert value.item() == pytest.approx(expected, abs=1e-12)


def test_a_search_is_not_begun_where_another_method_surely_wins(monkeypatch):
    """Sweeps that take far longer than statevectors stay as they are: no path is looked for."""
    x, circuit = ParameterVector("x", 8), QuantumCircuit(8)
    for layer in range(3):
        for qubit in range(8):
            circuit.ry(x[qubit] * (layer + 1), qubit)
        for qubit in range(8):
            circuit.cx(qubit, (qubit + 1) % 8)
    spec = CircuitSpec.from_circuit(circuit, list(x), [], [SparsePauliOp("IIIIIIIZ")])
    monkeypatch.setattr(search_module, "SWEEP_EXCESS", 1e-3)
    monkeypatch.setattr(search_module, "search_path", None)
    found = plan_circuit(spec)
    assert found.network is not None
    assert found.network.searched == 0
    assert found.states is not None
