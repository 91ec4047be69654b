"""Constants of the cost model: fitted, kept, believed only where they are credible."""

from __future__ import annotations

import json

import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import make_engine
from qhybrid.engines.exact import calibrate as calibrate_module
from qhybrid.engines.exact import constants
from qhybrid.engines.exact.calibrate import Probe, calibrate, fitted
from qhybrid.engines.exact.constants import SHIPPED, calibration_file, constants_in_use
from qhybrid.engines.exact.cost import FURTHEST, NEAR_QUBITS, compiled_cost
from qhybrid.engines.exact.execute import NetworkExecutor
from qhybrid.engines.exact.native.library import kernels
from qhybrid.engines.exact.plan import plan_circuit
from qhybrid.engines.exact.tape.function import TapedNetwork
from qhybrid.engines.gates.expression_groups import FIXED_OPERATORS, operators_of
from qhybrid.errors import EngineError

THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path))
    constants_in_use.cache_clear()
    yield
    constants_in_use.cache_clear()


def probes_of(true):
    """Steps of many mixtures of work whose times are exactly those of some constants."""
    names = list(true)
    mixtures = [{a: 1.0 / true[a], b: 0.3 * (i + 1) / true[b]} for i, a in enumerate(names) for b in names]
    return tuple(
        Probe("p", tuple(one.items()), sum(true[name] * n for name, n in one.items())) for one in mixtures
    )


def test_the_fit_recovers_the_constants_of_exact_times():
    true = {name: value * (1.5 + place) for place, (name, value) in enumerate(SHIPPED.items())}
    assert fitted(probes_of(true)) == pytest.approx(true, rel=1e-6)


def test_constants_that_nothing_shows_are_scaled_like_the_others():
    found = fitted((Probe("p", (("network.entry", 1e6),), 1e6 * 3 * SHIPPED["network.entry"]),))
    assert found["network.entry"] == pytest.approx(3 * SHIPPED["network.entry"])
    assert all(0 < found[name] < 3 * SHIPPED[name] for name in SHIPPED if name != "network.entry")


def test_measured_constants_are_kept_and_change_predictions(monkeypatch):
    true = {name: 2 * value for name, value in SHIPPED.items()}
    monkeypatch.setattr(calibrate_module, "_probes", lambda: iter(probes_of(true)))
    spec = build_circuit("qufex_filter1", num_qubits=4)
    before = make_engine("exact").explain(spec, 8)
    found = calibrate()
    assert found.file == calibration_file(THREADS)
    assert constants_in_use(THREADS) == pytest.approx(true)
    assert constants_in_use(THREADS + 1) == SHIPPED
    after = make_engine("exact").explain(spec, 8)
    assert after.method == before.method
    assert after.seconds == pytest.approx(2 * before.seconds)
    assert after.seconds == pytest.approx(sum(true[name] * number for name, number in after.counts))


@pytest.mark.parametrize("content", ["", "[]", '{"seconds": 3}', '{"seconds": {"network.entry": "x"}}'])
def test_damaged_files_are_ignored(content):
    file = calibration_file(THREADS)
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert constants_in_use(THREADS) == SHIPPED


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1.0])
def test_incredible_constants_are_ignored(value):
    file = calibration_file(THREADS)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"seconds": {"network.entry": value, "statevector.step": 2e-4}}))
    assert constants_in_use(THREADS) == {**SHIPPED, "statevector.step": 2e-4}


def test_incredible_measurements_are_refused(monkeypatch):
    true = {**SHIPPED, "network.entry": 1e6 * SHIPPED["network.entry"]}
    monkeypatch.setattr(calibrate_module, "_probes", lambda: iter(probes_of(true)))
    with pytest.raises(EngineError, match=r"network.entry.*was measured as.*Fix"):
        calibrate()
    assert not calibration_file(THREADS).exists()


def test_probes_are_measured_steps(monkeypatch):
    """The real probes, with the fewest repeats, of one small circuit."""
    name, spec, batches, noise = next(calibrate_module._circuits())
    monkeypatch.setattr(calibrate_module, "_circuits", lambda: iter([(name, spec, batches[:1], noise)]))
    monkeypatch.setattr(calibrate_module, "PROBE_SECONDS", 0.0)
    found = list(calibrate_module._probes())
    names = {probe.name.split(", ")[-2].partition(" (")[0] for probe in found}
    assert names == {"mps", "network", "statevector"} | (set() if kernels().library is None else {"density"})
    assert all(probe.seconds > 0 and {name for name, _ in probe.counts} <= set(SHIPPED) for probe in found)
    assert constants.seconds_of(found[0].counts) == pytest.approx(
        sum(SHIPPED[unit] * number for unit, number in found[0].counts)
    )


CIRCUITS = [
    ("qufex_filter1", {"num_qubits": 8}),
    ("qcnn", {}),
    ("hq_unet_qcnn", {"grid": 3, "reps": 2}),
    ("hq_unet_qcnn", {"grid": 4}),
    ("qcq_classifier", {}),
]


@pytest.mark.parametrize(("name", "options"), CIRCUITS)
def test_predicted_memory_is_that_of_the_tape(name, options):
    """The tape's memory is known to the byte; the prediction is made before there is one."""
    spec = build_circuit(name, **options)
    plan = plan_circuit(spec)
    sizes = (spec.num_inputs, spec.num_weights, spec.num_observables)
    like = torch.empty(0, dtype=torch.float32)
    network = plan.network
    twin = NetworkExecutor(network.program, network.outputs, sizes, like)
    tape = TapedNetwork(network.program, network.outputs, sizes, like, twin)
    predicted = make_engine("exact", method="network").explain(spec, 64).memory_bytes
    assert 1 / 1.3 < predicted / tape.nbytes(64) < 1.3


def expression_circuit(qubits, batched):
    """Products of inputs, or of weights, as angles."""
    x, w = ParameterVector("x", qubits), ParameterVector("w", qubits)
    circuit = QuantumCircuit(qubits)
    for qubit in range(qubits):
        circuit.ry(x[qubit], qubit)
        circuit.ry(w[qubit], qubit)
    own = x if batched else w
    circuit.rzz((1.5 - own[0]) * own[1], 0, 1)
    circuit.rzz((0.5 - own[1]) * own[0], 0, 1)
    circuit.ry(0.3, 0)
    observables = [SparsePauliOp("I" * (qubits - 1) + "Z")]
    return CircuitSpec.from_circuit(circuit, list(x), list(w), observables)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(("method", "kernel"), [("network", None), ("statevector", "torch")])
def test_expressions_of_angles_are_counted_in_every_method(method, kernel, batched):
    engine = make_engine("exact", method=method, kernel=kernel)
    counts = dict(engine.explain(expression_circuit(2, batched), 10).counts)
    assert counts["angle.operator"] > 0
    # One form of two angles: a product of a sum of two leaves, and a leaf.
    assert counts["angle.entry"] >= (2 * 5 * 10 if batched else 0)
    assert (counts["angle.entry"] > 0) == batched
    plain = engine.explain(build_circuit("qufex_filter1", num_qubits=4), 10).counts
    assert not any(name.startswith("angle.") for name, _ in plain)


@pytest.mark.skipif(kernels().library is None, reason="no compiled kernels")
@pytest.mark.parametrize("batched", [True, False])
def test_the_compiled_library_evaluates_expressions_without_operators(batched):
    engine = make_engine("exact", method="statevector", kernel="compiled")
    counts = dict(engine.explain(expression_circuit(2, batched), 10).counts)
    assert "angle.operator" not in counts
    # Two angles (1.5 + -1 x) y, of seven nodes each, for ten samples.
    assert counts.get("compiled.angle", 0.0) == (2 * 7 * 10 if batched else 0)


def test_forms_are_counted_once_and_their_numbers_for_every_expression():
    tree = ("mul", ("input", 0), ("add", ("input", 1), ("number", 2.0)))
    other = ("mul", ("input", 3), ("add", ("input", 2), ("number", 7.0)))
    one, several = operators_of([tree]), operators_of([tree, other])
    assert one[0] == several[0] == 2 * FIXED_OPERATORS + 5
    assert (one[1], several[1]) == (5, 10)
    assert operators_of([]) == (0, 0)


def test_samples_in_float64_take_twice_the_time_but_not_what_a_call_takes():
    spec = build_circuit("qufex_filter1", num_qubits=8)
    for method in ("network", "statevector"):
        single = make_engine("exact", method=method, dtype=torch.float32).explain(spec, 500)
        double = make_engine("exact", method=method, dtype=torch.float64).explain(spec, 250)
        assert double.seconds == pytest.approx(single.seconds)
        assert double.counts == single.counts


def test_states_beyond_the_near_memory_are_dearer_by_each_qubit():
    costs = [compiled_cost(1e6, 30, qubits, 1, 1).seconds for qubits in (NEAR_QUBITS, NEAR_QUBITS + 1)]
    assert costs[1] - costs[0] == pytest.approx(1e6 * SHIPPED["compiled.far_amplitude"])
    far = [compiled_cost(1e6, 30, qubits, 1, 1).seconds for qubits in (NEAR_QUBITS + FURTHEST, 30)]
    assert far[0] == far[1]


def test_mps_is_predicted_by_the_table():
    found = make_engine("exact", method="mps").explain(build_circuit("qufex_filter1", num_qubits=4), 8)
    assert {name for name, _ in found.counts} == {"mps.operator", "mps.multiply_add", "mps.entry"}
    assert found.seconds == pytest.approx(constants.seconds_of(found.counts))


def test_beyond_the_tape_new_memory_is_counted():
    spec = build_circuit("qufex_filter1", num_qubits=8)
    engine = make_engine("exact", method="network")
    # Above 1 GiB a batch is taken in parts, whose values are computed again for the gradient.
    for batch, factor in ((6_000, 1.0), (10_000, 4 / 3)):
        sample = dict(plan_circuit(spec).network.cost.sample)["network.entry"]
        counts = dict(engine.explain(spec, batch).counts)
        assert counts["network.untaped_entry"] == pytest.approx(factor * batch * sample)
    assert "network.untaped_entry" not in dict(engine.explain(spec, 10).counts)
