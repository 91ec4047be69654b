from __future__ import annotations

import warnings

import engine_cases as cases
import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter
from qiskit.circuit.library import RXGate, UnitaryGate, XGate
from qiskit.quantum_info import Kraus, SparsePauliOp
from qiskit_aer import AerSimulator

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import make_engine
from qhybrid.engines.gates.pauli_transfer import transfer_matrix
from qhybrid.engines.noise.aer_model import aer_error, aer_noise_model
from qhybrid.engines.noise.channels import gate_channel
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

F64 = torch.float64
FULL = NoiseProfile(
    p_1q=0.02,
    p_2q=0.05,
    t1_us=50,
    t2_us=70,
    gate_1q_ns=3000,
    gate_2q_ns=9000,
    readout_p01=0.08,
    readout_p10=0.03,
    qubits={1: {"p_1q": 0.1, "t1_us": 20, "t2_us": 10, "readout_p01": 0.2}},
    gates={"rz": {"p": 0.0, "ns": 0.0}, "cx": {"p": 0.2}},
)


def random_arguments(spec, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(batch, spec.num_inputs, dtype=F64, generator=generator)
    return inputs, torch.randn(spec.num_weights, dtype=F64, generator=generator)


@settings(deadline=None, max_examples=20, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(spec=cases.specs(max_qubits=4, max_gates=10, flat=True), seed=st.integers(0, 99))
def test_random_noisy_circuits_agree_with_density_matrices(spec, seed):
    inputs, weights = random_arguments(spec, seed=seed)
    values = make_engine("exact", noise=FULL).expectations(spec, inputs, weights)
    np.testing.assert_allclose(
        values.numpy(), cases.density_reference(spec, inputs, weights, FULL), atol=1e-10
    )


@settings(deadline=None, max_examples=6, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(spec=cases.specs(max_qubits=3, max_gates=6, flat=True), seed=st.integers(0, 99))
def test_random_noisy_circuits_agree_with_aer_in_value_and_gradient(spec, seed):
    inputs, weights = (tensor.requires_grad_() for tensor in random_arguments(spec, seed=seed))
    results = []
    for engine in (make_engine("exact", noise=FULL), make_engine("aer", noise=FULL, method="density_matrix")):
        values = engine.expectations(spec, inputs, weights)
        slopes = torch.autograd.grad(
            values.square().sum(), [inputs, weights], allow_unused=True, materialize_grads=True
        )
        results.append((values, *slopes))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("grid", [2, 3])
def test_hq_unet_with_depolarizing_noise_equals_aers_density_matrix(grid):
    spec = build_circuit("hq_unet_qcnn", grid=grid)
    profile = NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02)
    inputs, weights = random_arguments(spec, batch=1)
    exact = make_engine("exact", noise=profile).expectations(spec, inputs, weights)
    aer = make_engine("aer", noise=profile, method="density_matrix").expectations(spec, inputs, weights)
    torch.testing.assert_close(exact, aer, atol=1e-10, rtol=0)
    ideal = make_engine("exact").expectations(spec, inputs, weights)
    assert (exact - ideal).abs().max() > 1e-3


def test_trajectories_agree_within_their_error():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    profile = NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.1)
    inputs, weights = random_arguments(spec, batch=1)
    exact = make_engine("exact", noise=profile).expectations(spec, inputs, weights)
    count = 2000
    aer = make_engine("aer", noise=profile, trajectories=count, seed=5).expectations(spec, inputs, weights)
    assert (exact - aer).abs().max() < 5 / count**0.5
    again = make_engine("aer", noise=profile, trajectories=count, seed=5).expectations(spec, inputs, weights)
    assert torch.equal(aer, again)


@pytest.mark.parametrize("grid", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_hq_unet_is_within_five_standard_errors_of_aers_trajectories(grid):
    """The standard error comes from independent groups of trajectories, one a row of the batch."""
    spec = build_circuit("hq_unet_qcnn", grid=grid)
    profile = NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02)
    inputs, weights = random_arguments(spec, batch=1)
    exact = make_engine("exact", noise=profile).expectations(spec, inputs, weights)[0]
    groups = 12
    aer = make_engine("aer", noise=profile, trajectories=25, seed=7, dtype="float32")
    values = aer.expectations(spec, inputs.expand(groups, -1), weights)
    assert (values.std(dim=0) > 0).all()
    error = values.std(dim=0) / groups**0.5
    assert ((values.mean(dim=0) - exact).abs() < 5 * error).all()
    ideal = make_engine("exact").expectations(spec, inputs, weights)[0]
    assert ((values.mean(dim=0) - ideal).abs() > 5 * error).any()


def test_device_circuits_with_swaps_keep_their_noise():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    basis, line = ["rz", "sx", "x", "cx", "swap"], [[0, 1], [1, 2], [2, 3]]
    routed = transpile(spec.circuit, basis_gates=basis, coupling_map=line,
                       seed_transpiler=1, optimization_level=0)  # fmt: skip
    assert "swap" in routed.count_ops()
    observables = [observable.apply_layout(routed.layout) for observable in spec.observables]
    there = CircuitSpec.from_circuit(
        routed, spec.input_params, spec.weight_params, observables, layout_applied=True
    )
    inputs, weights = random_arguments(there, batch=1)
    values = make_engine("exact", noise=FULL).expectations(there, inputs, weights)
    np.testing.assert_allclose(
        values.numpy(), cases.density_reference(there, inputs, weights, FULL), atol=1e-10
    )


@pytest.mark.parametrize("letter", "XYZ")
def test_readout_errors_agree_with_counts(letter):
    """The read-out law against counts of an explicit rotation and measurement with Aer's noise model."""
    circuit = QuantumCircuit(2)
    circuit.ry(0.9, 1)
    circuit.rx(0.4, 1)
    observable = SparsePauliOp.from_sparse_list([(letter, [1], 1.0)], num_qubits=2)
    spec = CircuitSpec.from_circuit(circuit, [], [], observable)
    exact = make_engine("exact", noise=FULL).expectations(spec, torch.zeros(1, 0, dtype=F64), torch.zeros(0))
    measured = circuit.copy()
    if letter == "Y":
        measured.sdg(1)
    if letter in "XY":
        measured.h(1)
    model_circuit = measured.copy()
    measured.measure_all()
    model = aer_noise_model(FULL, model_circuit)
    shots = 200_000
    counts = (
        AerSimulator().run(measured, noise_model=model, shots=shots, seed_simulator=3).result().get_counts()
    )
    estimate = sum((1 - 2 * int(bits[-2])) * count for bits, count in counts.items()) / shots
    assert abs(estimate - exact.item()) < 5 / shots**0.5


def test_closed_form_of_depolarizing_and_readout():
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.rx(x, 0)
    spec = CircuitSpec.from_circuit(circuit, [x], [], SparsePauliOp("Z"))
    inputs = torch.tensor([[0.7]], dtype=F64, requires_grad=True)
    profile = NoiseProfile(p_1q=0.1, readout_p01=0.2, readout_p10=0.05)
    value = make_engine("exact", noise=profile).expectations(spec, inputs, torch.zeros(0, dtype=F64))
    expected = 0.75 * 0.9 * np.cos(0.7) + 0.15
    assert value.item() == pytest.approx(expected, abs=1e-12)
    (slope,) = torch.autograd.grad(value.sum(), inputs)
    assert slope.item() == pytest.approx(-0.75 * 0.9 * np.sin(0.7), abs=1e-12)


@pytest.mark.parametrize(("p", "value"), [(0.0, 1.0), (1.0, 0.0), (4 / 3, -1 / 3)])
def test_smallest_full_and_largest_depolarizing(p, value):
    circuit = QuantumCircuit(1)
    circuit.x(0)
    circuit.x(0)
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("Z"))
    profile = NoiseProfile(gates={"x 0": {"p": p}})
    found = make_engine("exact", noise=profile).expectations(
        spec, torch.zeros(1, 0, dtype=F64), torch.zeros(0)
    )
    assert found.item() == pytest.approx((1 - p) ** 2, abs=1e-12)
    assert (1 - p) == pytest.approx(value)


def test_channels_equal_aers():
    for name, qubits in (("x", (0,)), ("x", (1,)), ("cz", (0, 1)), ("cx", (1, 0))):
        error = FULL.gate_error(name, qubits)
        kraus = [np.asarray(matrix) for matrix in Kraus(aer_error(error)).data]
        np.testing.assert_allclose(gate_channel(error), transfer_matrix(kraus), atol=1e-12)


def test_profile_without_rates_changes_nothing():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = random_arguments(spec)
    silent = make_engine("exact", noise=NoiseProfile()).expectations(spec, inputs, weights)
    torch.testing.assert_close(silent, make_engine("exact").expectations(spec, inputs, weights))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("exact", {"noise": 0.1}, "NoiseProfile"),
        ("exact", {"dtype": "float8"}, "float32 or float64"),
        ("aer", {"noise": FULL}, "trajectories"),
        ("aer", {"trajectories": 5}, "needs noise"),
        ("aer", {"seed": 5}, "needs noise"),
        ("aer", {"noise": FULL, "trajectories": 0}, "at least 1"),
        ("aer", {"noise": FULL, "method": "density_matrix", "trajectories": 3}, "needs noise"),
    ],
)
def test_options_that_do_not_fit_are_refused(kind, options, message):
    with pytest.raises(EngineError, match=message):
        make_engine(kind, **options)


def test_depolarizing_beyond_two_qubit_range_is_refused():
    circuit = QuantumCircuit(2)
    circuit.cx(0, 1)
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("ZZ"))
    profile = NoiseProfile(gates={"cx": {"p": 1.2}})
    with pytest.raises(EngineError, match="depolarizing parameter"):
        make_engine("exact", noise=profile).expectations(spec, torch.zeros(1, 0), torch.zeros(0))


@pytest.mark.parametrize("kind", ["exact", "aer"])
def test_misspelt_gates_of_a_profile_are_refused(kind):
    circuit = QuantumCircuit(2)
    circuit.append(UnitaryGate(np.eye(4)[[0, 2, 1, 3]], label="exchange"), [0, 1])
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("ZI"))
    method = "density_matrix" if kind == "aer" else "auto"

    def value(**gates):
        engine = make_engine(kind, noise=NoiseProfile(gates=gates), method=method)
        return engine.expectations(spec, torch.zeros(1, 0), torch.zeros(0)).item()

    with pytest.raises(EngineError, match=r"lists gate `cnot`.*whose gates are exchange\. Did you mean `cx`"):
        value(cnot={"p": 0.1})
    # Gates of Qiskit's that the circuit does not have may be listed; a label is a name, too.
    assert value(**{"cz 0 1": {"p": 0.1}}) == pytest.approx(1.0)
    assert value(exchange={"p": 0.25}) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"gates": {"cx 0": {"p": 0.1}}}, r"lists `cx 0`, but `cx` acts on 2"),
        ({"gates": {"ccx 0 1": {"p": 0.1}}}, r"lists `ccx 0 1`, but `ccx` acts on 3"),
        ({"gates": {"delay": {"p": 0.1}}}, r"`delay`.*Fix: t1_us"),
        ({"channels": [{"kind": "bit_flip", "p": 0.1, "after": "measure"}]}, "readout_p01"),
        ({"channels": [{"kind": "bit_flip", "p": 0.1, "after": "h 0 1"}]}, r"lists `h 0 1`"),
    ],
)
@pytest.mark.parametrize("kind", ["exact", "aer"])
def test_listed_noise_that_no_gate_can_have_is_refused(kind, content, message):
    circuit = QuantumCircuit(2)
    circuit.cx(0, 1)
    circuit.delay(5, 0, "ns")
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("ZZ"))
    method = "density_matrix" if kind == "aer" else "auto"
    with pytest.raises(EngineError, match=message):
        make_engine(kind, noise=NoiseProfile(**content), method=method).expectations(
            spec, torch.zeros(1, 0), torch.zeros(0)
        )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"gates": {"cx 1 0": {"p": 0.1}}}, "`cx 1 0`, but the circuit has `cx 0 1`"),
        ({"t1_us": 50}, "no gate that lasts"),
        ({"qubits": {7: {"p_1q": 0.1}}}, "values for qubit(s) 7 alone"),
        ({"channels": [{"kind": "bit_flip", "p": 0.1, "qubits": [3, 2]}]}, "for qubit(s) 2, 3 alone"),
        ({"qubits": {1: {"p_1q": 0.1}, 7: {"p_1q": 0.1}}}, ""),
        ({"gates": {"cx 1 0": {"p": 0.1}, "cx 0 1": {"p": 0.1}}}, ""),
        ({"t1_us": 50, "gate_1q_ns": 10}, ""),
    ],
)
def test_noise_that_a_circuit_does_not_meet_is_warned_of(content, message):
    circuit = QuantumCircuit(2)
    circuit.cx(0, 1)
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("ZZ"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_engine("exact", noise=NoiseProfile(**content)).expectations(
            spec, torch.zeros(1, 0), torch.zeros(0)
        )
    said = " ".join(str(one.message) for one in caught)
    assert message in said if message else not said


@pytest.mark.parametrize("parameter", [None, Parameter("x")])
def test_labels_of_ordinary_gates_do_not_change_their_noise(parameter):
    circuit = QuantumCircuit(1)
    gate = XGate(label="mine") if parameter is None else RXGate(parameter * 0 + np.pi, label="mine")
    circuit.append(gate, [0])
    inputs = [] if parameter is None else [parameter]
    spec = CircuitSpec.from_circuit(circuit, inputs, [], SparsePauliOp("Z"))
    noise = NoiseProfile(p_1q=0.1, gates={"x": {"p": 0.3}, "rx": {"p": 0.3}})
    for kind, options in (("exact", {}), ("aer", {"method": "density_matrix"})):
        engine = make_engine(kind, noise=noise, **options)
        value = engine.expectations(spec, torch.zeros(1, len(inputs)), torch.zeros(0))
        assert value.item() == pytest.approx(-0.7, abs=1e-6)


def test_statevector_method_is_refused_under_noise():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    engine = make_engine("exact", noise=FULL, method="statevector")
    assert engine.explain(spec).method == "refused"


def test_engines_describe_their_noise():
    assert make_engine("exact", noise=FULL).describe()["noise"]["p_1q"] == 0.02
    assert make_engine("exact").describe()["noise"] is None


def test_noise_and_dtype_may_be_given_as_in_a_recipe(tmp_path):
    file = tmp_path / "device.yaml"
    file.write_text("p_1q: 0.25\n")
    circuit = QuantumCircuit(1)
    circuit.x(0)
    spec = CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp("Z"))
    engine = make_engine("exact", noise=str(file), dtype="float64")
    assert engine.expectations(spec, torch.zeros(1, 0), torch.zeros(0)).item() == pytest.approx(-0.75)
    assert engine.describe()["noise"]["name"] == "device"
    assert engine.describe()["dtype"] == "float64"
