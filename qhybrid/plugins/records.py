"""What a run keeps of the plugins that it was made with, and what is said when one is missing."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from qhybrid.errors import PluginError
from qhybrid.plugins.loading import VARIABLE, load_plugins
from qhybrid.plugins.registry import REGISTRIES, Plugin


def loaded_plugins() -> list[dict[str, Any]]:
    """Return the plugins of this process and the names that each has added, as plain values."""
    return [
        {**plugin.to_dict(), "adds": _added_by(plugin)}
        for plugin in sorted(load_plugins(), key=lambda one: one.name)
    ]


def check_plugins(
    recorded: Sequence[Mapping[str, Any]], source: str, used: Collection[str] | None = None
) -> None:
    """Compare plugins that a run was made with to those of this process.

    Other versions are a warning. Nothing is imported: a file may not name the code that is run.

    Args:
        recorded: What `loaded_plugins` returned when the run was made.
        source: The run's file, for messages.
        used: Names that the run uses: others may be missing. All are needed if absent.

    Raises:
        PluginError: If one is missing and a name that it added is needed and not known.
    """
    here = {plugin.name: plugin for plugin in load_plugins()}
    known = {registry.kind: registry.names() for registry in REGISTRIES}
    for one in recorded:
        name, version = str(one.get("name")), str(one.get("version"))
        missing = [
            f"{kind} `{added}`"
            for kind, names in one.get("adds", {}).items()
            for added in names
            if added not in known.get(kind, ()) and (used is None or added in used)
        ]
        if name not in here and missing:
            raise PluginError(
                f"{source}: made with plugin `{name}` {version} (module {one.get('module')}), which adds "
                f"{', '.join(missing)} and is not loaded. Fix: install it, or name it: "
                f"--plugin {one.get('module')} (or {VARIABLE}={one.get('module')})."
            )
        if name in here and here[name].version != version:
            warnings.warn(
                f"{source}: made with plugin `{name}` {version}, but {here[name].version} is loaded.",
                stacklevel=2,
            )


def words(content: Any) -> set[str]:
    """Return all texts in plain values: the names that a file may use."""
    if isinstance(content, Mapping):
        content = [*content, *content.values()]
    if isinstance(content, list | tuple):
        return {word for one in content for word in words(one)}
    return {content} if isinstance(content, str) else set()


def _added_by(plugin: Plugin) -> dict[str, list[str]]:
    added = {
        registry.kind: [name for name in registry.names() if registry.origin(name) == plugin]
        for registry in REGISTRIES
    }
    return {kind: names for kind, names in added.items() if names}
