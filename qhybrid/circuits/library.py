"""The named circuits: build one by name, list them, or build one from its definition file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import Field

from qhybrid.circuits.hq_unet_qcnn import hq_unet_qcnn
from qhybrid.circuits.pauli import parse_observables
from qhybrid.circuits.qcnn import qcnn
from qhybrid.circuits.qcq_classifier import qcq_classifier
from qhybrid.circuits.qcq_filter import qcq_filter
from qhybrid.circuits.qufex import qufex_filter1, qufex_filter2
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.config import StrictModel, read_yaml, validated
from qhybrid.errors import CircuitError

_BUILDERS: dict[str, Callable[..., CircuitSpec]] = {
    "hq_unet_qcnn": hq_unet_qcnn,
    "qcnn": qcnn,
    "qcq_classifier": qcq_classifier,
    "qcq_filter": qcq_filter,
    "qufex_filter1": qufex_filter1,
    "qufex_filter2": qufex_filter2,
}


class CircuitDefinition(StrictModel):
    """Content of `circuits/NAME.yaml`.

    Attributes:
        builder: Name of a registered circuit.
        description: One sentence for lists.
        source: Where the circuit comes from.
        arguments: Arguments of the builder.
        observables: Read-outs such as `Z0` or `0.5 * Z0 Z1`; absent: the builder's own.
    """

    builder: str
    description: str = ""
    source: str = ""
    arguments: dict[str, Any] = Field(default_factory=dict)
    observables: tuple[str, ...] | None = None


def list_circuits() -> list[str]:
    """Return the names that `build_circuit` accepts."""
    return sorted(_BUILDERS)


def build_circuit(name: str, /, **arguments: Any) -> CircuitSpec:
    """Build a named circuit.

    Args:
        name: One of `list_circuits()`.
        **arguments: Arguments of its builder, for example ``grid=4``.

    Raises:
        CircuitError: If the name or an argument is unknown, or a value is out of range.
    """
    if name not in _BUILDERS:
        raise CircuitError(f"Circuit {name!r} is unknown. Known circuits: {', '.join(list_circuits())}.")
    builder = _BUILDERS[name]
    allowed = inspect.signature(builder).parameters
    unknown = sorted(set(arguments) - set(allowed))
    if unknown:
        raise CircuitError(
            f"Circuit `{name}` has no argument(s) {', '.join(unknown)}. Its arguments: {', '.join(allowed)}."
        )
    return builder(**arguments)


def load_circuit(path: str | Path) -> CircuitSpec:
    """Build the circuit that a definition file describes.

    Args:
        path: A `circuits/NAME.yaml`.

    Raises:
        ConfigError: If the file cannot be read or has unknown keys.
        CircuitError: If the circuit cannot be built.
    """
    file = Path(path)
    definition = validated(CircuitDefinition, read_yaml(file), str(file))
    built = build_circuit(definition.builder, **definition.arguments)
    observables = built.observables
    if definition.observables is not None:
        observables = parse_observables(definition.observables, built.num_qubits)
    return CircuitSpec(file.stem, built.circuit, built.input_params, built.weight_params, observables)
