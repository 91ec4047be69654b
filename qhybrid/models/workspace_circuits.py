"""Named circuits in named models: what circuits/NAME.yaml says is what the model has.

A key of the recipe wins over the workspace's definition, which wins over the builder's default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qhybrid.circuits import build_circuit
from qhybrid.circuits.definitions import resolve_circuit
from qhybrid.errors import ConfigError
from qhybrid.models.circuit_part import circuit_spec

Convert = Callable[[Any, Mapping[str, Any]], Any]
"""Takes an argument's value and the model's keys that are known so far, returns a key's value."""


@dataclass(frozen=True)
class CircuitKeys:
    """How a model's keys are arguments of a named circuit.

    Attributes:
        builder: The circuit.
        keys: The model's key for each argument.
        convert: Makes the key's value of the argument's, where they differ.
        fixed: Arguments that have no key, with the value that a definition may give.
        decided_by: Keys of the recipe that decide the arguments without a key.
    """

    builder: str
    keys: Mapping[str, str]
    convert: Mapping[str, Convert] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    decided_by: tuple[str, ...] = ()


def with_workspace_arguments(
    name: str, keys: Mapping[str, Any], circuits: tuple[CircuitKeys, ...]
) -> dict[str, Any]:
    """Return a model's keys with the arguments of its circuits' definitions where they say nothing.

    A section that is complete, as that of a run, does not look at the workspace.

    Args:
        name: The model, for messages.
        keys: Its keys as the recipe gives them.
        circuits: Its circuits.

    Raises:
        ConfigError: If a definition says what the model cannot honour.
    """
    given, found = set(keys), dict(keys)
    for circuit in circuits:
        if all(key in given for key in circuit.keys.values()):
            continue
        arguments = _arguments(name, circuit)
        for argument, value in arguments.items():
            key = circuit.keys.get(argument)
            if key is None:
                _check_fixed(name, circuit, argument, value, given)
            elif key not in given:
                convert = circuit.convert.get(argument)
                found[key] = value if convert is None else convert(value, found)
    return found


def _arguments(name: str, circuit: CircuitKeys) -> Mapping[str, Any]:
    """Return the arguments of a circuit's definition, after a check of all that it says beside them."""
    builder = circuit.builder
    content = resolve_circuit(builder)
    if content.get("builder") != builder:
        raise ConfigError(
            f"circuits/{builder}.yaml: `builder` must be `{builder}` for model `{name}`, which has that "
            "circuit, but the file is another one's. Fix: give the file another name, and name it in a model "
            "that takes any circuit."
        )
    arguments: Mapping[str, Any] = content.get("arguments") or {}
    if content.get("observables") is not None:
        own = build_circuit(builder, **arguments).observables
        if circuit_spec(content).observables != own:
            raise ConfigError(
                f"circuits/{builder}.yaml: model `{name}` reads the observables that go with `arguments`, "
                "but `observables` says others. Fix: leave `observables` out, or name the circuit in a model "
                f"that takes any: `{{name: unet, bottleneck: {{circuit: {builder}}}}}`, or `hybrid_cnn`."
            )
    return arguments


def _check_fixed(name: str, circuit: CircuitKeys, argument: str, value: Any, given: set[str]) -> None:
    if value == circuit.fixed.get(argument) or given & set(circuit.decided_by):
        return
    keys = ", ".join(f"`{key}`" for key in (*circuit.decided_by, *circuit.keys.values()))
    raise ConfigError(
        f"circuits/{circuit.builder}.yaml: `arguments.{argument}` is {value!r}, but model `{name}` decides "
        f"it by itself. Fix: leave it out there, and use the model's keys: {keys}."
    )
