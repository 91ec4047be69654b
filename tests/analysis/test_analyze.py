"""The whole analysis: counts, devices, limits, reproducibility, JSON, pictures, and the command."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from analysis_cases import dense, ghz, idle, product, turn
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import SparsePauliOp

from qhybrid.analysis import CircuitAnalysis, NotComputed, analyze_circuit, grown_circuits
from qhybrid.analysis.analyze import States, states_of
from qhybrid.analysis.cost import classical_cost, seconds_text
from qhybrid.analysis.page import save_page
from qhybrid.analysis.parameters import Settings
from qhybrid.analysis.structure import structure_of
from qhybrid.analysis.text import sections_of
from qhybrid.analysis.values import ExactValues
from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.cli.main import execute
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.errors import CircuitError, ConfigError, NotFiniteError


def quick(spec, **options) -> CircuitAnalysis:
    return analyze_circuit(spec, samples=40, **options)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        # qubits, inputs, weights, observables, gates, on several qubits, depth, largest light cone
        ("hq_unet_qcnn", (16, 48, 8, 32, 168, 24, 21, 16)),
        ("qcq_filter", (4, 4, 0, 4, 15, 3, 6, 4)),
        ("qcq_classifier", (2, 2, 6, 1, 22, 6, 15, 2)),
    ],
)
def test_counts_of_named_circuits(name, sizes):
    spec = build_circuit(name)
    found = structure_of(spec)
    (counts,) = found.counts
    assert sizes == (
        found.num_qubits, found.num_inputs, found.num_weights, found.num_observables,
        counts.gates, counts.two_qubit, counts.depth, counts.largest_cone,
    )  # fmt: skip
    assert dict(counts.by_name) == {k: v for k, v in spec.circuit.count_ops().items() if k != "barrier"}


def test_light_cones_of_a_chain():
    """Z of qubit k of a chain of CNOTs sees the qubits 0 to k; a swap keeps the qubits' first numbers."""
    circuit = QuantumCircuit(4)
    for qubit in range(3):
        circuit.cx(qubit, qubit + 1)
    spec = CircuitSpec.from_circuit(circuit, [], [], ["IIIZ", "IIZI", "ZIII", "ZIIZ"])
    found = structure_of(spec)
    assert [cone.qubits for cone in found.cones] == [(0, 1), (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3)]
    assert [cone.gates for cone in found.cones] == [1, 2, 3, 3]
    circuit.swap(0, 3)
    swapped = CircuitSpec.from_circuit(circuit, [], [], ["IIIZ"])
    assert structure_of(swapped).cones[0].qubits == (0, 1, 2, 3)
    assert structure_of(idle(3)).idle == (1, 2)


def test_gates_of_a_device_are_those_of_its_routing():
    spec, device = build_circuit("hq_unet_qcnn", grid=2), load_device("fake_torino")
    written, routed = structure_of(spec, [device]).counts
    assert (written.form, routed.form) == ("as written", "fake_torino")
    assert set(dict(routed.by_name)) <= {"cz", "rz", "sx", "x", "rx", "rzz", "id"}
    assert routed.two_qubit >= written.two_qubit == 4
    again = spec.transpile(device.target, 0)
    assert routed.two_qubit == again.circuit.num_nonlocal_gates()
    assert routed.depth == again.circuit.depth()


def test_the_cost_is_the_engines_prediction():
    spec = build_circuit("hq_unet_qcnn")
    found, engine = classical_cost(spec), make_engine("exact")
    one = engine.explain(spec, 1)
    assert (found.method, 2**found.width, found.multiply_adds) == (one.method, one.widest, one.flops)
    assert found.seconds_batched == engine.explain(spec, 64).seconds / 64
    assert found.sentence.startswith("a classical computer gives the exact value in ")
    assert "milliseconds" in found.sentence or "microseconds" in found.sentence


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "less than a microsecond"),
        (2.5e-5, "25 microseconds"),
        (0.0042, "4.2 milliseconds"),
        (3.0, "3 seconds"),
        (600, "10 minutes"),
        (1e6, "11.6 days"),
        (1e12, "3.17e+04 years"),
    ],
)
def test_times_in_words(seconds, text):
    assert seconds_text(seconds) == text


def test_the_same_seed_gives_the_same_figures():
    spec = build_circuit("qcq_classifier")
    first, again, other = (quick(spec, seed=seed).to_json() for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert json.loads(first)["seed"] == 3


def not_computed(found):
    return {name for name, value in vars(found).items() if isinstance(value, NotComputed)}


def test_circuits_without_inputs_or_weights_say_what_that_leaves_out():
    found = quick(product(2))
    assert not_computed(found) == {"spectra"}
    assert [one.drawn for one in found.expressibility] == ["weights"]
    found = quick(turn())
    of_weights = {"jacobian_rank", "quantum_rank_one_input", "quantum_rank", "effective_dimension"}
    assert not_computed(found) == {*of_weights, "entangling_capability"}
    assert [one.drawn for one in found.expressibility] == ["inputs"]
    found = quick(ghz(3))
    assert {"trainability", "spectra"} <= not_computed(found)
    assert found.entangling_capability.value == pytest.approx(1)


@pytest.mark.parametrize(
    "spec", [turn(), product(2), ghz(3), idle(2)], ids=["turn", "product", "ghz", "idle"]
)
def test_every_analysis_is_json_text_and_a_picture(spec, tmp_path):
    found = quick(spec)
    assert json.loads(found.to_json())["structure"]["num_qubits"] == spec.num_qubits
    lines = [line for _, lines in sections_of(found) for line in lines]
    assert lines
    assert not any("nan" in line.split() for line in lines)
    assert save_page(found, tmp_path / "page.png").stat().st_size > 10_000


def test_sums_constants_and_several_uses_of_an_angle(tmp_path):
    x, w = ParameterVector("x", 2), ParameterVector("w", 2)
    circuit = QuantumCircuit(3)
    circuit.ry(x[0], 0)
    circuit.rx(2 * w[0] + x[1], 1)
    circuit.cry(w[0], 0, 1)
    circuit.rzz(w[1] * x[0], 1, 2)
    circuit.h(2)
    observables = ["0.5 * Z0 Z1; -2 * X2", "Z1"]
    found = quick(CircuitSpec.from_circuit(circuit, list(x), list(w), [*observables, "III"]))
    assert len(found.trainability.observables) == 3
    assert found.trainability.angles[0].of_each[2] == (0.0, 0.0)
    assert found.formulas[-1].text == "1"
    assert save_page(found, tmp_path / "page.png").is_file()


def test_wide_circuits_take_a_light_cone_and_say_so():
    spec = build_circuit("hq_unet_qcnn", grid=5)
    own = Settings(spec)
    states, chosen = states_of(own, structure_of(spec))
    assert states.num_qubits == len(chosen.qubits) == 16
    assert chosen.of.startswith("the light cone of ")
    assert chosen.note == "a state of 25 qubits needs 0.5 GiB, and up to 16 qubits are computed"


def all_to_all(qubits):
    """Every qubit with every other, twice: light cones of all qubits."""
    w = ParameterVector("w", qubits)
    circuit = QuantumCircuit(qubits)
    for layer in range(2):
        for first in range(qubits):
            circuit.ry(w[first], first)
            for second in range(first):
                circuit.cx(first, second)
                circuit.rx(0.3 + layer, second)
    return CircuitSpec.from_circuit(circuit, [], list(w), ["I" * (qubits - 1) + "Z"])


def test_what_fits_nowhere_is_refused_with_numbers():
    own = Settings(all_to_all(18))
    states, chosen = states_of(own, structure_of(all_to_all(18)))
    assert states is None
    assert chosen.note == (
        "a state of 18 qubits needs 0.003906 GiB, and up to 16 qubits are computed; no light cone is as small"
    )


def test_observables_of_large_light_cones_are_left_out_where_memory_is_small(monkeypatch):
    import qhybrid.analysis.values as module

    spec = build_circuit("hq_unet_qcnn", grid=2)
    explain = module.ExactEngine.explain

    def refuse(self, spec, batch=64):

        found = explain(self, spec, batch)
        return found if spec.num_observables < 8 else replace(found, method="refused")

    monkeypatch.setattr(module.ExactEngine, "explain", refuse)
    monkeypatch.setattr(module, "LARGEST_CONE", 3)
    values = ExactValues(Settings(spec))
    assert values.kept == ()
    assert values.refusal.startswith("needs ")
    found = quick(spec)
    assert str(found.trainability).startswith("not computed: needs ")
    assert found.dead.trials == 0
    assert found.dead.note.startswith("needs ")


def test_budgets_take_fewer_samples(monkeypatch):
    import qhybrid.analysis.values as module

    monkeypatch.setattr(module, "BUDGET", 1e8)
    found = quick(build_circuit("hq_unet_qcnn", grid=2))
    assert 2 <= found.trainability.samples < 40


def test_inputs_outside_of_an_expressions_domain_are_an_error_with_a_fix():
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    circuit.ry(x.log(), 0)
    spec = CircuitSpec.from_circuit(circuit, [x], [], "Z")
    with pytest.raises(NotFiniteError, match="must be finite"):
        quick(spec)
    found = quick(spec, input_range=(0.5, 2.0))
    assert found.spectra[0].note == "no fixed frequencies: it enters expressions that are not linear"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 3}, "`samples` must be at least 10"),
        ({"input_range": (1.0, 1.0)}, "`input_range` must be two numbers"),
        ({"weight_range": (0.0, float("inf"))}, "`weight_range` must be two numbers"),
        ({"data": 5}, "effective dimension needs"),
    ],
)
def test_bad_options_are_refused_before_time_is_spent(options, message):
    with pytest.raises(ConfigError, match=message):
        analyze_circuit(product(1), **options)


def test_growing_circuits():
    by, circuits = grown_circuits("hq_unet_qcnn", [3, 2], {"readout": "Z"})
    assert (by, [(size, spec.num_qubits) for size, spec in circuits]) == ("grid", [(2, 4), (3, 9)])
    assert grown_circuits("qcq_classifier", [2, 3])[0] == "num_qubits"
    assert [spec.num_weights for _, spec in grown_circuits("qcq_classifier", [1, 2], None, "reps")[1]] == [
        4,
        6,
    ]
    with pytest.raises(CircuitError, match="power of two"):
        grown_circuits("qcnn", [2, 3])


def test_one_size_that_cannot_be_computed_does_not_end_the_analysis(tmp_path):
    bare = CircuitSpec.from_circuit(QuantumCircuit(3), [], [], ["ZZZ"])
    sizes = [(2, product(2)), (3, bare), (4, product(4))]
    found = quick(product(2), grown=sizes, grown_by="num_qubits")
    assert found.growth.sizes == (2, 4)
    assert found.to_dict()["growth"]["left_out"] == [
        [3, {"not_computed": "no gate depends on an input or a weight"}]
    ]
    lines = dict(sections_of(found))["growth"]
    assert lines[-1] == "num_qubits 3 not computed: no gate depends on an input or a weight"
    assert save_page(found, tmp_path / "some.png").is_file()
    none = quick(product(2), grown=sizes[1:2], grown_by="num_qubits")
    assert isinstance(none.growth, NotComputed)
    assert dict(sections_of(none))["growth"] == [str(none.growth)]
    assert save_page(none, tmp_path / "none.png").is_file()


def test_growth_of_an_analysis():
    by, circuits = grown_circuits("hq_unet_qcnn", [2, 3, 4])
    found = quick(circuits[0][1], grown=circuits, grown_by=by)
    assert found.growth.qubits == (4, 9, 16)
    names = {one.series for one in found.growth.slopes}
    assert {"sum of observables", "mean over observables", "Z0", "X3"} <= names
    assert {one.angle for one in found.growth.slopes} == {
        "mean",
        *(f"w[{i}]" for i in range(8)),
        *(f"x[{i}]" for i in range(12)),
    }


RING = """OPENQASM 3.0;
include "stdgates.inc";
input float a;
input float b;
qubit[2] q;
ry(a) q[0];
cx q[0], q[1];
ry(2*b) q[1];
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "circuits"
    folder.mkdir()
    (folder / "own.qasm").write_text(RING)
    (folder / "own.yaml").write_text("file: own.qasm\ninputs: [a]\nweights: [b]\nobservables: [Z0, Z1]\n")
    return tmp_path


def test_the_command_analyzes_a_users_circuit(workspace, capsys):
    assert execute(["circuits", "analyze", "own", "--samples", "40", "--device", "fake_manila"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Z0 = cos(a)" in out
    assert "Z1 = cos(2 b) cos(a)" in out
    assert "routed to fake_manila" in out
    assert "a classical computer gives the exact value in" in out
    found = json.loads((workspace / "analysis" / "own.json").read_text())
    assert found["formulas"][1]["variables"] == ["2 b", "a"]
    (product,) = found["formulas"][1]["products"]
    assert product == {"factor": pytest.approx(1.0), "waves": [["cos", 1, 0], ["cos", 1, 1]]}
    assert found["jacobian_rank"]["rank"] == 1
    assert (workspace / "analysis" / "own.png").stat().st_size > 10_000


def test_the_command_grows_a_builder_and_names_the_file(workspace, capsys):
    words = ["circuits", "analyze", "qcq_classifier", "--arg", "reps=1", "--samples", "40", "--grow", "2-4"]
    assert execute([*words, "-o", "out"]) == 0
    assert "num_qubits 2 (2 qubits), 3 (3 qubits), 4 (4 qubits)" in " ".join(capsys.readouterr().out.split())
    assert json.loads((workspace / "out" / "qcq_classifier_reps-1.json").read_text())["growth"]["sizes"] == [
        2,
        3,
        4,
    ]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nothing"], 1, "'nothing' is unknown"),
        (["own", "--grow", "2-4"], 1, "needs a circuit with an argument for its size"),
        (["qcnn", "--grow", "size=2-4"], 1, "no argument"),
        (["qcnn", "--grow", "4-2"], 2, "runs backwards"),
        (["own", "--inputs", "1"], 2, "must look like -1,1"),
        (["own", "--device", "fake_nowhere"], 1, "fake_nowhere"),
    ],
)
def test_the_command_explains_bad_requests(workspace, capsys, words, code, message):
    assert execute(["circuits", "analyze", *words]) == code
    assert message in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not (workspace / "analysis").exists()


def test_dense_circuits_of_seven_qubits_are_as_random_as_haar():
    found = analyze_circuit(dense(7, 3), samples=60)
    (one,) = found.expressibility
    assert one.qubits == 7
    assert one.divergence.value < one.bias + 4 * one.divergence.error + 0.02
    assert abs(found.entangling_capability.value - 126 / 129) < 0.03


def test_variances_are_named_after_what_they_are_of():
    """Where all weights are dead, what is compared are the inputs."""
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.ry(x, 0)
    circuit.rz(w, 0)
    found = quick(CircuitSpec.from_circuit(circuit, [x], [w], ["Z"]))
    assert found.dead.dead == ("w",)
    lines = dict(sections_of(found))["trainability"]
    assert lines[1].startswith("Z0: ")
    assert lines[1].endswith(" an input")


def test_a_circuit_without_angles_has_one_state_and_says_so_once():
    whole = quick(ghz(2))
    assert dict(sections_of(whole))["dead angles"] == ["none: the circuit has no angles"]
    (found,) = whole.expressibility
    assert found.drawn == "settings, which no gate depends on"
    assert found.divergence.value == pytest.approx(found.largest)


def test_few_pairs_do_not_make_a_circuit_random():
    """What 100 pairs of two qubits cannot tell is no finding about the circuit."""
    said = [
        dict(sections_of(analyze_circuit(build_circuit("qcq_classifier"), samples=samples)))["expressibility"]
        for samples in (20, 400)
    ]
    assert said[0][0].endswith("not to be told from random states by so few pairs")
    assert said[1][0].endswith("hardly to be told from random states")


@pytest.mark.parametrize("observable", ["II", SparsePauliOp(["II"], [2.0])])
def test_an_observable_without_any_qubit_has_a_picture(observable, tmp_path):
    """No gradient reaches the identity, so that there is no variance to draw."""
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(2)
    circuit.ry(x, 0)
    circuit.ry(w, 1)
    found = quick(CircuitSpec.from_circuit(circuit, [x], [w], [observable]))
    assert found.dead.dead == ("x", "w")
    assert found.trainability.series == ()
    assert save_page(found, tmp_path / "page.png").is_file()


def test_a_circuit_whose_state_fits_nowhere_is_still_a_state():
    too_large = NotComputed("a state of 40 qubits needs 16,384 GiB")
    found = replace(
        quick(product(2)), states=States((), "", ""), quantum_rank_one_input=too_large, quantum_rank=too_large
    )
    _, one, every = dict(sections_of(found))["independent directions"]
    assert one.startswith("the state, one input (quantum Fisher information): not computed")
    assert every.startswith("the state, all inputs together: not computed")
