"""A circuit as plain values that need no other file: what recipes name, and what a run keeps of it.

circuits/NAME.yaml says either `builder` and `arguments`, or `file` with `inputs`, `weights` and
`observables`. All of it, the content of `file` too, is what `resolve_circuit` returns.
"""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits.definition_files import (
    FOLDER,
    SUFFIXES,
    Resolved,
    ResolvedBuilder,
    ResolvedFile,
    definition_file,
    read_definition,
    read_named_definition,
    read_program_file,
)
from qhybrid.circuits.library import CIRCUITS, build_registered, list_circuits
from qhybrid.circuits.parameter_names import select_parameters
from qhybrid.circuits.pauli import format_observable, parse_observables
from qhybrid.circuits.program import TITLES, read_program
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.circuits.transpile import virtual_qubits
from qhybrid.config import validated
from qhybrid.errors import CircuitError, ConfigError
from qhybrid.workspace import definition_files


def resolve_circuit(
    reference: str | Path | Mapping[str, Any], arguments: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return all that decides a circuit, as JSON-safe values; files that change later do not change it.

    Args:
        reference: A name in circuits/, a definition file, a builder's name, or what this function returned.
        arguments: Arguments of the builder that replace those of the definition; the others stay.

    Raises:
        CircuitError: If there is no such circuit, it cannot be built, or it takes no arguments.
        ConfigError: If its definition file is wrong.
    """
    resolved, source, label = _resolve(reference, dict(arguments or {}))
    if not isinstance(reference, Mapping):
        _build(resolved, source, label)  # names the file and the key if something is wrong
    return resolved.model_dump(mode="json")


def build_resolved(content: Mapping[str, Any]) -> CircuitSpec:
    """Build the circuit of what `resolve_circuit` returned.

    Raises:
        CircuitError: If it cannot be built.
        ConfigError: If it is not what `resolve_circuit` returns.
    """
    return find_circuit(content)


def find_circuit(
    reference: str | Path | Mapping[str, Any], arguments: Mapping[str, Any] | None = None
) -> CircuitSpec:
    """Build what `resolve_circuit` finds, for the same arguments."""
    return _build(*_resolve(reference, dict(arguments or {})))


def build_circuit(name: str, /, **arguments: Any) -> CircuitSpec:
    """Build a circuit by name.

    A builder is given the arguments alone, whatever files are in circuits/: a file of its name counts where
    recipes and commands name it (`resolve_circuit`).

    Args:
        name: A builder, one of `list_circuits()`; or another name in circuits/.
        **arguments: Arguments of the builder, for example ``grid=4``; those that the file gives stay.

    Raises:
        CircuitError: If the name or an argument is unknown, or a value is out of range.
        ConfigError: If the definition file is wrong.
    """
    if name in CIRCUITS:
        return build_registered(name, arguments)
    return find_circuit(name, arguments)


def load_circuit(path: str | Path) -> CircuitSpec:
    """Build the circuit that a definition file describes.

    Args:
        path: A `circuits/NAME.yaml`.

    Raises:
        ConfigError: If the file cannot be read or has unknown keys.
        CircuitError: If the circuit cannot be built.
    """
    return _build(*_from_file(Path(path), {}))


def circuit_origin(reference: str | Path) -> str:
    """Return where a circuit comes from, in words: its files, its builder, the plugin that brings it."""
    file = definition_file(reference)
    if file is None:
        return _builder_origin(str(reference))
    definition = read_definition(file)
    if definition.file is None:
        return f"{file}: {_builder_origin(str(definition.builder))}"
    return f"{file}: {definition.file}"


def program_files() -> set[Path]:
    """Return the OpenQASM and QPY files that definitions in circuits/ read, as full paths."""
    found = set()
    for file in definition_files(FOLDER).values():
        try:
            definition = read_definition(file)
        except ConfigError:
            continue
        if definition.file is not None:
            found.add((file.parent / definition.file).resolve())
    return found


def _builder_origin(name: str) -> str:
    plugin = CIRCUITS.origin(name)
    return f"builder {name}" + (f" (plugin {plugin.name} {plugin.version})" if plugin else "")


def _resolve(
    reference: str | Path | Mapping[str, Any], arguments: dict[str, Any]
) -> tuple[Resolved, str, str]:
    """Return a circuit's content, and what to call its definition and its program in messages."""
    if isinstance(reference, Mapping):
        return _from_mapping(reference, arguments)
    file = definition_file(reference)
    if file is not None:
        return _from_file(file, arguments, named=not str(reference).endswith(".yaml"))
    name = str(reference)
    if name not in CIRCUITS:
        known = sorted({*list_circuits(), *definition_files(FOLDER)})
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        if (program := _program_of(name)) is not None:
            stem = program.stem
            write = f"write {FOLDER}/{stem}.yaml with `file: {program.name}`, `inputs`, `weights` and "
            remedy = f"name `{stem}`" if stem in known else f"{write}`observables`, and name `{stem}`"
            raise CircuitError(
                f"Circuit {name!r} must be named by its YAML file, which says what {program} does not: which "
                f"parameters are inputs, and what is read. Fix: {remedy}."
            )
        raise CircuitError(
            f"Circuit {name!r} is unknown. Known circuits: {', '.join(known)}.{hint} "
            f"Fix: write {FOLDER}/{name}.yaml, or name the plugin that brings it."
        )
    return ResolvedBuilder(name=name, builder=name, arguments=arguments), "", ""


def _program_of(name: str) -> Path | None:
    """Return the OpenQASM or QPY file that a name seems to mean; None if there is none."""
    given = Path(name)
    found = [given, Path(FOLDER, name)] if given.suffix in SUFFIXES else []
    found += [Path(FOLDER, f"{name}{suffix}") for suffix in SUFFIXES]
    return next((file for file in found if file.is_file()), None)


def _from_mapping(content: Mapping[str, Any], arguments: dict[str, Any]) -> tuple[Resolved, str, str]:
    source = f"circuit `{content.get('name', '')}`"
    if "content" not in content:
        resolved = validated(ResolvedBuilder, content, source)
        return resolved.model_copy(update={"arguments": {**resolved.arguments, **arguments}}), source, source
    found = validated(ResolvedFile, content, source)
    _check_no_arguments(arguments, source)
    return found, source, f"{source}: its {TITLES[found.format]}"


def _from_file(file: Path, arguments: dict[str, Any], named: bool = False) -> tuple[Resolved, str, str]:
    definition = read_named_definition(file) if named else read_definition(file)
    if definition.file is not None:
        _check_no_arguments(arguments, str(file))
        return read_program_file(file, definition), str(file), f"{file}: key `file`: {definition.file}"
    found = ResolvedBuilder(
        name=file.stem,
        builder=str(definition.builder),
        arguments={**definition.arguments, **arguments},
        observables=definition.observables,
    )
    if arguments and definition.observables is not None:
        # Those that only repeat what the builder reads follow its new arguments.
        own = build_registered(found.builder, definition.arguments, str(file))
        written = parse_observables(definition.observables, own.num_qubits)
        if list(map(format_observable, written)) == list(map(format_observable, own.observables)):
            found = found.model_copy(update={"observables": None})
    return found, str(file), ""


def _check_no_arguments(arguments: Mapping[str, Any], source: str) -> None:
    if arguments:
        raise CircuitError(
            f"{source}: is read from a file and takes no arguments, but was given {', '.join(arguments)}. "
            "Fix: change the file, or register a builder (register_circuit)."
        )


def _build(content: Resolved, source: str, label: str) -> CircuitSpec:
    if isinstance(content, ResolvedBuilder):
        built = build_registered(content.builder, content.arguments, source)
        observables = built.observables
        if content.observables is not None:
            observables = _observables(content.observables, built.num_qubits, source)
        return CircuitSpec(content.name, built.circuit, built.input_params, built.weight_params, observables)
    data: str | bytes = content.content
    if content.format == "qpy":
        try:
            data = base64.b64decode(content.content, validate=True)
        except binascii.Error as error:
            raise CircuitError(f"{label}: must be QPY in base64, but is not ({error}).") from error
    circuit = read_program(content.format, data, label)
    circuit.name = content.name
    parameters = {parameter.name: parameter for parameter in circuit.parameters}
    inputs, weights = select_parameters(list(parameters), content.inputs, content.weights, source)
    return CircuitSpec.from_circuit(
        circuit,
        [parameters[name] for name in inputs],
        [parameters[name] for name in weights],
        _observables(content.observables, virtual_qubits(circuit), source),
        layout_applied=False,
    )


def _observables(texts: Sequence[str], num_qubits: int, source: str) -> tuple[SparsePauliOp, ...]:
    try:
        return parse_observables(texts, num_qubits)
    except CircuitError as error:
        raise CircuitError(f"{source}: key `observables`: {error}") from error
