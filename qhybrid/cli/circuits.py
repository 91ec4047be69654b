"""`qhybrid circuits`: list, show and export circuits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from qhybrid.cli.console import console, say, short
from qhybrid.config import apply_overrides
from qhybrid.workspace import definition_files

if TYPE_CHECKING:
    from qhybrid.circuits import CircuitSpec

app = typer.Typer(help="List, show and export circuits.", no_args_is_help=True)

LARGEST_DRAWING = 9
"""Qubits up to which a text drawing is legible."""


@app.command("list")
def list_() -> None:
    """List the circuits of ./circuits and of the starter files, and the builders."""
    from qhybrid.circuits import list_circuits, load_circuit

    table = Table("circuit", "qubits", "inputs", "weights", "observables")
    table.add_column("file", overflow="fold")
    for name, file in sorted(definition_files("circuits").items()):
        spec = load_circuit(file)
        numbers = (spec.num_qubits, spec.num_inputs, spec.num_weights, spec.num_observables)
        table.add_row(name, *map(str, numbers), short(file))
    console.print(table)
    say(f"Builders: {', '.join(list_circuits())}")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A definition file, its name, or a builder.")],
    arg: Annotated[list[str] | None, typer.Option(help="Argument of the builder, as in grid=3.")] = None,
) -> None:
    """Print what a circuit consists of, and draw it if it is small."""
    spec = _find(name, arg or [])
    circuit = spec.circuit
    counts = ", ".join(f"{count} {gate}" for gate, count in circuit.count_ops().items() if gate != "barrier")
    for label, value in (
        ("qubits", spec.num_qubits),
        ("inputs", spec.num_inputs),
        ("weights", spec.num_weights),
        ("observables", _observables(spec)),
        ("gates", f"{circuit.size()} ({counts})"),
        ("two-qubit", circuit.num_nonlocal_gates()),
        ("depth", circuit.depth()),
    ):
        say(f"{label:<13}{value}")
    if spec.num_qubits <= LARGEST_DRAWING:
        say(str(circuit.draw("text", fold=console.width)))


@app.command()
def export(
    names: Annotated[list[str] | None, typer.Argument(help="All that `list` shows if absent.")] = None,
    to: Annotated[Path, typer.Option(help="Folder for NAME.qasm and NAME.svg.")] = Path("circuits"),
) -> None:
    """Write circuits as OpenQASM 3 and as SVG drawings."""
    from qhybrid.circuits.export import export_circuit

    for name in names or sorted(definition_files("circuits")):
        for file in export_circuit(_find(name, []), to):
            say(f"wrote {short(file)}")


def _find(name: str, arguments: list[str]) -> CircuitSpec:
    """Load a definition, or build by name; arguments replace those of the definition."""
    from qhybrid.circuits import build_circuit, load_circuit

    file = Path(name) if name.endswith(".yaml") else definition_files("circuits").get(name)
    if file is not None and not arguments:
        return load_circuit(file)
    return build_circuit(file.stem if file else name, **apply_overrides({}, arguments, "--arg"))


def _observables(spec: CircuitSpec) -> str:
    from qhybrid.circuits.pauli import format_observable

    texts = [format_observable(observable) for observable in spec.observables]
    shown = texts if len(texts) <= 8 else [*texts[:3], "...", *texts[-3:]]
    return f"{len(texts)} ({', '.join(shown)})"
