"""`qhybrid circuits`: list, show, analyze and export circuits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from qhybrid.cli.console import console, say, say_path, say_table, short, stage_bars
from qhybrid.cli.repeats import parse_numbers
from qhybrid.config import apply_overrides
from qhybrid.errors import CircuitError, QHybridError
from qhybrid.workspace import definition_files

if TYPE_CHECKING:
    from qhybrid.circuits import CircuitSpec

app = typer.Typer(help="List, show, analyze and export circuits.", no_args_is_help=True)

LARGEST_DRAWING = 9
"""Qubits up to which a text drawing is legible."""


@app.command("list")
def list_() -> None:
    """List the circuits of ./circuits and of the package, and the builders."""
    from qhybrid.circuits import CIRCUITS
    from qhybrid.circuits.definitions import find_circuit

    table = Table("circuit", "qubits", "inputs", "weights", "observables", "from")
    wrong = []
    for name, file in sorted(definition_files("circuits").items()):
        try:
            spec = find_circuit(name)
        except QHybridError as error:
            wrong.append(str(error))
            table.add_row(name, "unusable", "-", "-", "-", _place(file))
            continue
        numbers = (spec.num_qubits, spec.num_inputs, spec.num_weights, spec.num_observables)
        table.add_row(name, *map(str, numbers), _place(file))
    say_table(table)
    for message in wrong:
        say(f"Unusable: {message}")
    builders = Table("builder", "from", "description")
    for name in CIRCUITS.names():
        plugin = CIRCUITS.origin(name)
        builders.add_row(name, "qhybrid" if plugin is None else plugin.name, CIRCUITS.get(name).description)
    say_table(builders)


def _place(file: Path) -> str:
    """Return the folder of a definition as seen from here; where the package lies is not asked for."""
    return f"{file.parent}/" if file.absolute().is_relative_to(Path.cwd()) else "the package"


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A definition file, its name, or a builder.")],
    arg: Annotated[
        list[str] | None,
        typer.Option(help="Argument of the builder, as in grid=3; the others of the file stay."),
    ] = None,
) -> None:
    """Print what a circuit consists of and where it comes from, and draw it if it is small."""
    from qhybrid.circuits.definitions import circuit_origin, find_circuit

    spec = find_circuit(name, apply_overrides({}, arg or [], "--arg"))
    circuit = spec.circuit
    counts = ", ".join(f"{count} {gate}" for gate, count in circuit.count_ops().items() if gate != "barrier")
    for label, value in (
        ("from", circuit_origin(name)),
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
def analyze(
    name: Annotated[str, typer.Argument(help="A definition file, its name, or a builder.")],
    arg: Annotated[
        list[str] | None,
        typer.Option(help="Argument of the builder, as in grid=3; the others of the file stay."),
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="Count gates after routing to this device too; may be repeated.")
    ] = None,
    grow: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES", help="Sizes for the slope of gradient variances: 2-6, 2,4,8 or num_qubits=2-6."
        ),
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH", help="Where inputs are drawn, radians; one period of each if absent."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="LOW,HIGH", help="Where weights are drawn, radians; one period of each if absent."
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="Random settings of each figure.")] = 1000,
    data: Annotated[int, typer.Option(help="Number of data that the effective dimension is for.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of all random settings.")] = 0,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for NAME.json and NAME.png.")] = Path(
        "analysis"
    ),
) -> None:
    """Say what a circuit can do: directions, expressibility, gradients, spectrum, kernels, classical cost."""
    from qhybrid.analysis import analyze_circuit, grown_circuits
    from qhybrid.analysis.page import save_page
    from qhybrid.analysis.text import sections_of
    from qhybrid.circuits.definitions import find_circuit
    from qhybrid.devices import load_device
    from qhybrid.workspace import write_text

    arguments = apply_overrides({}, arg or [], "--arg")
    spec = find_circuit(name, arguments)
    by = ""
    sizes: list[tuple[int, CircuitSpec]] = []
    if grow is not None:
        own, _, numbers = grow.rpartition("=")
        by, sizes = grown_circuits(name, parse_numbers(numbers, "--grow"), arguments, own)
    devices = [load_device(one) for one in device or []]
    with stage_bars() as show_stage:
        found = analyze_circuit(
            spec,
            devices=devices,
            grown=sizes,
            grown_by=by,
            seed=seed,
            samples=samples,
            input_range=_range(inputs, "--inputs"),
            weight_range=_range(weights, "--weights"),
            data=data,
            progress=lambda _what, done, total: show_stage("analysis", done, total),
        )
    stem = "_".join([spec.name, *(one.replace("=", "-").replace("/", "-") for one in arg or [])])
    figures = write_text(output / f"{stem}.json", found.to_json())
    picture = save_page(found, output / f"{stem}.png")
    shown = Table.grid(padding=(0, 2))
    shown.add_column(no_wrap=True)
    shown.add_column(overflow="fold")
    for title, lines in sections_of(found):
        for place, line in enumerate(lines):
            shown.add_row(Text("" if place else title, style="bold"), Text(line))
    say_table(shown)
    say_path("figures", figures)
    say_path("picture", picture)


@app.command()
def export(
    names: Annotated[list[str] | None, typer.Argument(help="All that `list` shows if absent.")] = None,
    to: Annotated[Path, typer.Option(help="Folder for NAME.qasm and NAME.svg.")] = Path("circuits"),
) -> None:
    """Write circuits as OpenQASM 3 and as SVG drawings; a file that a circuit is read from stays."""
    from qhybrid.circuits.definitions import find_circuit, program_files
    from qhybrid.circuits.export import draw_svg, export_circuit

    failed, sources = [], program_files()
    for name in names or sorted(definition_files("circuits")):
        try:
            spec = find_circuit(name)
        except QHybridError as error:
            failed.append(str(error))
            continue
        qasm = to / f"{spec.name}.qasm"
        if qasm.resolve() in sources:
            say(f"kept {short(qasm)}, which a circuit is read from")
            say(f"wrote {short(draw_svg(spec, qasm.with_suffix('.svg')))}")
            continue
        try:
            for file in export_circuit(spec, to):
                say(f"wrote {short(file)}")
        except CircuitError as error:
            failed.append(str(error))
    if failed:
        raise CircuitError("\n".join(failed))


def _observables(spec: CircuitSpec) -> str:
    from qhybrid.circuits.pauli import format_observable

    texts = [format_observable(observable) for observable in spec.observables]
    shown = texts if len(texts) <= 8 else [*texts[:3], "...", *texts[-3:]]
    return f"{len(texts)} ({', '.join(shown)})"


def _range(text: str | None, flag: str) -> tuple[float, float] | None:
    """Read two numbers with a comma between them; None if there is no text."""
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"must look like -1,1, but is {text!r}", param_hint=flag) from error
    return low, high
