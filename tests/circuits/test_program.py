"""Reading OpenQASM and QPY: against Qiskit's own simulation of circuits written by hand."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit, qasm2, qasm3, qpy, transpile
from qiskit.circuit import Gate, Parameter, ParameterVector
from qiskit.circuit.library import HamiltonianGate
from qiskit.quantum_info import Operator, SparsePauliOp
from qiskit.transpiler import CouplingMap, Layout, TranspileLayout

from qhybrid.circuits import CircuitSpec
from qhybrid.circuits.program import qasm_format, read_program
from qhybrid.engines import make_engine
from qhybrid.errors import CircuitError

START = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\n'


def unitary(circuit, angle=0.7):
    return Operator(circuit.assign_parameters([angle] * circuit.num_parameters))


def as_qpy(*circuits, version=None):
    file = io.BytesIO()
    qpy.dump(circuits, file, **({} if version is None else {"version": version}))
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("OPENQASM 2.0;", "qasm2"),
        ("// OPENQASM 3.0;\n/* a\n OPENQASM 3; */ OPENQASM 2.0;", "qasm2"),
        ("OPENQASM 3;", "qasm3"),
        ("qubit q;", "qasm3"),
        ("OPENQASM 3.1;\n// OPENQASM 2.0;", "qasm3"),
    ],
)
def test_a_text_says_which_openqasm_it_is(text, kind):
    assert qasm_format(text) == kind


def test_inputs_of_openqasm3_become_parameters():
    text = (
        START.replace("qubit", "input float a;\ninput angle b;\nqubit", 1) + "rx(2*a+b) q[1];\ncx q[1], q[0];"
    )
    read = read_program("qasm3", text, "f")
    a, b = Parameter("a"), Parameter("b")
    expected = QuantumCircuit(2)
    expected.rx(2 * a + b, 1)
    expected.cx(1, 0)
    assert [parameter.name for parameter in read.parameters] == ["a", "b"]
    ours, theirs = (Operator(one.assign_parameters([0.3, 0.5])) for one in (read, expected))
    assert ours == theirs


def test_openqasm2_with_qiskits_additions():
    circuit = QuantumCircuit(2)
    circuit.sx(0)
    circuit.rzz(0.3, 0, 1)
    circuit.p(0.1, 1)
    read = read_program("qasm2", qasm2.dumps(circuit), "f")
    assert read.count_ops() == circuit.count_ops()
    assert Operator(read).equiv(Operator(circuit))


def test_measurements_at_the_end_go():
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.barrier()
    circuit.cx(0, 1)
    measured = circuit.measure_all(inplace=False)
    for read in (
        read_program("qasm3", qasm3.dumps(measured), "f"),
        read_program("qpy", as_qpy(measured), "f"),
    ):
        assert read.count_ops() == circuit.count_ops()
        assert read.num_clbits == 0
        assert Operator(read) == Operator(circuit)


@pytest.mark.parametrize(
    ("lines", "operation"),
    [
        ("bit c;\nc = measure q[0];\nh q[0];", "measure"),
        ("bit c;\nc = measure q[0];\nif (c) { x q[1]; }", "if_else"),
        ("h q[1];\nreset q[1];", "reset"),
    ],
)
def test_what_is_no_gate_is_refused(lines, operation):
    with pytest.raises(CircuitError, match=rf"f: must be a unitary circuit, but has `{operation}` on"):
        read_program("qasm3", START + lines, "f")


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("qasm3", START + "foo q[0];", "OpenQASM 3: line 4: gate 'foo' is not defined"),
        ("qasm3", START + "h q[0]\nx q[0];", "line 5: `x` is not expected"),
        ("qasm3", START + "rx(0.5 q[0];", "line 4: no viable alternative"),
        ("qasm3", START + "// for\nfor int i in [0:1] { h q[i]; }", "line 5: loops must be taken apart"),
        ("qasm3", START + "input float x;", "line 4: Symbol 'x' already .*gates in stdgates.inc are taken"),
        ("qasm3", 'include "mine.inc";', "line 1: non-stdgates imports"),
        ("qasm3", "input array[float, 2] x;", "line 1: only 'float' and 'angle'"),
        ("qasm2", "OPENQASM 2.0;\nqreg q[1];\nfoo q[0];", "OpenQASM 2: line 3: 'foo' is not defined"),
        ("qasm2", 'OPENQASM 2.0;\ninclude "mine.inc";', "line 2: unable to find 'mine.inc'"),
    ],
)
def test_errors_name_the_line(kind, text, message, capfd):
    with pytest.raises(CircuitError, match=f"f: cannot be read as .*{message}"):
        read_program(kind, text, "f")
    assert capfd.readouterr().err == ""


def test_includes_are_not_searched_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.inc").write_text("gate mine a { U(0,0,0) a; }")
    with pytest.raises(CircuitError, match="line 2: unable to find"):
        read_program("qasm2", 'OPENQASM 2.0;\ninclude "mine.inc";\nqreg q[1];\nmine q[0];', "f")


def test_exported_definitions_become_the_standard_gate():
    circuit = QuantumCircuit(2)
    circuit.rzz(Parameter("a"), 0, 1)
    circuit.rxx(0.4, 1, 0)
    circuit.sxdg(1)
    text = qasm3.dumps(circuit)
    assert "gate rzz" in text
    read = read_program("qasm3", text, "f")
    classes = [one.operation.base_class for one in read.data]
    assert classes == [one.operation.base_class for one in circuit.data]
    assert unitary(read).equiv(unitary(circuit))


def test_other_definitions_of_a_standard_name_keep_their_meaning():
    wrong = "gate rzz(p) a, b { cx a, b; rz(2*p) b; cx a, b; }\n"
    right = QuantumCircuit(2)
    right.rzz(0.6, 0, 1)
    block = "gate block a, b { rzz(0.3) a, b; }\n"
    for text in (wrong + "rzz(0.3) q[0], q[1];", wrong + block + "block q[0], q[1];"):
        read = read_program("qasm3", START + text, "f")
        spec = CircuitSpec.from_circuit(read, [], [], [SparsePauliOp("IZ")])
        assert unitary(spec.circuit).equiv(unitary(right))
        assert "rzz" not in spec.circuit.decompose(["block"]).count_ops()
    inner = QuantumCircuit(1, name="x")
    inner.y(0)
    outer = QuantumCircuit(1, name="block")
    outer.append(inner.to_instruction(), [0])
    circuit = QuantumCircuit(1)
    circuit.append(outer.to_instruction(), [0])
    spec = CircuitSpec.from_circuit(read_program("qpy", as_qpy(circuit), "f"), [], [], [SparsePauliOp("Z")])
    right = QuantumCircuit(1)
    right.y(0)
    assert unitary(spec.circuit).equiv(unitary(right))
    assert "x" not in spec.circuit.decompose(["block"]).count_ops()


def test_qpy_keeps_vectors_definitions_and_expressions():
    x = ParameterVector("x", 2)
    inner = QuantumCircuit(1, name="block")
    inner.rx(x[1] ** 2, 0)
    circuit = QuantumCircuit(2)
    circuit.ry(2 * x[0] - 1, 0)
    circuit.append(inner.to_gate(), [1])
    read = read_program("qpy", as_qpy(circuit), "f")
    assert [parameter.name for parameter in read.parameters] == ["x[0]", "x[1]"]
    np.testing.assert_allclose(unitary(read).data, unitary(circuit).data, atol=1e-12)


MADE = []


class Loud(Gate):
    """A gate whose class does something when it is made."""

    def __init__(self):
        MADE.append("made")
        super().__init__("loud", 1, [])

    def _define(self):
        self.definition = QuantumCircuit(1)
        self.definition.x(0)


def test_classes_of_gates_do_not_come_in_with_qpy():
    circuit = QuantumCircuit(1)
    circuit.append(Loud(), [0])
    data = as_qpy(circuit)
    MADE.clear()
    read = read_program("qpy", data, "f")
    assert not MADE
    assert type(read.data[0].operation) is not Loud
    assert Operator(read) == Operator.from_label("X")


def test_gates_that_cannot_be_opened_are_left_to_the_spec():
    circuit = QuantumCircuit(1)
    circuit.append(HamiltonianGate(np.diag([1.0, -1.0]), Parameter("t")), [0])
    read = read_program("qpy", as_qpy(circuit), "f")
    with pytest.raises(CircuitError, match="`hamiltonian`.*while its parameters are free"):
        CircuitSpec.from_circuit(read, list(read.parameters), [], SparsePauliOp("Z"))


def test_bad_qpy_is_explained():
    circuit = QuantumCircuit(1)
    with pytest.raises(CircuitError, match="must be a QPY file"):
        read_program("qpy", b"text", "f")
    with pytest.raises(CircuitError, match="holds 2"):
        read_program("qpy", as_qpy(circuit, circuit), "f")
    whole = as_qpy(circuit)
    with pytest.raises(CircuitError, match="cannot be read as QPY"):
        read_program("qpy", whole[: len(whole) // 2], "f")
    old = whole[:6] + bytes([12]) + whole[7:]
    with pytest.raises(CircuitError, match=r"version 13 or newer, but is of version 12.*Qiskit 1\.3"):
        read_program("qpy", old, "f")


@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        ("for uint i in [0:2] { rx(0.3 * i) q[0]; }", {"rx": 3}),
        ("for uint i in {1, 5} { h q[0]; }\nbox { h q[1]; }", {"h": 3, "barrier": 2}),
        ("reset q;\nh q[0];", {"h": 1}),
    ],
)
def test_blocks_are_taken_apart(lines, counts):
    assert read_program("qasm3", START + lines, "f").count_ops() == counts


def test_modified_gates_of_files_are_what_they_define():
    """`ecr` is a rotation here: controlled, inverted and squared it is a rotation still."""
    gate = "gate ecr a { ry(0.3) a; }\n"
    lines = "h q[0];\nctrl @ ecr q[0], q[1];\ninv @ ecr q[0];\npow(2) @ ecr q[1];"
    text = START.replace("qubit", gate + "qubit", 1) + lines
    spec = CircuitSpec.from_circuit(read_program("qasm3", text, "f"), [], [], [])
    flat = QuantumCircuit(2)
    flat.h(0)
    flat.cry(0.3, 0, 1)
    flat.ry(-0.3, 0)
    flat.ry(0.6, 1)
    assert Operator(spec.circuit).equiv(Operator(flat))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rx(sin(a)) q[0];", "no function of a parameter"),
        ("rx(a ** 2) q[0];", "+ - * / can be read"),
        ("rx(c * c) q[0];", "product of two of type angle"),
    ],
)
def test_expressions_that_openqasm_3_cannot_hold_name_qpy(line, said):
    text = f'OPENQASM 3.0;\ninclude "stdgates.inc";\ninput float a; input angle c;\nqubit[1] q;\n{line}\n'
    with pytest.raises(CircuitError) as error:
        read_program("qasm3", text, "own.qasm")
    assert "line 5: " in str(error.value)
    assert said in str(error.value)
    assert "save_circuit writes QPY" in str(error.value)


def test_qubits_of_a_device_keep_their_numbers():
    circuit = QuantumCircuit(2)
    circuit.ry(0.4, 0)
    circuit.cx(0, 1)
    couplings = CouplingMap([(3, 1), (1, 4)])
    device = transpile(circuit, coupling_map=couplings, basis_gates=["rz", "sx", "cx"], initial_layout=[1, 4])
    text = qasm3.dumps(device)
    assert "$4" in text
    spec = CircuitSpec.from_circuit(read_program("qasm3", text, "file"), [], [], ["Z1", "Z1 Z4"])
    nothing = torch.zeros(0, dtype=torch.float64)
    values = make_engine("exact").expectations(spec, nothing.reshape(1, 0), nothing)
    np.testing.assert_allclose(values, [[np.cos(0.4), 1.0]], atol=1e-12)


def test_a_layout_that_does_not_say_where_qubits_were_is_refused():
    circuit = QuantumCircuit(2)
    circuit.x(0)
    places = dict(zip(circuit.qubits, (1, 0)))
    circuit._layout = TranspileLayout(Layout(places), {bit: i for i, bit in enumerate(circuit.qubits)})
    with pytest.raises(CircuitError, match="does not say which qubits"):
        CircuitSpec.from_circuit(circuit, [], [], ["Z0"])
    assert CircuitSpec.from_circuit(circuit, [], [], ["Z0"], layout_applied=True).num_observables == 1


@pytest.mark.parametrize(
    ("angle", "value", "warned"),
    [
        ("3/4*pi", 0.0, True),
        ("-3/4", -1.0, True),
        ("1e-3/4", 0.00025, False),
        ("3.0/4", 0.75, False),
        ("pi*3/4", 2.356194490192345, False),
    ]
    + [("4/2", 2.0, False), ("2*(pi + 7/2)", 12.283185307179586, True)],
)
def test_quotients_of_whole_numbers_are_warned_of(angle, value, warned):
    text = f'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit q;\n// 1/2\nrx({angle}) q;'
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        circuit = read_program("qasm3", text, "file")
    assert circuit.data[0].operation.params[0] == pytest.approx(value)
    assert [("line 5: OpenQASM 3 reads" in str(one.message)) for one in caught] == [True] * warned


def test_pauses_of_qpy_that_qiskit_cannot_make_are_explained():
    circuit = QuantumCircuit(1)
    circuit.delay(1.5e-7, 0, "s")
    with pytest.raises(CircuitError, match="QPY keeps no units of delays"):
        read_program("qpy", as_qpy(circuit), "file")
