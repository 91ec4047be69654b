"""Import plugins: installed ones, those that QHYBRID_PLUGINS names, and those of `--plugin`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from qhybrid.errors import PluginError
from qhybrid.plugins.registry import REGISTRIES, Plugin, Registry, load_before_look_up, names_of

GROUP = "qhybrid.plugins"
VARIABLE = "QHYBRID_PLUGINS"
Table = tuple[Registry[Any], dict[str, Any], dict[str, Any]]


@dataclass
class _State:
    """What this process has loaded."""

    done: bool = False
    loading: bool = False
    asked: str = ""


_PLUGINS: dict[str, Plugin] = {}
_STATE = _State()
_LOCK = threading.RLock()


def resolved(reference: Any) -> Any:
    """Return a thing that is given as itself, or as `module:name`, which is imported now.

    Tables that must load quickly name what is behind their entries in this way.
    """
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def load_plugins(modules: Sequence[str] = ()) -> tuple[Plugin, ...]:
    """Import all plugins that are not loaded yet.

    Args:
        modules: Modules or .py files beside the installed plugins and those of QHYBRID_PLUGINS.

    Returns:
        All plugins that are loaded.

    Raises:
        PluginError: If a module that was named cannot be imported. An installed plugin that cannot be
            imported is a warning: it must not stop commands that do not need it.
    """
    with _LOCK:
        wanted = os.environ.get(VARIABLE, "")
        if not _STATE.loading:
            if not _STATE.done:
                _STATE.done = True
                for point in entry_points(group=GROUP):
                    _load_installed(point)
            if wanted != _STATE.asked:
                modules = [*_listed(wanted), *modules]
            for module in modules:
                _load_named(module)
            _STATE.asked = wanted  # one that failed is an error again at the next look-up
        return tuple(_PLUGINS.values())


def name_plugins(modules: Sequence[str]) -> None:
    """Name plugins for this process and those that it starts, and load them; what `--plugin` does.

    Raises:
        PluginError: If one cannot be imported.
    """
    added = [str(Path(one).absolute()) if one.endswith(".py") else one for one in modules]
    before = named_plugins()
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*before, *added]))
    try:
        load_plugins()
    except PluginError:
        os.environ[VARIABLE] = ",".join(before)
        raise


@contextmanager
def temporary_plugins(*modules: str | Path) -> Iterator[None]:
    """Load plugins for the length of a `with` block, and take back what they added: for tests of plugins.

    Args:
        *modules: Modules or .py files.

    Raises:
        PluginError: If one cannot be imported.
    """
    variable, asked, before = os.environ.get(VARIABLE, ""), _STATE.asked, set(_PLUGINS)
    tables = _tables()
    try:
        name_plugins([str(one) for one in modules])
        yield
    finally:
        for module in _PLUGINS.keys() - before:
            _take_back(_PLUGINS.pop(module), tables)
            sys.modules.pop(Path(module).stem if module.endswith(".py") else module, None)
        os.environ[VARIABLE], _STATE.asked = variable, asked


def named_plugins() -> list[str]:
    """Return the modules and .py files that QHYBRID_PLUGINS names."""
    return _listed(os.environ.get(VARIABLE, ""))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _load_installed(point: EntryPoint) -> None:
    dist = point.dist
    plugin = Plugin(dist.name if dist else point.name, point.value, dist.version if dist else "unknown")
    try:
        _import(plugin, point.load)
    except Exception as error:  # anything may go wrong in code of others
        warnings.warn(
            f"Plugin `{plugin.name}` is installed but cannot be loaded ({type(error).__name__}: {error}); "
            "what it adds is missing. Fix: repair or uninstall it.",
            stacklevel=3,
        )


def _load_named(module: str) -> None:
    if any(module == plugin.module for plugin in _PLUGINS.values()):
        return
    path = Path(module)
    from_file = module.endswith(".py")
    if from_file and not path.is_file():
        raise PluginError(f"Plugin {module} must be a module or a .py file, but there is no such file.")
    plugin = Plugin(path.stem if from_file else module, module, "")
    try:
        loaded = _import(plugin, lambda: _from_file(path) if from_file else importlib.import_module(module))
    except PluginError:
        raise
    except Exception as error:  # anything may go wrong in code of others
        raise PluginError(
            f"Plugin {module} cannot be loaded ({type(error).__name__}: {error}). Fix: check its name in "
            f"--plugin or {VARIABLE}, that Python finds it, and that it imports by itself."
        ) from error
    _set_version(plugin, loaded)


def _import(plugin: Plugin, load: Callable[[], Any]) -> Any:
    tables = _tables()
    _STATE.loading = True
    try:
        with names_of(plugin):
            loaded = load()
        _PLUGINS[plugin.module] = plugin
        return loaded
    except BaseException:
        _take_back(plugin, tables)
        raise
    finally:
        _STATE.loading = False


def _tables() -> list[Table]:
    """Return what all registries hold."""
    return [(registry, dict(registry._entries), dict(registry._origins)) for registry in REGISTRIES]


def _take_back(plugin: Plugin, tables: Sequence[Table]) -> None:
    """Remove what a plugin added, and put back what it replaced."""
    for registry in REGISTRIES:
        for name in [name for name, owner in registry._origins.items() if owner == plugin]:
            del registry._entries[name], registry._origins[name]
    for registry, entries, origins in tables:
        for name in entries.keys() - registry._entries.keys():
            registry._entries[name], registry._origins[name] = entries[name], origins[name]


def _from_file(path: Path) -> Any:
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"Plugin {path} must be a .py file, but is not one.")
    module = importlib.util.module_from_spec(spec)
    if name in sys.modules:
        raise PluginError(
            f"Plugin {path}: a module `{name}` is loaded already. Fix: name the file otherwise."
        )
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _set_version(plugin: Plugin, module: Any) -> None:
    version = getattr(module, "__version__", None)
    if version is None:
        file = getattr(module, "__file__", None)
        content = Path(file).read_bytes() if file else b""
        version = f"sha256:{hashlib.sha256(content).hexdigest()[:12]}" if file else "unknown"
    named = Plugin(plugin.name, plugin.module, str(version))
    _PLUGINS[plugin.module] = named
    for registry in REGISTRIES:
        for name, owner in registry._origins.items():
            if owner == plugin:
                registry._origins[name] = named


load_before_look_up(load_plugins)
