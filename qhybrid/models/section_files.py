"""What a model section names and does not hold: the content of the circuits that lie in the workspace."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from qhybrid.circuits.definition_files import definition_file, read_definition
from qhybrid.circuits.definitions import build_resolved, resolve_circuit
from qhybrid.circuits.library import CIRCUITS
from qhybrid.errors import CircuitError, ConfigError
from qhybrid.models.registry import MODELS
from qhybrid.models.workspace_circuits import with_workspace_arguments


def circuits_hash(section: Mapping[str, Any]) -> str | None:
    """Return the hash of the circuits in the workspace that decide a recipe's model.

    Args:
        section: `model` of a recipe.

    Returns:
        None where they decide nothing: the section names none, and those of the model are as it has them
        anyway. What cannot be read does not count: building the model says so.
    """
    content: dict[str, Any] = dict(_workspace_arguments(section))
    others = {text for text in _texts(section) if text in CIRCUITS and not _is_own(text)}
    for name in sorted(_named(section) | others):
        with contextlib.suppress(CircuitError, ConfigError, OSError):
            content[f"circuit {name}"] = found = resolve_circuit(name)
            if "builder" in found and not _is_own(found["builder"]):
                # Code of others may change, and its builder keeps its name.
                content[f"gates of {name}"] = build_resolved(found).fingerprint
    if not content:
        return None
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def has_code_of_others(section: Mapping[str, Any]) -> bool:
    """Return whether a model, or a circuit that it names, is built by a plugin or a script."""
    builders = {text for text in _texts(section) if text in CIRCUITS}
    name = str(section.get("name"))
    return (name in MODELS and not _is_of_package(MODELS.get(name).build)) or not all(map(_is_own, builders))


def _is_own(builder: str) -> bool:
    """Return whether a builder is the package's, and not a plugin's or a script's."""
    return _is_of_package(CIRCUITS.get(builder).build)


def _is_of_package(code: Any) -> bool:
    module = getattr(code, "__module__", None) or ""
    return module.split(".")[0] == __name__.split(".")[0]


def circuits_changed(section: Mapping[str, Any]) -> float | None:
    """Return when the files of these circuits last changed, in seconds since 1970; None without any."""
    entry = MODELS.get(str(section.get("name")), "model")
    files: list[Path] = []
    for name in {*_named(section), *(one.builder for one in entry.circuits)}:
        file = definition_file(name)
        if file is None:
            continue
        files.append(file)
        with contextlib.suppress(ConfigError):
            program = read_definition(file).file
            files += [] if program is None else [file.parent / program]
    states = [file.stat() for file in files if file.is_file()]
    return max((max(one.st_mtime, one.st_ctime) for one in states), default=None)


def _named(section: Mapping[str, Any]) -> set[str]:
    return {text for text in _texts(section) if definition_file(text) is not None}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _workspace_arguments(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that circuits/ gives to the model, where it would have others without it."""
    keys = dict(section)
    entry = MODELS.get(str(keys.pop("name", None)), "model")
    try:
        complete = with_workspace_arguments(str(section["name"]), keys, entry.circuits)
    except (CircuitError, ConfigError):
        return {}
    fields = entry.options.model_fields
    return {
        key: value
        for key, value in complete.items()
        if key not in keys and value != fields[key].get_default(call_default_factory=True)
    }
