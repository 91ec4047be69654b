"""A circuit at several sizes: which argument of its builder grows, and the circuits."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from qhybrid.circuits.definition_files import definition_file, read_definition
from qhybrid.circuits.definitions import find_circuit
from qhybrid.circuits.library import CIRCUITS
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import ConfigError

GROWING = ("grid", "num_qubits", "qubits", "size", "width")
"""Arguments of a builder that say how large a circuit is; the first one that it has is taken."""


def grown_circuits(
    reference: str, sizes: Sequence[int], arguments: Mapping[str, Any] | None = None, argument: str = ""
) -> tuple[str, list[tuple[int, CircuitSpec]]]:
    """Build a circuit at several sizes.

    Args:
        reference: A definition file, its name, or a builder.
        sizes: Values of the argument that grows.
        arguments: Other arguments that replace those of the definition.
        argument: The argument that grows; the first of `GROWING` that the builder has if empty.

    Returns:
        The argument, and (size, circuit) from the smallest to the largest.

    Raises:
        ConfigError: If the circuit has no such argument.
        CircuitError: If the builder refuses a size.
    """
    argument = argument or _argument_of(reference)
    wanted = sorted(set(sizes))
    return argument, [(n, find_circuit(reference, {**(arguments or {}), argument: n})) for n in wanted]


def _argument_of(reference: str) -> str:
    file = definition_file(reference)
    builder = reference if file is None else read_definition(file).builder
    if builder is None:
        raise ConfigError(
            f"Option `grow` needs a circuit with an argument for its size, but {reference!r} is read from a "
            "file. Fix: register a builder, or leave the option out."
        )
    known = inspect.signature(CIRCUITS.get(builder).build).parameters
    found = next((name for name in GROWING if name in known), None)
    if found is None:
        raise ConfigError(
            f"Option `grow` must know which argument is the size, but builder `{builder}` has none of "
            f"{', '.join(GROWING)}. Fix: name it, as in --grow {next(iter(known), 'argument')}=2-6."
        )
    return found
