"""What is sent computes what the layer computes, and estimates are unbiased where they claim it."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_ibm_runtime.utils.utils import is_isa_circuit

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.checks import check_circuit
from qhybrid.hardware.circuits.decoding import (
    decode_chunk,
    estimates_from,
    observable_errors,
    observables_from,
)
from qhybrid.hardware.circuits.merging import merge_runs
from qhybrid.hardware.circuits.preparation import bound_circuit, folded, prepare_circuit
from qhybrid.hardware.circuits.prepared import PreparedCircuit, Pub
from qhybrid.hardware.circuits.simulation import Simulation
from qhybrid.hardware.model.requests import LayerCircuit
from qhybrid.hardware.plan.plan_files import load_circuits, save_circuit
from qhybrid.hardware.services.interface import Package
from qhybrid.hardware.services.local import LocalService
from qhybrid.hardware.settings import LEVELS, HardwareSettings, Mitigation
from qhybrid.noise import NoiseProfile

NONE = torch.empty(0, dtype=torch.float64)
GATES = ["rx", "ry", "rz", "p", "h", "sx", "x", "t", "u"]


def random_circuit(seed, size, qubits=3):
    """One- and two-qubit gates whose angles depend on two inputs, are numbers, or both."""
    rng = np.random.default_rng(seed)
    inputs = [Parameter("b"), Parameter("a")]
    circuit = QuantumCircuit(qubits)
    for _ in range(size):
        angles = [
            rng.choice([0.0, np.pi, rng.normal()]) + rng.integers(-1, 3) * inputs[rng.integers(2)]
            for _ in range(3)
        ]
        name = GATES[rng.integers(len(GATES))]
        qubit, other = rng.permutation(qubits)[:2]
        if rng.random() < 0.3:
            circuit.rzz(angles[0], qubit, other) if rng.random() < 0.5 else circuit.cx(qubit, other)
        elif name == "u":
            circuit.u(*angles, qubit)
        elif name in ("rx", "ry", "rz", "p"):
            getattr(circuit, name)(angles[0], qubit)
        else:
            getattr(circuit, name)(qubit)
    observables = [SparsePauliOp(label) for label in ("XYZ", "IZY", "ZZX", "YIX")]
    circuit.rx(inputs[0], 0)
    circuit.rx(inputs[1], 0)
    return CircuitSpec.from_circuit(circuit, inputs, [], observables)


@given(st.integers(0, 10**6), st.integers(0, 25))
def test_merged_circuits_compute_the_same(seed, size):
    spec = random_circuit(seed, size)
    merged, angle_map = merge_runs(spec)
    points = np.random.default_rng(seed).choice([0.0, np.pi / 2, np.pi, 0.3, -1.2], (4, 2))
    for row, values in zip(points, angle_map(points)):
        given_ = Statevector(spec.circuit.assign_parameters(dict(zip(spec.input_params, row))))
        found = Statevector(merged.circuit.assign_parameters(dict(zip(merged.input_params, values))))
        assert abs(abs(given_.inner(found)) - 1) < 1e-9
    runs = [i for i in merged.circuit.data if len(i.qubits) == 1]
    assert len(runs) <= 3 + 2 * sum(len(i.qubits) == 2 for i in merged.circuit.data)


def layer_of(spec, seed=0):
    weights = np.random.default_rng(seed).normal(size=spec.num_weights)
    return LayerCircuit.of(spec, torch.tensor(weights))


@pytest.fixture(scope="module")
def torino():
    return load_device("fake_torino")


@pytest.fixture(scope="module")
def layer():
    return layer_of(build_circuit("hq_unet_qcnn", grid=2, readout="ZXY"))


def test_sent_circuits_are_executable_and_equal(torino, layer):
    noise = NoiseProfile.from_backend(torino)
    settings = HardwareSettings(backend="fake_torino", layouts=1, copies=3)
    prepared = prepare_circuit(layer.key, bound_circuit(layer), torino, noise, settings)
    places = [qubit for copy in prepared.copies for qubit in copy.physical]
    assert len(prepared.copies) == 3
    assert len(set(places)) == len(places)
    dead = {tuple(sorted(edge)) for edge in torino.dead_edges}
    for variant in range(3):
        circuit = prepared.measured(variant)
        assert is_isa_circuit(circuit, torino.target) == ""
        gates = [i for i in circuit.data if i.operation.name == "cz"]
        assert gates
        assert not {tuple(sorted(circuit.find_bit(q).index for q in i.qubits)) for i in gates} & dead
    points = np.random.default_rng(3).normal(size=(2, layer.spec.num_inputs))
    found = check_circuit(bound_circuit(layer), prepared, points, torino)
    assert found["parity"] < 1e-9
    assert found["probability_sum"] == pytest.approx(1)


def test_parity_check_finds_a_wrong_circuit(small_device, small_layer, small_prepared, samples):
    wrong = layer_of(small_layer.spec, seed=9)
    with pytest.raises(HardwareError, match="must give the layer's observables"):
        check_circuit(bound_circuit(wrong), small_prepared, samples[0], small_device)


class Miswired(PreparedCircuit):
    """A circuit that is sent with its read-outs in another order, or with one left out."""

    left_out = False

    def measured(self, variant):
        circuit = super().measured(variant)
        result = circuit.copy_empty_like()
        for one in circuit.data:
            bits = [circuit.clbits[-1 - circuit.find_bit(bit).index] for bit in one.clbits]
            if not (self.left_out and bits and bits[0] is circuit.clbits[0]):
                result.append(one.operation, one.qubits, bits)
        return result


@pytest.mark.parametrize("left_out", [False, True])
def test_parity_check_finds_wrong_wires(left_out, small_device, small_layer, small_prepared, samples):
    """What is compared is the circuit that is sent, not what it was made of."""
    wrong = Miswired(**{field.name: getattr(small_prepared, field.name) for field in fields(small_prepared)})
    object.__setattr__(wrong, "left_out", left_out)
    with pytest.raises(HardwareError, match="stay within" if left_out else "must give the layer"):
        check_circuit(bound_circuit(small_layer), wrong, samples[0], small_device)


def test_executable_check_finds_another_device(small_layer, small_prepared, samples, torino):
    with pytest.raises(HardwareError, match="must consist of instructions"):
        check_circuit(bound_circuit(small_layer), small_prepared, samples[0], torino)


def test_too_many_copies_are_refused(small_device, small_layer):
    settings = HardwareSettings(backend="fake_manila", copies=2)
    with pytest.raises(HardwareError, match="`copies` must leave room"):
        prepare_circuit(
            "key", bound_circuit(small_layer), small_device, NoiseProfile.from_backend(small_device), settings
        )


@pytest.mark.parametrize("mitigation", [LEVELS["none"], LEVELS["cheap"], Mitigation(measure_twirling=False)])
def test_copies_and_padding_keep_points_in_order(layer, torino, mitigation, tmp_path):
    settings = HardwareSettings(backend="x", shots=40000, layouts=1, copies=2, mitigation=mitigation)
    prepared = prepare_circuit(layer.key, bound_circuit(layer), torino, None, settings)
    points = np.random.default_rng(4).normal(size=(5, layer.spec.num_inputs))
    service = LocalService(tmp_path, "exact")
    pubs = tuple(Pub(prepared, variant, points) for variant in range(3))
    assert pubs[0].values.shape == (3, 2 * prepared.num_parameters)
    raw = service.result_text(service.submit(Package(pubs, settings.shots, ("a", "b"))))
    (found,) = decode_chunk(raw, [(prepared, 5)], settings)
    exact = make_engine("exact").expectations(layer.spec, torch.tensor(points), torch.tensor(layer.weights))
    assert np.abs(observables_from(prepared, found.means) - exact.numpy()).max() < 6 / np.sqrt(40000)


def test_readout_correction_is_unbiased_for_products(small_device):
    circuit = QuantumCircuit(3)
    x = Parameter("x")
    circuit.ry(x, 0)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    spec = CircuitSpec.from_circuit(circuit, [x], [], [SparsePauliOp("ZZZ"), SparsePauliOp("XXX")])
    noise = NoiseProfile(readout_p01=0.08, readout_p10=0.03)
    points = np.array([[0.4], [1.9]])
    exact = make_engine("exact").expectations(spec, torch.tensor(points), NONE).numpy()
    for mitigation, biased in ((LEVELS["cheap"], False), (LEVELS["none"], True)):
        settings = HardwareSettings(backend="fake_manila", layouts=1, mitigation=mitigation)
        prepared = prepare_circuit("key", spec, small_device, noise, settings)
        pubs = [{"means": Simulation().means(Pub(prepared, v, points), None)} for v in range(2)]
        found = observables_from(prepared, estimates_from(prepared, 2, pubs, settings).means)
        assert (np.abs(found - exact).max() > 0.05) == biased
        assert biased or np.abs(found - exact).max() < 1e-6


@pytest.mark.parametrize("level", ["cheap", "standard"])
def test_simulated_devices_read_as_the_mitigation_says(level, small_device, small_layer, samples, tmp_path):
    """Twirled read-outs have no preferred value: neither prediction nor fake device may be shifted by one."""
    noise = NoiseProfile(readout_p01=0.08, readout_p10=0.02)
    settings = HardwareSettings(backend="fake_manila", layouts=1, mitigation=LEVELS[level])
    bound = bound_circuit(small_layer)
    prepared = prepare_circuit(small_layer.key, bound, small_device, noise, settings)
    save_circuit(tmp_path, bound, prepared)
    (tmp_path / "circuits" / ".x.json.abc.part.json").write_text("{")  # left by a killed process
    _, loaded = load_circuits(tmp_path, settings, noise)
    for circuit in (prepared, loaded[small_layer.key]):
        pubs = [{"means": Simulation().means(Pub(circuit, v, samples[0]), None)} for v in range(2)]
        found = observables_from(circuit, estimates_from(circuit, len(samples[0]), pubs, settings).means)
        assert np.abs(found - samples[1]).max() < 1e-6


@pytest.mark.parametrize("level", ["none", "cheap"])
def test_errors_are_what_repetitions_spread(level, small_device):
    """Also of observables whose strings err together, as sums do on entangled qubits."""
    circuit = QuantumCircuit(2)
    circuit.ry(Parameter("x"), 0)
    circuit.cx(0, 1)
    names = [
        SparsePauliOp("ZZ"),
        SparsePauliOp("IZ"),
        SparsePauliOp(["IZ", "ZI"]),
        SparsePauliOp(["ZZ", "XX"]),
    ]
    spec = CircuitSpec.from_circuit(circuit, list(circuit.parameters), [], names)
    noise = NoiseProfile(readout_p01=0.08, readout_p10=0.03)
    settings = HardwareSettings(backend="fake_manila", layouts=1, shots=500, mitigation=LEVELS[level])
    prepared = prepare_circuit("key", spec, small_device, noise, settings)
    simulation, points, found = Simulation(), np.array([[1.2]]), []
    for seed in range(200):
        pubs = [{"means": simulation.means(Pub(prepared, v, points), 500, seed, v)} for v in range(2)]
        estimates = estimates_from(prepared, 1, pubs, settings)
        found.append(observables_from(prepared, estimates.means)[0])
    ratio = np.std(found, axis=0) / observable_errors(prepared, estimates.errors)[0]
    assert (ratio[:2] > 0.8).all()
    assert (ratio < 1.2).all()


def test_folded_circuits_are_the_same_operator(small_prepared):
    spec = small_prepared.copies[0].specs[0]
    values = dict(zip(spec.input_params, np.linspace(0, 1, spec.num_inputs)))
    plain = {p: v for p, v in values.items() if p in spec.circuit.parameters}
    circuit = folded(spec.circuit, 3)
    assert circuit.num_nonlocal_gates() == 3 * spec.circuit.num_nonlocal_gates()
    first, second = (Statevector(c.assign_parameters(plain)) for c in (spec.circuit, circuit))
    assert abs(abs(first.inner(second)) - 1) < 1e-9


def test_extrapolation_comes_closer_to_the_exact_values(small_device, small_layer, samples):
    noise = NoiseProfile.from_backend(small_device)
    deviations = {}
    for name, zne in (("plain", ()), ("zne", (1, 3))):
        settings = HardwareSettings(backend="fake_manila", layouts=1, mitigation=Mitigation(zne=zne))
        prepared = prepare_circuit("key", bound_circuit(small_layer), small_device, noise, settings)
        assert len(prepared.variants) == 2 * max(1, len(zne))
        simulation = Simulation()
        pubs = [
            {"means": simulation.means(Pub(prepared, v, samples[0]), None)}
            for v in range(len(prepared.variants))
        ]
        found = estimates_from(prepared, len(samples[0]), pubs, settings)
        deviations[name] = np.abs(observables_from(prepared, found.means) - samples[1]).mean()
    assert deviations["zne"] < 0.5 * deviations["plain"]


def test_circuits_without_inputs_and_on_simulators_work(tmp_path):
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    spec = CircuitSpec.from_circuit(
        circuit, [], [], [SparsePauliOp("ZZ"), SparsePauliOp(["II", "XX"], [0.5, 1])]
    )
    settings = HardwareSettings(backend="aer", shots=100)
    prepared = prepare_circuit("key", spec, None, None, settings)
    service = LocalService(tmp_path, "exact")
    pubs = tuple(Pub(prepared, v, np.zeros((1, 0))) for v in range(2))
    raw = service.result_text(service.submit(Package(pubs, 100, ("a", "b"))))
    (found,) = decode_chunk(raw, [(prepared, 1)], settings)
    assert observables_from(prepared, found.means)[0] == pytest.approx([1.0, 1.5])


@pytest.mark.parametrize("raw", ["", "<html>", "{}", '{"format": "qhybrid-means-1", "pubs": []}', '{"a": [1'])
def test_damaged_results_are_refused(raw, small_prepared):
    with pytest.raises(HardwareError, match="decode completely"):
        decode_chunk(raw, [(small_prepared, 5)], HardwareSettings(backend="fake_manila"))


def test_delays_are_said_not_to_be_executed(small_device):
    circuit = QuantumCircuit(1)
    circuit.sx(0)
    circuit.delay(100, 0, "ns")
    spec = CircuitSpec.from_circuit(circuit, [], [], ["Z"])
    with pytest.warns(UserWarning, match="has delays, which are not executed"):
        prepare_circuit("key", spec, small_device, None, HardwareSettings(backend="fake_manila"))
