"""A circuit as plain values that need no other file: what recipes name, and what a run keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qhybrid.circuits.library import CircuitDefinition, build_circuit, list_circuits
from qhybrid.circuits.pauli import parse_observables
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.config import read_yaml, validated
from qhybrid.errors import CircuitError
from qhybrid.workspace import definition_files

FOLDER = "circuits"


def resolve_circuit(reference: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Return all that decides a circuit, as JSON-safe values; files that change later do not change it.

    Args:
        reference: A name in circuits/, a definition file, a builder's name, or what this function returned.

    Raises:
        CircuitError: If there is no such circuit.
        ConfigError: If its definition file is wrong.
    """
    if isinstance(reference, Mapping):
        return dict(reference)
    file = Path(reference) if str(reference).endswith(".yaml") else definition_files(FOLDER).get(str(reference))
    if file is None:
        if str(reference) not in list_circuits():
            raise CircuitError(
                f"Circuit {str(reference)!r} is unknown. Known circuits: {', '.join(list_circuits())}."
            )
        return {"name": str(reference), "builder": str(reference), "arguments": {}, "observables": None}
    definition = validated(CircuitDefinition, read_yaml(file), str(file))
    content = definition.model_dump(mode="json", include={"builder", "arguments", "observables"})
    return {"name": file.stem, **content}


def build_resolved(content: Mapping[str, Any]) -> CircuitSpec:
    """Build the circuit of what `resolve_circuit` returned.

    Raises:
        CircuitError: If it cannot be built.
    """
    built = build_circuit(content["builder"], **content["arguments"])
    observables = built.observables
    if content.get("observables") is not None:
        observables = parse_observables(content["observables"], built.num_qubits)
    return CircuitSpec(content["name"], built.circuit, built.input_params, built.weight_params, observables)


def workspace_arguments(builder: str) -> dict[str, Any]:
    """Return the arguments that circuits/BUILDER.yaml gives a builder; none if there is no such file."""
    file = definition_files(FOLDER).get(builder)
    if file is None:
        return {}
    definition = validated(CircuitDefinition, read_yaml(file), str(file))
    return dict(definition.arguments) if definition.builder == builder else {}
