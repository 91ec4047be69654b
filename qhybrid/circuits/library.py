"""Builders of circuits by name: ours, and those that plugins and scripts register."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qhybrid.circuits.hq_unet_qcnn import hq_unet_qcnn
from qhybrid.circuits.hqf import hqf_directional, hqf_global, hqf_local, hqf_qskip
from qhybrid.circuits.qcnn import qcnn
from qhybrid.circuits.qcq_classifier import qcq_classifier
from qhybrid.circuits.qcq_filter import qcq_filter
from qhybrid.circuits.qufex import qufex_filter1, qufex_filter2
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import CircuitError, QHybridError
from qhybrid.plugins import Registry

Builder = Callable[..., CircuitSpec]
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class RegisteredCircuit:
    """A circuit that is built by a function.

    Attributes:
        build: The function; its arguments are those of `build_circuit` and of circuits/NAME.yaml.
        description: One sentence for lists.
    """

    build: Builder
    description: str


CIRCUITS: Registry[RegisteredCircuit] = Registry("circuit", CircuitError)


def register_circuit(name: str, builder: Builder, description: str = "", *, replace: bool = False) -> Builder:
    """Make a circuit known by name: to `build_circuit`, to files in circuits/, to recipes and commands.

    Args:
        name: Its name.
        builder: Returns a `CircuitSpec`. Its arguments must be plain values, with defaults: they are what
            `arguments` in circuits/NAME.yaml may hold.
        description: One sentence for lists; the first line of the builder's docstring if absent.
        replace: Whether it may take the place of another one.

    Returns:
        The builder.

    Raises:
        PluginError: If the name is taken.
    """
    text = description or (inspect.getdoc(builder) or "").partition("\n")[0]
    CIRCUITS.register(name, RegisteredCircuit(builder, text), replace=replace)
    return builder


def list_circuits() -> list[str]:
    """Return the names of all builders; the files in circuits/ are beside them."""
    return list(CIRCUITS.names())


def build_registered(name: str, arguments: Mapping[str, Any], source: str = "") -> CircuitSpec:
    """Build a circuit by its builder.

    Args:
        name: Name of the builder.
        arguments: Its arguments.
        source: File that asks for it, for messages.

    Raises:
        CircuitError: If the name or an argument is unknown, a value is out of range, or the builder fails.
    """
    builder = CIRCUITS.get(name, source).build
    place = f"{source}: " if source else ""
    _check_arguments(name, builder, arguments, place)
    try:
        spec = builder(**arguments)
    except QHybridError as error:
        if not source:
            raise
        raise type(error)(f"{source}: {error}") from error
    except Exception as error:  # anything may go wrong in code of others
        raise CircuitError(
            f"{place}Builder `{name}` failed ({type(error).__name__}: {error}). Fix: check its arguments."
        ) from error
    if not isinstance(spec, CircuitSpec):
        raise CircuitError(
            f"{place}Builder `{name}` must return a CircuitSpec, but returned {type(spec).__name__}. "
            "Fix: CircuitSpec.from_circuit(circuit, inputs, weights, observables)."
        )
    return spec


def _check_arguments(name: str, builder: Builder, arguments: Mapping[str, Any], place: str) -> None:
    parameters = inspect.signature(builder).parameters.values()
    allowed = [one.name for one in parameters if one.kind not in VARIADIC]
    unknown = sorted(set(arguments) - set(allowed))
    if unknown and not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        close = difflib.get_close_matches(unknown[0], allowed, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise CircuitError(
            f"{place}Circuit `{name}` has no argument(s) {', '.join(unknown)}. "
            f"Its arguments: {', '.join(allowed) or 'none'}.{hint}"
        )
    needed = [one.name for one in parameters if one.default is one.empty and one.kind not in VARIADIC]
    missing = [one for one in needed if one not in arguments]
    if missing:
        raise CircuitError(f"{place}Circuit `{name}` needs argument(s) {', '.join(missing)}.")


register_circuit("hq_unet_qcnn", hq_unet_qcnn, "Non-pooling QCNN on a grid, the bottleneck of HQ-UNet.")
register_circuit("hqf_directional", hqf_directional, "Directional expert of HQF-Net (our reconstruction).")
register_circuit("hqf_global", hqf_global, "Global expert of HQF-Net (our reconstruction).")
register_circuit("hqf_local", hqf_local, "Local expert of HQF-Net (our reconstruction).")
register_circuit("hqf_qskip", hqf_qskip, "Gate of a skip connection of HQF-Net (our reconstruction).")
register_circuit("qcnn", qcnn, "Quantum convolutional network with pooling by controlled rotations.")
register_circuit("qcq_classifier", qcq_classifier, "Classifier of QCQ-CNN: ZZ feature map, real amplitudes.")
register_circuit("qcq_filter", qcq_filter, "Fixed random filter of QCQ-CNN for patches of pixels.")
register_circuit("qufex_filter1", qufex_filter1, "First filter of QuFeX, the bottleneck of Qu-Net.")
register_circuit("qufex_filter2", qufex_filter2, "Second filter of QuFeX, the bottleneck of Qu-Net.")
