"""Write circuits: OpenQASM 3 and a drawing for others, QPY with its YAML for recipes."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from qiskit import QuantumCircuit, qasm3, qpy
from qiskit.circuit import Parameter
from qiskit.qasm3 import QASM3Error

from qhybrid.circuits.definitions import build_resolved, load_circuit
from qhybrid.circuits.delays import delays_in
from qhybrid.circuits.library import CIRCUITS
from qhybrid.circuits.pauli import format_observable
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import CircuitError, WorkspaceError
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


def save_circuit(
    spec: CircuitSpec,
    name: str | None = None,
    folder: str | Path = "circuits",
    *,
    description: str = "",
    overwrite: bool = False,
) -> Path:
    """Write a circuit of Python as NAME.qpy and NAME.yaml, by which recipes and commands know it.

    What will be written is read back and compared before a file appears.

    Args:
        spec: The circuit; `CircuitSpec.from_circuit` makes one of any `QuantumCircuit`.
        name: What it is called from then on; the spec's own name if absent.
        folder: `circuits` of the workspace.
        description: One sentence for lists.
        overwrite: Replace files of that name. Those of the same circuit may be there.

    Returns:
        The YAML file.

    Raises:
        CircuitError: If the name belongs to a builder or is none, or the circuit is another one in QPY.
        WorkspaceError: If another circuit of that name is there.
    """
    name = spec.name if name is None else name
    if not re.fullmatch(r"[\w-]+", name) or name in CIRCUITS:
        why = "belongs to a builder" if name in CIRCUITS else "is none"
        raise CircuitError(
            f"Argument `name` must be a name of letters, digits, _ and - of its own, but {name!r} {why}. "
            "Fix: choose another one."
        )
    program, definition = (Path(folder) / f"{name}{suffix}" for suffix in (".qpy", ".yaml"))
    there = [file for file in (program, definition) if file.exists()]
    if there and not overwrite:
        if len(there) == 2 and load_circuit(definition).fingerprint == spec.fingerprint:
            return definition  # a script that runs again
        raise WorkspaceError(f"{there[0]} is there already. Fix: another name, or overwrite=True.")
    _check_can_be_saved(spec, name)
    kept, plain = io.BytesIO(), spec.circuit.copy()
    plain._layout = None  # the observables are on its present qubits
    qpy.dump(plain, kept)
    roles: dict[str, Any] = {
        "inputs": _parameter_names(spec.input_params, spec),
        "weights": _parameter_names(spec.weight_params, spec),
        "observables": [format_observable(one) for one in spec.observables],
    }
    text = base64.b64encode(kept.getvalue()).decode("ascii")
    again = build_resolved({"name": name, "format": "qpy", "content": text, **roles})
    if again.fingerprint != spec.fingerprint:
        raise CircuitError(
            f"Circuit `{name}` must be the same when it is read back from QPY, but is another one. Fix: "
            "register a builder for it (`register_circuit`)."
        )
    with atomic_path(program) as temporary:
        temporary.write_bytes(kept.getvalue())
    said = {"file": program.name, **roles, **({"description": description} if description else {})}
    return write_text(definition, yaml.safe_dump(said, sort_keys=False, allow_unicode=True))


def _check_can_be_saved(spec: CircuitSpec, name: str) -> None:
    """Check that QPY and YAML can say all of a circuit.

    Raises:
        CircuitError: If no gate uses a parameter, or a delay has a unit, which QPY does not keep.
    """
    used = set(spec.circuit.parameters)
    unused = [one.name for one in (*spec.input_params, *spec.weight_params) if one not in used]
    if unused:
        raise CircuitError(
            f"Circuit `{name}` must use all its inputs and weights to be saved, but no gate has "
            f"{', '.join(unused)}. Fix: leave them out of the CircuitSpec."
        )
    units = {one.unit for one in delays_in(spec.circuit)} - {"dt"}
    if units:
        raise CircuitError(
            f"Circuit `{name}` has delays in {', '.join(sorted(units))}, but QPY keeps no units. Fix: write "
            "it as OpenQASM 3 (qiskit.qasm3.dump), with a YAML file beside it."
        )


def _parameter_names(parameters: Sequence[Parameter], spec: CircuitSpec) -> list[str]:
    """Return names as a definition lists them: a whole vector in its order by its own name."""
    names = [parameter.name for parameter in parameters]
    vector = names[0].removesuffix("[0]") if names and names[0].endswith("[0]") else None
    others = {parameter.name for parameter in (*spec.input_params, *spec.weight_params)} - set(names)
    alone = vector not in others and not any(name.startswith(f"{vector}[") for name in others)
    if vector and alone and names == [f"{vector}[{index}]" for index in range(len(names))]:
        return [vector]
    return names
