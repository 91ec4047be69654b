from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit, transpile
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit.transpiler import CouplingMap, Target
from qiskit_ibm_runtime.utils.utils import is_isa_circuit

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.circuits.transpile import merge_rotations, usable_target
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.errors import CircuitError
from qhybrid.noise import NoiseProfile

LINE = Target.from_configuration(["cz", "rz", "sx", "x"], num_qubits=6, coupling_map=CouplingMap.from_line(6))


def arguments(spec, batch=2):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(batch, spec.num_inputs, generator=generator, dtype=torch.float64)
    return inputs, torch.randn(spec.num_weights, generator=generator, dtype=torch.float64)


def statevector_values(spec, inputs, weights):
    rows = []
    for row in inputs.numpy():
        values = dict(zip([*spec.input_params, *spec.weight_params], [*row, *weights.numpy()]))
        state = Statevector(spec.circuit.assign_parameters(values))
        rows.append([state.expectation_value(observable).real for observable in spec.observables])
    return np.array(rows)


def test_values_stay_and_the_circuit_fits_the_target():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    routed = spec.transpile(LINE, seed=3)
    assert is_isa_circuit(routed.circuit, LINE) == ""
    assert routed.num_qubits == 6
    assert routed.input_params == spec.input_params
    assert routed.weight_params == spec.weight_params
    inputs, weights = arguments(spec)
    expected = statevector_values(spec, inputs, weights)
    np.testing.assert_allclose(statevector_values(routed, inputs, weights), expected, atol=1e-10)
    part = routed.restrict(routed.used_qubits)
    assert part.num_qubits == len(routed.used_qubits) < 6
    np.testing.assert_allclose(statevector_values(part, inputs, weights), expected, atol=1e-10)
    exact = make_engine("exact").expectations(part, inputs, weights)
    np.testing.assert_allclose(exact.numpy(), expected, atol=1e-10)


def test_the_same_seed_gives_the_same_circuit():
    spec = build_circuit("hq_unet_qcnn", grid=3)
    device = load_device("fake_torino")
    first, second = (spec.transpile(device, seed=5, trials=1) for _ in range(2))
    assert first.fingerprint == second.fingerprint


def test_observables_of_several_qubits_follow_the_layout():
    circuit = QuantumCircuit(3)
    circuit.h(0)
    circuit.cx(0, 2)
    circuit.rx(0.3, 1)
    observables = [SparsePauliOp(["ZIX", "IYI"], [0.5, 2.0]), SparsePauliOp("XIX"), SparsePauliOp("III")]
    spec = CircuitSpec.from_circuit(circuit, [], [], observables)
    routed = spec.transpile(LINE)
    nothing = torch.zeros(1, 0, dtype=torch.float64), torch.zeros(0, dtype=torch.float64)
    expected = statevector_values(spec, *nothing)
    np.testing.assert_allclose(statevector_values(routed, *nothing), expected, atol=1e-10)
    part = routed.restrict(routed.used_qubits)
    np.testing.assert_allclose(statevector_values(part, *nothing), expected, atol=1e-10)


def test_dead_edges_and_qubits_are_avoided():
    device = load_device("fake_torino")
    dead = {frozenset(edge) for edge in device.dead_edges}
    spec = build_circuit("hq_unet_qcnn", grid=3)
    routed = spec.transpile(device, seed=1, trials=2)
    pairs = {
        frozenset(routed.circuit.find_bit(qubit).index for qubit in one.qubits)
        for one in routed.circuit.data
        if len(one.qubits) == 2
    }
    assert not pairs & dead
    usable = usable_target(load_device("fake_nighthawk").target)
    broken = [q for (q,), known in load_device("fake_nighthawk").target["sx"].items() if known.error >= 0.5]
    assert broken
    assert not any(qubit in qubits for qubit in broken for name in usable for qubits in usable[name] or {})


def test_the_grid_lies_on_a_square_lattice_without_swaps():
    spec = build_circuit("hq_unet_qcnn")
    routed = spec.transpile(load_device("fake_nighthawk"), trials=1)
    assert routed.circuit.count_ops()["cz"] == 24
    assert len(routed.used_qubits) == 16


def test_the_cost_function_decides():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    seen = []

    def dearest(candidate):
        seen.append(candidate)
        return -candidate.circuit.num_nonlocal_gates()

    chosen = spec.transpile(LINE, trials=3, cost=dearest, initial_layouts=[[0, 1, 2, 3], [5, 0, 4, 1]])
    assert len(seen) == 9
    gates = [candidate.circuit.num_nonlocal_gates() for candidate in seen]
    assert chosen.circuit.num_nonlocal_gates() == max(gates) > min(gates)
    assert spec.transpile(LINE, trials=3).circuit.num_nonlocal_gates() == min(gates)


def test_the_engines_cost_can_decide():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    engine = make_engine("exact")
    routed = spec.transpile(LINE, trials=2, cost=lambda candidate: engine.explain(candidate).seconds)
    assert is_isa_circuit(routed.circuit, LINE) == ""


def test_rotations_about_one_axis_become_one():
    x, y = Parameter("x"), Parameter("y")
    circuit = QuantumCircuit(2)
    circuit.ry(x, 0)
    circuit.barrier()
    circuit.ry(y, 0)
    circuit.rx(0.5, 0)
    circuit.cx(0, 1)
    circuit.rzz(x, 0, 1)
    circuit.rzz(0.25, 0, 1)
    circuit.ry(y, 1)
    circuit.ry(x, 0)
    merged = merge_rotations(circuit)
    assert dict(merged.count_ops()) == {"ry": 3, "rx": 1, "cx": 1, "rzz": 1}
    values = {x: 0.3, y: -0.8}
    left, right = (Statevector(one.assign_parameters(values)) for one in (circuit, merged))
    assert left.equiv(right)


def test_whole_device_and_cut_circuit_agree_under_the_devices_noise():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    profile, device = NoiseProfile.from_backend("fake_fez"), load_device("fake_fez")
    routed = spec.transpile(device, trials=1)
    qubits = routed.used_qubits
    inputs, weights = arguments(spec)
    whole = make_engine("exact", noise=profile).expectations(routed, inputs, weights)
    part = make_engine("exact", noise=profile.restrict(qubits)).expectations(
        routed.restrict(qubits), inputs, weights
    )
    torch.testing.assert_close(whole, part, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials"),
        ({"initial_layouts": [[0, 1]]}, "lists of 4 distinct qubits"),
        ({"initial_layouts": [[0, 1, 2, 2]]}, "distinct"),
        ({"initial_layouts": [[0, 1, 2, 60]]}, "distinct qubits of the target"),
        ({"target": "fake_torino"}, "must be a Qiskit Target.*'fake_torino'"),
        ({"target": load_device("fake_armonk")}, "has 4 qubits and the target 1"),
    ],
)
def test_bad_arguments_are_refused(options, message):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    with pytest.raises(CircuitError, match=message):
        spec.transpile(**{"target": LINE, **options})


@pytest.mark.parametrize("qubits", [[0, 1, 2], [0, 1, 2, 3, 3]])
def test_needed_qubits_cannot_be_dropped(qubits):
    with pytest.raises(CircuitError, match="used_qubits"):
        build_circuit("hq_unet_qcnn", grid=2).restrict(qubits)


def layered_circuit(num_qubits=4):
    """A circuit in which every qubit has another value, with entangling gates that a line must route."""
    x = ParameterVector("x", num_qubits)
    circuit = QuantumCircuit(num_qubits)
    for qubit in range(num_qubits):
        circuit.ry(x[qubit], qubit)
    for first in range(num_qubits):
        for second in range(first + 1, num_qubits):
            circuit.crx(0.3 + first, first, second)
    labels = ["".join("Z" if qubit == one else "I" for qubit in reversed(range(num_qubits)))
              for one in range(num_qubits)]  # fmt: skip
    return circuit, x, [SparsePauliOp(label) for label in [*labels, "XY" + "I" * (num_qubits - 2)]]


def on_a_line(circuit, length, initial_layout=None, level=1):
    """Transpile to a line of qubits."""
    return transpile(
        circuit,
        coupling_map=CouplingMap.from_line(length),
        basis_gates=["cz", "rz", "sx", "x"],
        initial_layout=initial_layout,
        optimization_level=level,
        seed_transpiler=3,
    )


ROUTINGS = {
    "a permuting layout": (4, [2, 0, 3, 1]),
    "ancillas": (6, [4, 1, 5, 2]),
    "a layout of the transpiler": (6, None),
    "none but the final permutation": (4, [0, 1, 2, 3]),
}


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("applied", [False, True, None])
def test_observables_follow_the_layout_of_a_transpiled_circuit(routing, applied):
    circuit, x, observables = layered_circuit()
    routed = on_a_line(circuit, *ROUTINGS[routing])
    assert routed.layout.final_index_layout() != [0, 1, 2, 3]
    given = [one.apply_layout(routed.layout) for one in observables] if applied else observables
    with warnings.catch_warnings():
        warnings.simplefilter("error" if applied is not None or routed.num_qubits > 4 else "ignore")
        spec = CircuitSpec.from_circuit(routed, list(x), [], given, layout_applied=applied)
    plain = CircuitSpec.from_circuit(circuit, list(x), [], observables)
    inputs, weights = arguments(plain)
    expected = statevector_values(plain, inputs, weights)
    np.testing.assert_allclose(statevector_values(spec, inputs, weights), expected, atol=1e-10)


def test_observables_on_the_devices_qubits_stay_where_numbers_tell():
    circuit, x, observables = layered_circuit()
    routed = on_a_line(circuit, 6, [4, 1, 5, 2])
    mapped = tuple(one.apply_layout(routed.layout) for one in observables)
    assert CircuitSpec.from_circuit(routed, list(x), [], mapped).observables == mapped


def test_what_numbers_cannot_tell_is_warned_about_only_where_it_matters():
    circuit, x, observables = layered_circuit()
    routed = on_a_line(circuit, 4, [2, 0, 3, 1])
    with pytest.warns(UserWarning, match="taken to be on its 4 qubits before.*layout_applied=True"):
        CircuitSpec.from_circuit(routed, list(x), [], observables)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CircuitSpec.from_circuit(routed, list(x), [], SparsePauliOp("ZZZZ"))
    with pytest.raises(CircuitError, match="must act on the 4 qubits .* but one has 3"):
        CircuitSpec.from_circuit(routed, list(x), [], SparsePauliOp("ZZZ"), layout_applied=False)


def test_a_circuit_can_be_transpiled_twice():
    circuit, x, observables = layered_circuit()
    routed = on_a_line(circuit, 5, [4, 1, 0, 2])
    spec = CircuitSpec.from_circuit(routed, list(x), [], observables)
    again = spec.transpile(LINE, initial_layouts=[[5, 3, 0, 1, 2]], trials=1, cost=lambda one: one.num_inputs)
    plain = CircuitSpec.from_circuit(circuit, list(x), [], observables)
    inputs, weights = arguments(plain)
    expected = statevector_values(plain, inputs, weights)
    np.testing.assert_allclose(statevector_values(again, inputs, weights), expected, atol=1e-10)
