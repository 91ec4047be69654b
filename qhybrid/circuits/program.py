"""Circuits in OpenQASM 3, OpenQASM 2 and QPY, read as unitary circuits with free parameters.

Nothing in such a file is executed. OpenQASM is parsed; its includes other than the standard gates are
refused, so that a text says all. QPY is binary data: Qiskit makes gates of its own library by name, and all
other gates as plain gates with the definition in the file, never as the Python class they had. QPY before
version 13 is refused: it holds expressions as text of sympy or objects of symengine, which Qiskit has
evaluated.
"""

from __future__ import annotations

import io
import re
import warnings
from contextlib import redirect_stderr
from functools import cache
from typing import Any, Literal

import numpy as np
from qiskit import QuantumCircuit, qasm2, qasm3, qpy
from qiskit.circuit import Barrier, ControlFlowOp, Gate, Measure, Reset, Store
from qiskit.circuit.library import get_standard_gate_name_mapping
from qiskit.quantum_info import Operator

from qhybrid.circuits.blocks import without_blocks
from qhybrid.errors import CircuitError

Format = Literal["qasm3", "qasm2", "qpy"]
TITLES: dict[str, str] = {"qasm3": "OpenQASM 3", "qasm2": "OpenQASM 2", "qpy": "QPY"}
OLDEST_QPY = 13
"""Of Qiskit 1.3."""

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_VERSION = re.compile(r"\s*OPENQASM\s+(\d+)")
_LOOP = re.compile(r"^(?!\s*//).*?\b(?:for|while)\b", re.MULTILINE)
_QUOTIENT = re.compile(r"(?:(?<![eE])[-+]|[(,=])\s*(\d+)\s*/\s*(\d+)(?![\w.])")
"""Whole numbers at the start of a term, one divided by the other."""
_PLACE = re.compile(r"(?:<input>:|L|line )?(\d+)(?:,|:C|:)\d+:? (.*)", re.DOTALL)

_QPY = "qhybrid.circuits.save_circuit writes QPY, which holds any expression"
_HINTS = (
    ("already inserted", "names of gates in stdgates.inc are taken"),
    ("type error", f"such as a product of two of type angle, which a gate's own parameters are; {_QPY}"),
    ("FunctionCall", f"no function of a parameter can be read; {_QPY}"),
    ("unsupported binary operation", f"+ - * / can be read; {_QPY}"),
)
"""What helps, by the words of Qiskit's reader of OpenQASM 3."""


def qasm_format(text: str) -> Format:
    """Return which OpenQASM a text is: what it says of itself, else 3."""
    match = _VERSION.match(_COMMENT.sub("", text))
    return "qasm2" if match and match[1] == "2" else "qasm3"


def read_program(kind: Format, content: str | bytes, place: str) -> QuantumCircuit:
    """Read a circuit.

    Measurements at the end are taken out, with barriers in front of them: observables say what is read.
    Boxes, loops of a fixed range and resets of fresh qubits are taken apart.

    Args:
        kind: What it is written in.
        content: Text of OpenQASM, bytes of QPY.
        place: What holds it, for messages.

    Raises:
        CircuitError: If it cannot be read (with the line), or holds something else than gates.
    """
    if isinstance(content, bytes):
        circuit = _from_qpy(content, place)
    else:
        circuit = _from_qasm(kind, content, place)
    return _with_standard_gates(_unitary(without_blocks(circuit), place))


def _from_qasm(kind: Format, text: str, place: str) -> QuantumCircuit:
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):  # the parser's generator prints the reason and raises without it
            if kind == "qasm2":
                circuit = qasm2.loads(
                    text,
                    include_path=(),
                    custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS,
                    custom_classical=qasm2.LEGACY_CUSTOM_CLASSICAL,
                )
            else:
                circuit = qasm3.loads(text)
    except Exception as error:  # the readers raise many kinds
        raise CircuitError(
            f"{place}: cannot be read as {TITLES[kind]}: {_reason(error, printed.getvalue(), text)}."
        ) from error
    if kind == "qasm3":
        _warn_of_whole_quotients(text, place)
    return circuit


def _warn_of_whole_quotients(text: str, place: str) -> None:
    """Warn of 3/4 in OpenQASM 3, which is 0: whole numbers have whole quotients there."""
    plain = _COMMENT.sub(lambda found: "\n" * found[0].count("\n"), text)
    for found in _QUOTIENT.finditer(plain):
        if int(found[2]) and int(found[1]) % int(found[2]):
            warnings.warn(
                f"{place}: line {plain.count(chr(10), 0, found.start(1)) + 1}: OpenQASM 3 reads "
                f"{found[1]}/{found[2]} as a whole number, as it does all quotients of whole numbers. Fix: "
                f"{found[1]}.0/{found[2]}.",
                stacklevel=1,  # the same place for all callers: Python shows a line once
            )
            return


def _reason(error: BaseException, printed: str, text: str) -> str:
    """Return what a reader of OpenQASM says, with the line: in its message, its output, or a token."""
    message = str(getattr(error, "message", "") or error) or printed.strip()
    match = _PLACE.fullmatch(message)
    if match:
        hint = next((f" ({said})" for words, said in _HINTS if words in match[2]), "")
        return f"line {match[1]}: {match[2].rstrip('.')}{hint}"
    cause = error.__cause__
    for inner in getattr(cause, "args", ()):
        token = getattr(inner, "offendingToken", None)
        if token is not None:
            return f"line {token.line}: `{token.text}` is not expected"
    loop = _LOOP.search(text)
    if loop:
        return f"line {text.count(chr(10), 0, loop.start()) + 1}: loops must be taken apart"
    return message.rstrip(".") or type(error).__name__


def _from_qpy(content: bytes, place: str) -> QuantumCircuit:
    if content[:6] != b"QISKIT" or len(content) < 7:
        raise CircuitError(f"{place}: must be a QPY file (qiskit.qpy.dump), but is not one.")
    if content[6] < OLDEST_QPY:
        raise CircuitError(
            f"{place}: must be QPY of version {OLDEST_QPY} or newer, but is of version {content[6]}, whose "
            "expressions are code. Fix: qpy.load and qpy.dump it with Qiskit 1.3 or newer."
        )
    try:
        circuits = qpy.load(io.BytesIO(content))
        for circuit in circuits:
            for one in circuit.data:
                one.operation  # noqa: B018 - made now, which fails for a pause of 1.5
    except Exception as error:  # a damaged file may fail anywhere
        pause = " (QPY keeps no units of delays; OpenQASM 3 does)" if "duration" in str(error) else ""
        raise CircuitError(
            f"{place}: cannot be read as QPY ({type(error).__name__}: {error}){pause}."
        ) from error
    if len(circuits) != 1:
        raise CircuitError(
            f"{place}: must hold one circuit, but holds {len(circuits)}. Fix: qpy.dump(circuit, file) of one "
            "alone, a file for each."
        )
    return circuits[0]


def _unitary(circuit: QuantumCircuit, place: str) -> QuantumCircuit:
    """Return the circuit without measurements at the end and without classical bits."""
    later: set[Any] = set()
    final: set[int] = set()
    for index in reversed(range(len(circuit.data))):
        instruction = circuit.data[index]
        if isinstance(instruction.operation, (Measure, Barrier)) and not later & set(instruction.qubits):
            final.add(index)
        else:
            later |= set(instruction.qubits)
    measured = any(isinstance(circuit.data[index].operation, Measure) for index in final)
    kept = [one for index, one in enumerate(circuit.data) if not measured or index not in final]
    for instruction in kept:
        operation = instruction.operation
        if isinstance(operation, (ControlFlowOp, Measure, Reset, Store)):
            raise CircuitError(
                f"{place}: must be a unitary circuit, but has `{operation.name}` on qubit(s) "
                f"{[circuit.find_bit(qubit).index for qubit in instruction.qubits]}. Fix: leave out "
                "resets of used qubits, branches, and measurements that are not at the end."
            )
    if not circuit.clbits:
        return circuit
    bare = QuantumCircuit(
        circuit.qubits, *circuit.qregs, name=circuit.name, global_phase=circuit.global_phase
    )
    for instruction in kept:
        bare.append(instruction.operation, instruction.qubits)
    bare._layout = circuit.layout
    return bare


def _with_standard_gates(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return the circuit with Qiskit's own gates where the file defines the same ones.

    OpenQASM 3 knows few gates, so that exports define `rzz` and others.
    """
    result = circuit.copy_empty_like()
    for instruction in circuit.data:
        operation = instruction.operation
        result.append(_standard(operation) or operation, instruction.qubits)
    return result


@cache
def _standard_gates() -> dict[str, Any]:
    return dict(get_standard_gate_name_mapping())


def _standard(operation: Any) -> Gate | None:
    """Return Qiskit's gate in place of one that is defined in the file under the same name."""
    known = _standard_gates().get(operation.name)
    if known is None or operation.base_class is known.base_class:
        return None
    same = len(operation.params) == len(known.params) and operation.num_qubits == known.num_qubits
    standard = known.base_class(*operation.params) if same and isinstance(known, Gate) else None
    if standard is None or not _equal(operation, standard):
        return None  # another gate: `CircuitSpec` gives it a name of its own
    return standard


def _equal(first: Gate, second: Gate) -> bool:
    """Return whether two gates are the same up to a global phase, tried at random angles."""
    parameters = sorted(
        {one for value in first.params for one in getattr(value, "parameters", ())}, key=lambda one: one.name
    )
    angles = np.random.default_rng(0).uniform(-3, 3, len(parameters))
    operators = []
    for gate in (first, second):
        circuit = QuantumCircuit(gate.num_qubits)
        circuit.append(gate, range(gate.num_qubits))
        operators.append(Operator(circuit.assign_parameters(dict(zip(parameters, angles)), strict=False)))
    return bool(operators[0].equiv(operators[1]))
