"""Gates of any angle: in their range for all data, fewer of them, the same values; no clash is planned."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plan_cases import quick
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import RZZGate
from qiskit.quantum_info import Operator, SparsePauliOp
from qiskit_ibm_runtime import SamplerV2
from qiskit_ibm_runtime.executor_sampler.prepare import prepare
from qiskit_ibm_runtime.fake_provider import FakeFractionalBackend
from qiskit_ibm_runtime.options_models import SamplerOptions
from qiskit_ibm_runtime.transpiler.passes.basis.fold_rzz_angle import convert_to_rzz_valid_pub
from torch import nn

from qhybrid.circuits import CircuitSpec
from qhybrid.cli.console import console
from qhybrid.cli.hardware_tables import print_plan
from qhybrid.devices import load_device
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.fractional import (
    LinearForm,
    fold_angles,
    folded_angle,
    is_fractional,
    with_assumed_gates,
    without_fractional_gates,
)
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.model.workload import Samples, Workload
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.settings import LEVELS
from qhybrid.layers import QuantumLayer

X, Z = np.array([[0, 1], [1, 0]]), np.diag([1, -1])


@given(st.floats(-40, 40) | st.sampled_from([k * np.pi / 2 for k in range(-8, 9)]))
def test_every_angle_has_a_form_within_the_range(angle):
    """Against the matrices, with the formulas written out."""
    zz, x, z = (float(one[0]) for one in folded_angle(np.array([angle])))
    assert 0 <= zz <= np.pi / 2
    assert {x, z} <= {0.0, np.pi}
    flip = np.kron(np.eye(2), X if x else np.eye(2))
    behind = np.kron(Z, Z) if z else np.eye(4)
    found = behind @ flip @ Operator(RZZGate(zz)).data @ flip
    assert Operator(found).equiv(Operator(RZZGate(angle)), atol=1e-7)


def spec_of():
    """RZZ of an input, of a sum of inputs, and of a number out of range."""
    x, y, w = Parameter("x"), Parameter("y"), Parameter("w")
    circuit = QuantumCircuit(3)
    for qubit in range(3):
        circuit.ry(x, qubit)
    circuit.rzz(3 * x, 0, 1)
    circuit.rzz(y - 2 * x + 0.4, 1, 2)
    circuit.crx(w, 0, 1)
    circuit.rx(y, 0)
    circuit.rzz(-2.5, 1, 2)
    for qubit in range(3):
        circuit.rx(0.7, qubit)
    observables = [SparsePauliOp("ZZI"), SparsePauliOp("IYX")]
    return CircuitSpec.from_circuit(circuit, [x, y], [w], observables)


class Model(nn.Module):
    """One layer, whose values are the logits."""

    def __init__(self):
        super().__init__()
        self.layer = QuantumLayer(spec_of())
        nn.init.constant_(self.layer.weight, 0.9)

    def forward(self, images):
        return self.layer(images.flatten(1)[:, :2])


@pytest.fixture(scope="module")
def workload():
    images = torch.tensor([[0.3, -2.8], [-1.7, 0.4], [2.9, 3.0]]).reshape(3, 1, 1, 2)
    return Workload(Model().eval(), Samples(images, torch.tensor([0, 1, 0]), ("a", "b", "c"), ("no", "yes")))


def angles_of(job_circuits):
    return [
        float(one.operation.params[0])
        for circuit in job_circuits
        for one in circuit.data
        if one.operation.name == "rzz"
    ]


def test_a_plan_with_fractional_gates(workload, tmp_path):
    settings = quick(backend="fake_torino", shots=20_000, use_fractional_gates=True, mitigation="readout")
    folder = make_plan(workload, settings, tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    (one,) = content["circuits"].values()
    assert content["settings"]["use_fractional_gates"]
    assert one["two_qubit_gates"] < one["without_fractional"]["two_qubit_gates"]
    assert one["parity"] < 1e-6
    assert one["gates"]["rzz"] >= 3
    with console.capture() as printed:
        print_plan(folder)
    assert f"{one['without_fractional']['two_qubit_gates']} -> {one['two_qubit_gates']}" in printed.get()
    with open_plan(folder, lambda *_: workload) as execution:  # with the angles of the plan's files
        (circuit,) = execution.context.circuits.values()
        points = np.array([[0.3, -2.8], [-1.7, 0.4], [2.9, 3.0]])
        values, names = circuit.angle_map(points), circuit.parameters(0)
        for row in values:
            bound = [
                circuit.measured(v).assign_parameters(dict(zip(names, row)), strict=False)
                for v in range(len(circuit.variants))
            ]
            found = angles_of(bound)
            assert found
            assert min(found) >= 0
            assert max(found) <= np.pi / 2
        outcome = write_outcome(execution, execution.run())
    assert outcome["observable_deviation_rms"] < 0.06


def test_folding_agrees_with_the_client():
    """Its own rewriting of one PUB has the same angles for the same parameters."""
    a, b = Parameter("a"), Parameter("b")
    circuit = QuantumCircuit(2)
    circuit.rzz(2 * a - b + 0.3, 0, 1)
    spec = CircuitSpec("c", circuit, (a, b), (), (SparsePauliOp("ZZ"),))
    _, (form,) = fold_angles(spec)
    assert dict(form.factors) == {0: 2.0, 1: -1.0}
    assert form.offset == pytest.approx(0.3)
    rows = np.random.default_rng(1).uniform(-6, 6, (30, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pub = convert_to_rzz_valid_pub(SamplerV2(FakeFractionalBackend()), (circuit, rows))
    (theirs,) = [
        values for names, values in pub.parameter_values.data.items() if any(n.endswith("rzz") for n in names)
    ]
    assert folded_angle(form(rows))[0] == pytest.approx(np.asarray(theirs).reshape(-1))


def test_angles_that_are_not_linear_are_refused():
    a = Parameter("a")
    circuit = QuantumCircuit(2)
    circuit.rzz(a * a, 0, 1)
    with pytest.raises(HardwareError, match=r"circuit `c` must be linear .* but one is a\*a"):
        fold_angles(CircuitSpec("c", circuit, (a,), (), (SparsePauliOp("ZZ"),)))
    assert LinearForm(((1, 2.0),), 0.5)(np.array([[9.0, 1.0]])) == pytest.approx([2.5])


@pytest.mark.parametrize("level", ["strong", "zne"])
def test_what_the_service_does_not_allow_is_refused_before_planning(level, workload, tmp_path):
    with pytest.raises(HardwareError, match="`use_fractional_gates` must go without mitigation"):
        make_plan(workload, quick(use_fractional_gates=True, mitigation=level), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("part", "allowed"), [("gates", False), ("measure", True), ("decoupling", True)])
def test_the_client_refuses_the_same(part, allowed):
    """What is refused here is what its own preparation of a job refuses."""
    circuit = QuantumCircuit(5, 2)
    circuit.rzz(0.4, 0, 1)
    circuit.measure([0, 1], [0, 1])
    options = SamplerOptions(default_shots=64)
    options.twirling.enable_gates = part == "gates"
    options.twirling.enable_measure = part == "measure"
    options.dynamical_decoupling.enable = part == "decoupling"
    if allowed:
        assert prepare([circuit], options, 64, backend=FakeFractionalBackend())[0].items
    else:
        with pytest.raises(Exception, match="Non-Clifford and unbound fractional entanglers"):
            prepare([circuit], options, 64, backend=FakeFractionalBackend())


def test_devices_with_and_without():
    device = load_device("fake_fractional")
    assert is_fractional(device)
    plain = without_fractional_gates(device)
    assert not is_fractional(plain)
    assert set(plain.target.operation_names) == set(device.target.operation_names) - {"rx", "rzz"}
    torino = load_device("fake_torino")
    assert not is_fractional(torino)
    assert without_fractional_gates(torino) is torino
    found = with_assumed_gates(torino)
    edge = next(one for one in torino.gates if one.name == "cz")
    assert found.target["rzz"][edge.qubits].error == edge.error
    assert {one.name for one in found.gates} - {one.name for one in torino.gates} == {"rx", "rzz"}
    with pytest.raises(HardwareError, match="must have fractional gates, or cz and sx"):
        with_assumed_gates(load_device("fake_manila"))


def test_a_simulator_has_no_gates_of_its_own(workload, tmp_path):
    with pytest.raises(HardwareError, match="`use_fractional_gates` must be for a device"):
        make_plan(workload, quick(backend="aer", use_fractional_gates=True), tmp_path)


def test_a_device_of_the_service_without_them(workload, server, service_state, tmp_path):
    with pytest.raises(HardwareError, match="ibm_manila must have fractional gates"):
        make_plan(workload, quick(backend="ibm_manila", use_fractional_gates=True), tmp_path)
    assert LEVELS["standard"].gate_twirling is False
