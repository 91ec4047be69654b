"""Circuits of files, builders and plugins by name; their content needs no other file."""

from __future__ import annotations

import io
import json

import pytest
from qiskit import QuantumCircuit, qpy, transpile
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import SparsePauliOp, Statevector

from qhybrid.circuits import CIRCUITS, CircuitSpec, build_circuit, list_circuits, load_circuit
from qhybrid.circuits.definitions import (
    build_resolved,
    circuit_origin,
    find_circuit,
    program_files,
    resolve_circuit,
)
from qhybrid.circuits.export import to_qasm3
from qhybrid.circuits.library import RegisteredCircuit
from qhybrid.errors import CircuitError, ConfigError
from qhybrid.workspace import starter_root

ROTATION = """OPENQASM 3.0;
include "stdgates.inc";
input float a;
input float w;
qubit[2] q;
ry(a+w) q[1];
"""
ROLES = "inputs: [a]\nweights: [w]\nobservables: [Z1]\n"
MINE = "file: mine.qasm\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder circuits/ of a workspace, with `mine`: a rotation of qubit 1."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circuits").mkdir()
    (tmp_path / "circuits" / "mine.qasm").write_text(ROTATION)
    (tmp_path / "circuits" / "mine.yaml").write_text("file: mine.qasm\n" + ROLES)
    return tmp_path / "circuits"


def values(spec, x, w):
    angles = dict(zip([*spec.input_params, *spec.weight_params], [*x, *w]))
    state = Statevector(spec.circuit.assign_parameters(angles))
    return [state.expectation_value(one).real for one in spec.observables]


def test_a_file_is_found_by_name_and_path(folder):
    for spec in (build_circuit("mine"), find_circuit("mine"), load_circuit(folder / "mine.yaml")):
        assert (spec.name, spec.num_qubits) == ("mine", 2)
        assert [p.name for p in spec.input_params] == ["a"]
        assert [p.name for p in spec.weight_params] == ["w"]
        assert values(spec, [0.4], [0.3]) == pytest.approx([0.7648421872844885])  # cos(0.7)
    assert "mine" not in list_circuits()


def test_what_a_run_keeps_survives_its_files(folder):
    content = json.loads(json.dumps(resolve_circuit("mine")))
    assert content == {
        "name": "mine",
        "format": "qasm3",
        "content": ROTATION,
        "inputs": ["a"],
        "weights": ["w"],
        "observables": ["Z1"],
    }
    before = find_circuit("mine").fingerprint
    (folder / "mine.qasm").write_text(ROTATION.replace("ry", "rx"))
    assert find_circuit("mine").fingerprint != before
    for file in folder.iterdir():
        file.unlink()
    assert build_resolved(content).fingerprint == before
    assert resolve_circuit(content) == content
    with pytest.raises(CircuitError, match=r"'mine' is unknown.*Fix: write circuits/mine\.yaml"):
        resolve_circuit("mine")


def test_qpy_is_kept_as_text(folder):
    x = ParameterVector("x", 11)
    circuit = QuantumCircuit(1)
    for angle in reversed(x):
        circuit.rx(2 * angle, 0)
        circuit.ry(angle, 0)
    with (folder / "vector.qpy").open("wb") as file:
        qpy.dump(circuit, file)
    (folder / "vector.yaml").write_text("file: vector.qpy\ninputs: [x]\nobservables: [Z0]\n")
    content = json.loads(json.dumps(resolve_circuit("vector")))
    expected = CircuitSpec.from_circuit(circuit, list(x), [], SparsePauliOp("Z"))
    assert build_resolved(content).fingerprint == expected.fingerprint
    content["content"] = "???"
    with pytest.raises(CircuitError, match="circuit `vector`: its QPY: must be QPY in base64"):
        build_resolved(content)


def test_observables_of_a_transpiled_file_are_on_its_first_qubits(folder):
    x = ParameterVector("x", 3)
    circuit = QuantumCircuit(3)
    for qubit in range(3):
        circuit.ry(x[qubit], qubit)
    circuit.cx(0, 2)
    routed = transpile(circuit, coupling_map=[[0, 1], [1, 2], [2, 3]], basis_gates=["rz", "sx", "cx"],
                       initial_layout=[3, 1, 0], seed_transpiler=1)  # fmt: skip
    with (folder / "routed.qpy").open("wb") as file:
        qpy.dump(routed, file)
    (folder / "routed.yaml").write_text("file: routed.qpy\ninputs: [x]\nobservables: [Z0, Z1, Z0 Z2]\n")
    spec = find_circuit("routed")
    assert spec.num_qubits == 4
    plain = CircuitSpec.from_circuit(
        circuit, list(x), [], [SparsePauliOp("IIZ"), SparsePauliOp("IZI"), SparsePauliOp("ZIZ")]
    )
    angles = [0.3, 0.8, 1.4]
    assert values(spec, angles, []) == pytest.approx(values(plain, angles, []), abs=1e-10)


@pytest.mark.parametrize("name", list_circuits())
def test_an_exported_circuit_reads_back_as_the_same(folder, name):
    spec = build_circuit(name)
    (folder / "copy.qasm").write_text(to_qasm3(spec))
    names = [p.name.split("[")[0] for p in (spec.input_params[0], *spec.weight_params[:1])]
    texts = to_qasm3(spec).splitlines()[1].removeprefix("// observables: ").split(", ")
    definition = {"file": "copy.qasm", "inputs": [f"{names[0]}[*]"], "observables": texts}
    if len(names) > 1:
        definition["weights"] = [names[1]]
    (folder / "copy.yaml").write_text(json.dumps(definition))
    assert find_circuit("copy").fingerprint == spec.fingerprint


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("file: no.qasm\nobservables: [Z0]\n", ConfigError, r"bad\.yaml: key `file`: .*no\.qasm cannot be"),
        ("file: mine.txt\nobservables: [Z0]\n", ConfigError, r"bad\.yaml: `file` must end in \.qasm or "),
        (MINE, ConfigError, "`file` needs the key `observables`"),
        (MINE + "builder: qcnn\n" + ROLES, ConfigError, "must be given, but both"),
        (MINE + "arguments: {}\n" + ROLES, ConfigError, "`file` takes no key `arguments`"),
        ("builder: qcnn\ninputs: [a]\n", ConfigError, "takes no key `inputs`, which belongs to `file`"),
        (MINE + "input: [a]\n" + ROLES, ConfigError, "key `input` is unknown. Did you mean `inputs`"),
        (MINE + ROLES.replace("[a]", "[y]"), CircuitError, r"bad\.yaml: key `inputs`: no gate"),
        (MINE + ROLES.replace("[w]", "[]"), CircuitError, r"bad\.yaml: keys .*`w` is in neither"),
        (MINE + ROLES.replace("[w]", "[a, w]"), CircuitError, "`a` is in both"),
        (MINE + ROLES.replace("Z1", "Z2"), CircuitError, r"bad\.yaml: key `observables`: .*qubit 2"),
        ("file: bad.qasm\n" + ROLES, CircuitError, r"bad\.yaml: key `file`: bad\.qasm: .*line 2: gate 'f"),
        ("builder: qcn\n", CircuitError, r"bad\.yaml: circuit 'qcn' is unknown.*Did you mean `qcnn`"),
        ("builder: qcnn\narguments: {qubits: 4}\n", CircuitError, r"bad\.yaml: .*mean `num_qubits`"),
        ("builder: qcnn\narguments: {num_qubits: 0}\n", CircuitError, r"bad\.yaml: .*`num_qubits` must"),
    ],
)  # fmt: skip
def test_errors_name_file_and_key(folder, text, error, message):
    (folder / "bad.qasm").write_text("OPENQASM 3.0;\nfoo q;\n")
    (folder / "bad.yaml").write_text(text)
    for read in (resolve_circuit, build_circuit):
        with pytest.raises(error, match=message):
            read("bad")
    assert find_circuit("mine").num_qubits == 2


def test_a_bad_file_breaks_nothing_that_does_not_use_it(folder):
    (folder / "bad.yaml").write_text("nonsense: [")
    assert find_circuit("mine").num_qubits == 2
    assert build_circuit("qcnn", num_qubits=4).num_qubits == 4
    assert resolve_circuit("qcnn")["arguments"]["num_qubits"] == 8
    assert program_files() == {(folder / "mine.qasm").resolve()}


def test_what_a_run_keeps_is_checked():
    with pytest.raises(ConfigError, match="circuit `mine`: key `weight` is unknown"):
        build_resolved({"name": "mine", "builder": "qcnn", "weight": []})
    with pytest.raises(ConfigError, match="circuit `mine`: key `format`"):
        build_resolved({"name": "mine", "format": "python", "content": "", "observables": ["Z0"]})
    with pytest.raises(CircuitError, match="circuit `mine`: its OpenQASM 3: cannot be read as .* line 1"):
        build_resolved({"name": "mine", "format": "qasm3", "content": "foo q;", "observables": ["Z0"]})
    with pytest.raises(CircuitError, match="circuit `mine`: circuit 'gone' is unknown"):
        build_resolved({"name": "mine", "builder": "gone"})


def test_the_content_of_a_definition_is_what_is_used(folder):
    (folder / "hq_unet_qcnn.yaml").write_text("builder: hq_unet_qcnn\narguments: {grid: 2, reps: 5}\n")
    content = resolve_circuit("hq_unet_qcnn")
    assert content["arguments"] == {"grid": 2, "reps": 5}
    assert build_resolved(content).num_weights == 40
    assert build_circuit("hq_unet_qcnn", grid=2).num_weights == 8


def test_arguments_replace_those_of_the_file_one_by_one(folder):
    (folder / "wide.yaml").write_text("builder: hq_unet_qcnn\narguments: {grid: 2, reps: 2}\n")
    assert build_circuit("wide").fingerprint == build_circuit("hq_unet_qcnn", grid=2, reps=2).fingerprint
    expected = build_circuit("hq_unet_qcnn", grid=2, reps=2, readout="X").fingerprint
    assert build_circuit("wide", readout="X").fingerprint == expected
    assert build_resolved(resolve_circuit("wide", {"readout": "X"})).fingerprint == expected
    with pytest.raises(CircuitError, match=r"mine\.yaml: is read from a file and takes no arguments.*Fix: "):
        build_circuit("mine", reps=2)


def test_observables_that_only_repeat_the_builders_follow_its_arguments(folder):
    text = "builder: hq_unet_qcnn\narguments: {grid: 2}\nobservables: "
    (folder / "repeated.yaml").write_text(text + "[Z0, Z1, Z2, Z3, X0, X1, X2, X3]\n")
    (folder / "own.yaml").write_text(text + "[Z0 Z1]\n")
    assert build_circuit("repeated", grid=1).num_observables == 2
    assert build_circuit("own", grid=2, reps=2).observables == (SparsePauliOp("IIZZ"),)
    with pytest.raises(CircuitError, match="key `observables`.*qubit 1"):
        build_circuit("own", grid=1)


def test_a_file_may_not_take_the_name_of_another_builder(folder):
    (folder / "qcnn.yaml").write_text("file: mine.qasm\n" + ROLES)
    with pytest.raises(ConfigError, match=r"qcnn\.yaml: has the name of builder `qcnn`.*Fix: rename"):
        resolve_circuit("qcnn")
    assert load_circuit(folder / "qcnn.yaml").num_qubits == 2
    assert build_circuit("qcnn").num_qubits == 8


def test_a_program_without_a_definition_is_told_what_it_lacks(folder):
    for name in ("mine.qasm", "circuits/mine.qasm"):
        with pytest.raises(CircuitError, match=r"circuits/mine\.qasm does not: .* Fix: name `mine`\.$"):
            find_circuit(name)
    (folder / "mine.yaml").unlink()
    with pytest.raises(CircuitError, match=r"Fix: write circuits/mine\.yaml with `file: mine\.qasm`, .*"):
        find_circuit("mine")


def test_unknown_names_answer_with_near_ones_of_both_kinds(folder):
    with pytest.raises(CircuitError, match="'mien' is unknown.*mine, .*Did you mean `mine`"):
        build_circuit("mien")
    with pytest.raises(CircuitError, match="Did you mean `hq_unet_qcnn`"):
        build_circuit("hqunet_qcnn")


def needs(num_qubits, *others, letter="Z", **rest):
    """Z or another letter on every qubit."""
    if letter == "fail":
        raise RuntimeError("own fault")
    if letter == "nothing":
        return None
    circuit = QuantumCircuit(num_qubits)
    return CircuitSpec.from_circuit(circuit, [], [], SparsePauliOp(letter * num_qubits))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"needs argument\(s\) num_qubits"),
        ({"num_qubits": 1, "letter": "fail"}, r"Builder `mine_too` failed \(RuntimeError: own fault\)"),
        ({"num_qubits": 1, "letter": "nothing"}, "must return a CircuitSpec, but returned NoneType"),
    ],
)
def test_builders_of_others_are_called_with_care(arguments, message):
    with CIRCUITS.temporarily("mine_too", RegisteredCircuit(needs, "")):
        assert build_circuit("mine_too", num_qubits=2, anything=1).num_qubits == 2
        with pytest.raises(CircuitError, match=message):
            build_circuit("mine_too", **arguments)


def test_origins_in_words(folder):
    assert circuit_origin("mine") == "circuits/mine.yaml: mine.qasm"
    file = starter_root() / "circuits" / "qcnn.yaml"
    assert circuit_origin("qcnn") == f"{file}: builder qcnn"
    with CIRCUITS.temporarily("mine_too", RegisteredCircuit(needs, "")):
        assert circuit_origin("mine_too") == "builder mine_too"


def test_the_content_of_a_file_says_whether_it_is_openqasm_2(folder):
    (folder / "two.qasm").write_text('OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[1];\nrx(0.3) q[0];\n')
    (folder / "two.yaml").write_text("file: two.qasm\nobservables: [Z0]\n")
    assert resolve_circuit("two")["format"] == "qasm2"
    assert values(find_circuit("two"), [], []) == pytest.approx([0.955336489125606])  # cos(0.3)
    buffer = io.BytesIO()
    qpy.dump(QuantumCircuit(1), buffer)
    (folder / "two.qasm").write_bytes(buffer.getvalue() + b"\xff")
    with pytest.raises(ConfigError, match=r"two\.qasm cannot be read"):
        resolve_circuit("two")
