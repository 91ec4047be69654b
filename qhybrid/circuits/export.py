"""Write circuits for other tools and for people: OpenQASM 3 text and an SVG drawing."""

from __future__ import annotations

from pathlib import Path

from qiskit import QuantumCircuit, qasm3
from qiskit.qasm3 import QASM3Error

from qhybrid.circuits.pauli import format_observable
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import CircuitError
from qhybrid.workspace import atomic_path, write_text


def to_qasm3(spec: CircuitSpec) -> str:
    """Return the circuit as OpenQASM 3, inputs and weights as `input float` declarations.

    The observables, which OpenQASM cannot express, are listed in a comment.

    Raises:
        CircuitError: If it has an operation that OpenQASM 3 does not have.
    """
    observables = ", ".join(format_observable(observable) for observable in spec.observables)
    header = (
        f"// {spec.name}: {spec.num_qubits} qubits, {spec.num_inputs} inputs, {spec.num_weights} weights\n"
        f"// observables: {observables}\n"
    )
    bare = QuantumCircuit(spec.num_qubits)
    try:
        # Registers of other files may share qubits, which OpenQASM 3 has no declarations for.
        shared = sum(register.size for register in spec.circuit.qregs) > spec.num_qubits
        text = qasm3.dumps(bare.compose(spec.circuit) if shared else spec.circuit)
    except QASM3Error as error:
        raise CircuitError(
            f"Circuit `{spec.name}` cannot be written as OpenQASM 3: {error.message}"
        ) from error
    return f"{header}{text}\n"


def draw_svg(spec: CircuitSpec, path: str | Path, fold: int = 40) -> Path:
    """Draw the circuit to an SVG file; the same circuit always gives the same file.

    Args:
        spec: The circuit.
        path: The file.
        fold: Gate columns after which the drawing wraps.
    """
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib import pyplot

    with (
        atomic_path(path) as temporary,
        matplotlib.rc_context({"svg.hashsalt": spec.name, "svg.fonttype": "path"}),
    ):
        figure = spec.circuit.draw("mpl", style="iqp", fold=fold, plot_barriers=True)
        figure.savefig(temporary, format="svg", bbox_inches="tight", metadata={"Date": None})
        pyplot.close(figure)
    return Path(path)


def export_circuit(spec: CircuitSpec, folder: str | Path) -> tuple[Path, Path]:
    """Write NAME.qasm and NAME.svg to a folder and return both paths."""
    target = Path(folder)
    qasm = write_text(target / f"{spec.name}.qasm", to_qasm3(spec))
    return qasm, draw_svg(spec, target / f"{spec.name}.svg")
