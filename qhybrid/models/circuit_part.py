"""A circuit as a part of a model: named in a recipe, kept in full in the run, built as a layer."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializerFunctionWrapHandler, model_serializer

from qhybrid.circuits.definitions import build_resolved, resolve_circuit
from qhybrid.circuits.library import CIRCUITS, Builder
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.config import StrictModel
from qhybrid.engines.base import Engine
from qhybrid.layers import QuantumLayer


def _resolved(reference: Any) -> dict[str, Any]:
    if not isinstance(reference, str | Path | Mapping):
        raise ValueError(  # noqa: TRY004 - pydantic turns it into a message with the key
            f"must be a circuit: its name, a definition file, or its content, but is {reference!r}"
        )
    content = _resolved_inline(reference) if isinstance(reference, Mapping) else resolve_circuit(reference)
    circuit_spec(content)
    return content


def _resolved_inline(content: Mapping[str, Any]) -> dict[str, Any]:
    """Resolve a section: what a run keeps, or the name of a circuit with arguments that replace its own."""
    name = content.get("name")
    if isinstance(name, str) and content.keys() <= {"name", "arguments"}:
        arguments = content.get("arguments") or {}
        if not isinstance(arguments, Mapping):
            raise ValueError(f"`arguments` of circuit `{name}` must be `key: value`, but is {arguments!r}")
        return resolve_circuit(name, arguments)
    return resolve_circuit(content)


Circuit = Annotated[dict[str, Any], BeforeValidator(_resolved)]
"""Key of a model that holds a circuit: a recipe names it, the resolved key has all of its content."""


def _one_or_several(reference: Any) -> Any:
    if not isinstance(reference, list | tuple):
        return _resolved(reference)
    if not reference:
        raise ValueError("must name at least one circuit, but is an empty list")
    return tuple(map(_resolved, reference))


Circuits = Annotated[dict[str, Any] | tuple[dict[str, Any], ...], BeforeValidator(_one_or_several)]
"""Key of a model that holds a circuit, or a list of them."""


def named_part(content: Any, names: Collection[str] = ()) -> Any:
    """Return the section of a part; a text stands for one of its names.

    Raises:
        ValueError: If the text is something else, such as the name of a circuit.
    """
    if not isinstance(content, str):
        return content
    if content in names:
        return {"name": content}
    known = f"one of {', '.join(names)}, or " if names else ""
    raise ValueError(
        f"must be {known}a section such as `{{circuit: NAME}}`, but is {content!r}. "
        f"Fix: `{{circuit: {content}}}`, if it is a circuit"
    )


class PartOptions(StrictModel):
    """Keys of one part of a model; keys without a value are left out of what a run keeps."""

    @model_serializer(mode="wrap")
    def _without_absent_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in dump(self).items() if value is not None}


def circuit_spec(content: Mapping[str, Any]) -> CircuitSpec:
    """Return the circuit of a resolved key.

    Raises:
        CircuitError: If it cannot be built.
    """
    builder = content.get("builder")
    code = CIRCUITS.get(builder).build if isinstance(builder, str) and builder in CIRCUITS else None
    return _built(json.dumps(content, sort_keys=True), code)


@lru_cache(maxsize=64)
def _built(content: str, _code: Builder | None) -> CircuitSpec:
    """Build a circuit once for each builder that had its name."""
    return build_resolved(json.loads(content))


def named_circuit(builder: str, **arguments: Any) -> dict[str, Any]:
    """Return a named circuit with these arguments as the content of a key."""
    return {"name": builder, "builder": builder, "arguments": arguments, "observables": None}


def circuit_layer(content: Mapping[str, Any], engine: Engine | None, *, frozen: bool = False) -> QuantumLayer:
    """Return the layer of a resolved key.

    Args:
        content: The key's value.
        engine: What executes the circuit; the noiseless exact engine if absent.
        frozen: Whether its weights stay at their random initial values.
    """
    layer = QuantumLayer(circuit_spec(content), engine)
    return frozen_layer(layer) if frozen else layer


def frozen_layer(layer: QuantumLayer) -> QuantumLayer:
    """Return a layer whose weights stay what they are while everything else trains."""
    layer.weight.requires_grad_(False)
    return layer


def near_square(count: int) -> tuple[int, int]:
    """Return rows and columns with rows * columns = count, as square as possible, rows <= columns."""
    rows = next(divisor for divisor in range(int(count**0.5), 0, -1) if count % divisor == 0)
    return rows, count // rows


def cells_of(
    spec: CircuitSpec, grid: tuple[int, int] | None = None, features: int | None = None
) -> tuple[tuple[int, int], int]:
    """Return the grid of cells and the features of a cell that give a circuit its inputs.

    Args:
        spec: The circuit.
        grid: Rows and columns, if they are decided already.
        features: Features of a cell, if they are decided already.

    Raises:
        ValueError: If cells x features cannot be the number of inputs.
    """
    inputs = spec.num_inputs
    if not inputs:
        raise ValueError(f"circuit `{spec.name}` must have inputs, but has none")
    if grid is None:
        divisor = spec.num_qubits if inputs % spec.num_qubits == 0 else inputs
        grid = near_square(divisor if features is None else max(1, inputs // features))
    cells = grid[0] * grid[1]
    features = features or max(1, inputs // cells)
    if cells * features != inputs:
        raise ValueError(
            f"circuit `{spec.name}` has {inputs} inputs, but `grid` {grid[0]} x {grid[1]} with {features} "
            f"`features` a cell gives {cells * features}. Fix: choose `grid` and `features` whose product "
            f"is {inputs}, or leave them out"
        )
    return grid, features
