"""The committed circuits/ folder: every definition loads, and its golden exports are what the code writes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from qiskit import qasm3
from qiskit.circuit.tools.pi_check import pi_check
from qiskit.quantum_info import Operator

from qhybrid.circuits import build_circuit, list_circuits, load_circuit
from qhybrid.circuits.export import draw_svg, export_circuit, to_qasm3
from qhybrid.errors import CircuitError, ConfigError
from qhybrid.workspace import starter_root

FOLDER = starter_root() / "circuits"
DEFINITIONS = sorted(FOLDER.glob("*.yaml"))


@pytest.fixture(params=DEFINITIONS, ids=lambda path: path.stem)
def definition(request) -> Path:
    return request.param


def test_the_folder_has_a_definition_of_every_builder():
    assert {path.stem for path in DEFINITIONS} >= set(list_circuits())


def test_nothing_but_definitions_and_exports():
    names = {path.stem for path in DEFINITIONS}
    for path in FOLDER.iterdir():
        assert path.suffix in {".yaml", ".qasm", ".svg"}
        assert path.stem in names


def test_definition_loads_under_its_file_name(definition):
    spec = load_circuit(definition)
    assert spec.name == definition.stem
    assert spec.num_observables > 0


def test_qasm_is_golden(definition):
    assert definition.with_suffix(".qasm").read_text() == to_qasm3(load_circuit(definition)), (
        "the circuit has changed; if that is meant: qhybrid circuits export --to circuits"
    )


def texts_of(svg: str) -> Counter[str]:
    """Count the texts of a drawing; matplotlib writes each as a comment beside its glyphs."""
    return Counter(re.findall(r"<!-- (.*?) -->", svg))


def test_drawing_shows_every_gate_and_parameter(definition):
    spec = load_circuit(definition)
    texts = texts_of(definition.with_suffix(".svg").read_text())
    angles = [angle for step in spec.circuit.data for angle in step.operation.params]
    uses = Counter(pi_check(angle, output="mpl", ndigits=3).replace("-", "$-$") for angle in angles)
    assert {text: texts[text] for text in uses} == dict(uses)
    counts = spec.circuit.count_ops()
    drawn = [texts[f"$\\mathrm{{R_{axis.upper()}}}$"] for axis in "xyz"]
    assert drawn == [counts.get(f"r{axis}", 0) for axis in "xyz"]
    assert all(texts[f"${{q}}_{{{qubit}}}$"] >= 1 for qubit in range(spec.num_qubits))


def test_drawing_shows_every_two_qubit_gate(tmp_path):
    # One target disc and one control dot a CNOT: without them the drawing has that many shapes fewer.
    with_filters = draw_svg(build_circuit("hq_unet_qcnn", grid=2), tmp_path / "a.svg").read_text()
    without = draw_svg(build_circuit("hq_unet_qcnn", grid=2, reps=0), tmp_path / "b.svg").read_text()

    def count(svg):
        return len(re.findall(r'<g id="patch_', svg))

    rotations, cnots, barriers = 16, 4, 2
    assert count(with_filters) - count(without) >= rotations + 2 * cnots + barriers


def test_drawing_is_deterministic(tmp_path):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    first = draw_svg(spec, tmp_path / "a.svg").read_bytes()
    assert first == draw_svg(spec, tmp_path / "b.svg").read_bytes()
    assert first.startswith(b"<?xml")
    assert b"<dc:date>" not in first


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("hq_unet_qcnn", {"grid": 2}),
        ("qcnn", {"num_qubits": 4}),
        ("qcq_classifier", {}),
        ("qcq_filter", {"layers": 2}),
        ("qcq_filter", {"filter": "random_layers"}),
        ("qufex_filter1", {"num_qubits": 6}),
        ("qufex_filter2", {"num_qubits": 5}),
    ],
)
def test_qasm_reads_back_as_the_same_unitary(name, arguments):
    spec = build_circuit(name, **arguments)
    read = qasm3.loads(to_qasm3(spec))
    random = np.random.default_rng(0)
    values = {parameter.name: random.uniform(-7, 7) for parameter in spec.circuit.parameters}
    back = {name.replace("[", "_").replace("]", "_"): value for name, value in values.items()}
    ours = Operator(spec.circuit.assign_parameters(values))
    theirs = Operator(read.assign_parameters({p: back[p.name.removeprefix("_")] for p in read.parameters}))
    np.testing.assert_allclose(theirs.data, ours.data, atol=1e-12)


def test_committed_qasm_reads_back_gate_for_gate(definition):
    spec = load_circuit(definition)
    read = qasm3.load(str(definition.with_suffix(".qasm")))
    assert read.num_qubits == spec.num_qubits
    assert read.count_ops() == spec.circuit.count_ops()

    def wires(circuit):
        index = {qubit: place for place, qubit in enumerate(circuit.qubits)}
        return [(step.operation.name, [index[q] for q in step.qubits]) for step in circuit.data]

    assert wires(read) == wires(spec.circuit)


def test_export_writes_both_files_and_nothing_else(tmp_path):
    qasm, svg = export_circuit(build_circuit("hq_unet_qcnn", grid=2), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [qasm.name, svg.name]


def test_definition_with_own_observables(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "builder: hq_unet_qcnn\narguments: {grid: 2}\nobservables: [Z0 Z1, '0.5 * X3; -0.5 * Z2']\n"
    )
    spec = load_circuit(file)
    assert spec.name == "mine"
    assert [o.paulis.to_labels() for o in spec.observables] == [["IIZZ"], ["XIII", "IZII"]]
    np.testing.assert_allclose(spec.observables[1].coeffs, [0.5, -0.5])


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("arguments: {grid: 2}\n", ConfigError, r"mine\.yaml: one of the keys `builder` and `file`.*neither"),
        (
            "builder: hq_unet_qcnn\nargs: {}\n",
            ConfigError,
            r"key `args` is unknown\. Did you mean `arguments`",
        ),
        ("builder: other\n", CircuitError, "'other' is unknown"),
        ("builder: hq_unet_qcnn\narguments: {grid: 0}\n", CircuitError, "`grid` must"),
        ("builder: hq_unet_qcnn\narguments: {name: 3}\n", CircuitError, r"no argument\(s\) name"),
        (
            "builder: hq_unet_qcnn\narguments: {grid: 2}\nobservables: [Z4]\n",
            CircuitError,
            "qubits 0 to 3.*qubit 4",
        ),
        ("builder: hq_unet_qcnn\nobservables: [Z]\n", CircuitError, "must look like"),
    ],
)
def test_bad_definitions(tmp_path, text, error, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(error, match=message):
        load_circuit(file)


def test_one_text_is_a_list_of_one(tmp_path):
    (tmp_path / "turn.qasm").write_text(
        'OPENQASM 3.0;\ninclude "stdgates.inc";\ninput float a;\nqubit q;\nry(a) q;\n'
    )
    specs = []
    for name, text in (("one", "inputs: a\nobservables: Z0\n"), ("list", "inputs: [a]\nobservables: [Z0]\n")):
        (tmp_path / f"{name}.yaml").write_text(f"file: turn.qasm\n{text}")
        specs.append(load_circuit(tmp_path / f"{name}.yaml"))
    assert specs[0].fingerprint == specs[1].fingerprint
    assert specs[0].num_inputs == specs[0].num_observables == 1
