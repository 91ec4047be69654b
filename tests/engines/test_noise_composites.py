"""Which gates take their noise as written, and what is taken apart first."""

from __future__ import annotations

import warnings

import channel_cases as cases
import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Gate, Parameter
from qiskit.circuit.library import (
    CRXGate,
    CRYGate,
    CRZGate,
    CUGate,
    PauliEvolutionGate,
    RXGate,
    RZGate,
    UGate,
    UnitaryGate,
    XGate,
)
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec
from qhybrid.circuits.standard_gates import is_standard_gate, standard_gates
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.engines.mapped import DeviceMapping
from qhybrid.errors import CircuitError, ConfigError, EngineError
from qhybrid.experiments.sweeps.profiles import check_profile_fits
from qhybrid.noise import AmplitudeDamping, CoherentRotation, NoiseProfile, load_profile

F64 = torch.float64
ENGINES = (("exact", {}), ("aer", {"method": "density_matrix"}))
PROFILE = NoiseProfile(readout_p01=0.02).with_channels(
    AmplitudeDamping(gamma=0.1), CoherentRotation(axis="ZX", angle_rad=0.2)
)
LABELS = ["IZ", "ZI", "XY", "YX"]
SMALL = sorted(name for name, gate in standard_gates().items() if gate.num_qubits in (1, 2) and name != "id")
X, W = Parameter("x"), Parameter("w")


class Rx(Gate):
    """A gate of others that happens to be called like Qiskit's: it does cx."""

    def __init__(self, angle):
        super().__init__("rx", 2, [angle])

    def _define(self):
        self.definition = QuantumCircuit(2)
        self.definition.cx(0, 1)


def spec_of(circuit, inputs=(), weights=(), labels=LABELS):
    observables = [SparsePauliOp("I" * (circuit.num_qubits - 2) + label) for label in labels]
    return CircuitSpec.from_circuit(circuit, list(inputs), list(weights), observables)


def values_and_slopes(kind, options, noise, spec, x=(0.7, -1.1), w=0.4):
    inputs = torch.tensor([[one] for one in x], dtype=F64)[:, : spec.num_inputs].requires_grad_()
    weights = torch.full((spec.num_weights,), w, dtype=F64).requires_grad_()
    values = make_engine(kind, noise=noise, **options).expectations(spec, inputs, weights)
    slopes = torch.autograd.grad(
        values.square().sum(), [inputs, weights], allow_unused=True, materialize_grads=True
    )
    return values.detach(), slopes


def quiet(call):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call()


@pytest.mark.parametrize("name", SMALL)
def test_every_standard_gate_takes_its_channels_once(name):
    """Numbers and symbols alike, in both engines, against Kraus operators by hand; nothing is taken apart."""
    count = len(standard_gates()[name].params)
    gate, size = standard_gates()[name].base_class, standard_gates()[name].num_qubits
    numbers = [0.7, 0.4, 0.25, -1.3][:count]
    symbols = [X, W, 2 * X - W, 0.5][:count]

    def circuit(params):
        result = QuantumCircuit(2)
        result.ry(0.3, 0)
        result.ry(1.1, 1)
        result.append(gate(*params), [1, 0][:size])
        return result

    expected = cases.by_hand(circuit(numbers), LABELS, PROFILE)
    for kind, options in ENGINES:
        found, _ = quiet(lambda: values_and_slopes(kind, options, PROFILE, spec_of(circuit(numbers))))  # noqa: B023
        np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-9)
    if not count:
        return
    spec = spec_of(circuit(symbols), [X], [W])
    exact, aer = (quiet(lambda: values_and_slopes(*one, PROFILE, spec)) for one in ENGINES)  # noqa: B023
    torch.testing.assert_close(exact, aer, atol=1e-8, rtol=0)
    at = spec.circuit.assign_parameters({p: {"x": 0.7, "w": 0.4}[p.name] for p in spec.circuit.parameters})
    np.testing.assert_allclose(exact[0][0].numpy(), cases.by_hand(at, LABELS, PROFILE), atol=1e-10)


def test_controls_by_zero_are_standard_gates():
    circuit = QuantumCircuit(2)
    circuit.ry(0.3, 0)
    circuit.append(CRXGate(X, ctrl_state=0), [0, 1])
    exact, aer = (quiet(lambda: values_and_slopes(*one, PROFILE, spec_of(circuit, [X]))) for one in ENGINES)  # noqa: B023
    torch.testing.assert_close(exact, aer, atol=1e-8, rtol=0)
    expected = cases.by_hand(circuit.assign_parameters({X: 0.7}), LABELS, PROFILE)
    np.testing.assert_allclose(exact[0][0].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize(
    "gate", [CRXGate(X), CRYGate(X), CRZGate(X), CUGate(X, 0.4, 0.25, 0.1), RXGate(X), UGate(X, 0.4, 1.2)]
)
def test_gates_after_one_in_parts_keep_their_noise(gate):
    """The parts (rz, ry, cx, p) have no noise; whole gates of their names on the same qubits have theirs."""
    circuit = QuantumCircuit(2)
    circuit.ry(0.3, 0)
    circuit.append(gate, [1, 0][: gate.num_qubits])
    for qubit in (0, 1):
        circuit.rz(0.4, qubit)
        circuit.p(0.2, qubit)
        circuit.ry(-0.5, qubit)
        circuit.sx(qubit)
    circuit.cx(1, 0)
    circuit.cx(0, 1)
    expected = cases.by_hand(circuit.assign_parameters({X: 0.7}), LABELS, PROFILE)
    for kind, options in ENGINES:
        found, _ = quiet(lambda: values_and_slopes(kind, options, PROFILE, spec_of(circuit, [X])))  # noqa: B023
        np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*taken apart")
def test_rates_have_gradients_through_gates_in_parts():
    """crx in parts and ccx taken apart: the slope of a channel's rate is that of the profile itself."""
    circuit = QuantumCircuit(3)
    circuit.ry(0.9, 0)
    circuit.crx(W, 0, 1)
    circuit.ccx(0, 1, 2)
    spec = spec_of(circuit, weights=[W])
    nothing = torch.zeros(1, 0, dtype=F64), torch.tensor([1.1], dtype=F64)

    def total(gamma, **options):
        engine = make_engine("exact", noise=NoiseProfile(channels=[AmplitudeDamping(gamma=gamma)]))
        return engine.expectations(spec, *nothing, **options).square().sum()

    rate = torch.tensor(0.2, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(total(0.2, rates={"channels.0.gamma": rate}), rate)
    expected = (total(0.2 + 1e-6) - total(0.2 - 1e-6)) / 2e-6
    assert slope.item() == pytest.approx(expected.item(), rel=1e-6)


def composite_circuits():
    block = QuantumCircuit(2, name="block")
    block.h(0)
    block.append(CRXGate(W), [0, 1])
    block.rz(X + 2 * W, 1)
    yield "block", block.to_gate(), [1, 0]
    larger = QuantumCircuit(3)
    larger.append(XGate().control(2), [0, 2, 1])
    larger.append(block.to_gate(), [2, 0])
    yield "larger", larger.to_instruction(), [2, 0, 1]
    yield "ccx", XGate().control(2), [2, 0, 1]
    yield "evolution", PauliEvolutionGate(SparsePauliOp(["XZ", "ZI"], [0.5, 1.0]), W), [0, 1]
    yield "controlled", block.to_gate().control(1), [0, 2, 1]
    yield "open_control", RZGate(X).control(2, ctrl_state=1), [0, 1, 2]
    yield "matrix", UnitaryGate(np.roll(np.eye(8), 1, axis=0)), [0, 1, 2]
    yield "named_rx", Rx(X), [1, 0]


COMPOSITES = list(composite_circuits())


@pytest.mark.parametrize("basis", [None, ("ry", "rz", "sx", "cz")], ids=["default", "cz"])
@pytest.mark.parametrize(("name", "gate", "qubits"), COMPOSITES, ids=[one[0] for one in COMPOSITES])
def test_composites_take_the_noise_of_their_basis_gates(name, gate, qubits, basis):
    """Both engines equal each other, with gradients, and the circuit that Qiskit writes in the basis."""
    profile = PROFILE if basis is None else PROFILE.model_copy(update={"basis": basis})
    circuit = QuantumCircuit(3)
    circuit.ry(X, 0)
    circuit.crx(0.4, 0, 1)
    circuit.ry(1.1, 2)
    circuit.append(gate, qubits)
    spec = spec_of(circuit, [X], [W])
    found = []
    for kind, options in ENGINES:
        with pytest.warns(UserWarning, match=f"taken apart into {', '.join(profile.basis)}") as said:
            found.append(values_and_slopes(kind, options, profile, spec))
        assert len(said) == 1
    torch.testing.assert_close(*found, atol=1e-8, rtol=0)
    alone = QuantumCircuit(gate.num_qubits)
    if name == "named_rx":
        alone.cx(0, 1)  # Qiskit would take it for its own
    else:
        alone.append(gate, range(gate.num_qubits))
    flat = QuantumCircuit(3)
    for instruction in circuit.data[:3]:
        flat.append(instruction)
    opened = transpile(alone, basis_gates=list(profile.basis), optimization_level=0)
    flat.compose(opened, qubits, inplace=True)
    at = flat.assign_parameters({p: {"x": 0.7, "w": 0.4}[p.name] for p in flat.parameters})
    expected = cases.by_hand(at, ["I" + label for label in LABELS], profile)
    np.testing.assert_allclose(found[0][0][0].numpy(), expected, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*taken apart")
@pytest.mark.parametrize(("kind", "options"), ENGINES)
def test_pauses_inside_of_composites_stay(kind, options):
    """x, then 2 us of relaxation: <Z> = 1 - 2 exp(-t / T1); an identity and a barrier are nothing."""
    block = QuantumCircuit(2, name="pausing")
    block.x(0)
    block.id(0)
    block.barrier()
    block.delay(2000, 0, unit="ns")
    circuit = QuantumCircuit(2)
    circuit.append(block.to_instruction(), [1, 0])
    found, _ = values_and_slopes(
        kind, options, NoiseProfile(t1_us=5.0), spec_of(circuit, labels=["ZI"]), x=[0]
    )
    assert found.item() == pytest.approx(1 - 2 * np.exp(-2 / 5))


@pytest.mark.parametrize("kind", ["exact", "aer"])
def test_the_line_is_said_once_a_circuit(kind):
    circuit = QuantumCircuit(3)
    circuit.ccx(0, 1, 2)
    circuit.ccx(2, 1, 0)
    spec = spec_of(circuit)
    engine = make_engine(kind, noise=PROFILE, **dict(ENGINES)[kind])
    nothing = torch.zeros(1, 0), torch.zeros(0)
    with pytest.warns(UserWarning, match="ccx taken apart") as said:
        engine.expectations(spec, *nothing)
    assert len(said) == 1
    quiet(lambda: engine.expectations(spec, *nothing))
    ideal = make_engine(kind, **dict(ENGINES)[kind])
    quiet(lambda: ideal.expectations(spec, *nothing))


def test_a_gate_that_the_profile_names_stays_whole():
    """`swapped` is no gate of Qiskit's: with noise of its own it takes that once, as written."""
    block = QuantumCircuit(2, name="swapped")
    block.x(0)
    block.swap(0, 1)
    circuit = QuantumCircuit(2)
    circuit.append(block.to_gate(), [0, 1])
    spec = spec_of(circuit, labels=["ZI"])
    profile = NoiseProfile(p_1q=0.3, gates={"swapped": {"p": 0.25}})
    for kind, options in ENGINES:
        found, _ = quiet(lambda: values_and_slopes(kind, options, profile, spec, x=[0.0]))  # noqa: B023
        assert found.item() == pytest.approx(-0.75)
    outer = QuantumCircuit(2)
    outer.append(block.to_gate(), [0, 1])
    outer.append(circuit.to_gate(), [0, 1])
    for kind, options in ENGINES:
        with pytest.raises(EngineError, match="`swapped`.*inside a composite"):
            values_and_slopes(kind, options, profile, spec_of(outer), x=[0.0])


def test_only_qiskits_own_classes_are_standard():
    assert is_standard_gate(RXGate(0.1))
    assert is_standard_gate(XGate().control(1, ctrl_state=0))
    assert not is_standard_gate(Rx(0.1))
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.append(Rx(0.1), [0, 1])
    for kind, options in (("exact", {}), ("aer", {"method": "statevector"})):
        found, _ = values_and_slopes(kind, options, None, spec_of(circuit, labels=["ZI"]), x=[0.0])
        assert found.item() == pytest.approx(-1.0)


@pytest.mark.parametrize("kind", ["exact", "aer"])
def test_devices_refuse_gates_that_they_do_not_have(kind):
    device = load_profile("fake_torino").restrict([0, 1, 2])
    for append in (lambda c: c.ccx(0, 1, 2), lambda c: c.crx(W, 0, 1), lambda c: c.append(Rx(0.1), [0, 1])):
        circuit = QuantumCircuit(3)
        append(circuit)
        with pytest.raises(EngineError, match="of a device must list all .*kind: routed"):
            values_and_slopes(kind, dict(ENGINES)[kind], device, spec_of(circuit, weights=circuit.parameters))


@pytest.mark.parametrize(
    ("profile", "error", "message"),
    [
        ({"gates": {"ccx": {"p": 0.1}}}, EngineError, "lists gate `ccx`, which acts on 3"),
        ({"basis": ["rz", "x", "cx"]}, CircuitError, "cannot"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused(profile, error, message):
    circuit = QuantumCircuit(3)
    circuit.ccx(0, 1, 2)
    circuit.append(RZGate(0.1).control(2), [0, 1, 2])
    for kind, options in ENGINES:
        with pytest.raises(error, match=message):
            values_and_slopes(kind, options, NoiseProfile(**profile), spec_of(circuit))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("basis: [rz, sxx, cx]", "'sxx'. Did you mean `sx`"),
        ("basis: [rz, sx]", "a gate on two qubits"),
        ("basis: [h, t, cx]", "with an angle"),
        ("basis: [rz, ccx]", "'ccx'"),
        ("{basis: [rz, sx, cz], listed_only: true}", "not used with listed_only"),
    ],
)
def test_bases_are_checked(tmp_path, content, message):
    file = tmp_path / "profile.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        NoiseProfile.load(file)


def test_the_basis_enters_the_fingerprint_only_where_it_is_another():
    assert NoiseProfile(basis=["rz", "sx", "x", "cx"]).fingerprint == NoiseProfile().fingerprint
    assert NoiseProfile(basis=["rz", "sx", "cz"]).fingerprint != NoiseProfile().fingerprint
    assert set(NoiseProfile().model_dump()).isdisjoint({"basis", "channels"})


def test_sweeps_accept_composites_and_check_channels_beforehand():
    circuit = QuantumCircuit(3)
    circuit.ccx(0, 1, 2)
    spec = spec_of(circuit)
    with pytest.warns(UserWarning, match="taken apart"):
        check_profile_fits(PROFILE, spec, None)
    for channel, message in (
        ({"kind": "bit_flip", "p": 0.1, "after": "cnot"}, "Did you mean `cx`"),
        ({"kind": "bit_flip", "p": 0.1, "qubits": [7]}, "must act on a qubit"),
        ({"kind": "depolarizing", "p": 1.2}, "at most 1.06667"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_profile_fits(NoiseProfile(channels=[channel]), spec, None)
    device = load_device("fake_manila")
    mapping = DeviceMapping(device, trials=1)
    profile = NoiseProfile.from_backend(device).with_channels(AmplitudeDamping(gamma=0.1))
    quiet(lambda: check_profile_fits(profile, spec, mapping))
