"""Kinds of things by name, ours and those that other people's code adds.

A `Registry` holds one kind of thing: circuits, models, data sets, metrics, and so on. Code of other people
comes in through the entry point group `qhybrid.plugins` of an installed package, through modules that
QHYBRID_PLUGINS names (separated by commas; a module or a .py file), or through `--plugin`, which sets
that variable for the command and its worker processes. It never comes in because a run folder says so.

Plugins are imported at the first look-up of any name.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from qhybrid.errors import ConfigError, PluginError, QHybridError

GROUP = "qhybrid.plugins"
VARIABLE = "QHYBRID_PLUGINS"
T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """Code of other people that is loaded.

    Attributes:
        name: The name of its distribution, else of its module.
        module: The module, or the .py file, that was imported.
        version: Of the distribution, else the module's `__version__`, else a hash of its file.
    """

    name: str
    module: str
    version: str

    def to_dict(self) -> dict[str, str]:
        """Return plain values, for meta.json."""
        return asdict(self)


class Registry(Generic[T]):
    """One kind of thing by name.

    Args:
        kind: What messages call it: "circuit", "model", ...
        error: Raised for a name that is not known.
        where: What the name was given to, for messages; `kind` by default.
    """

    def __init__(self, kind: str, error: type[QHybridError] = ConfigError) -> None:
        self.kind = kind
        self._error = error
        self._entries: dict[str, T] = {}
        self._origins: dict[str, Plugin | None] = {}
        _REGISTRIES.append(self)

    def register(self, name: str, entry: T, *, replace: bool = False) -> T:
        """Add a thing.

        Args:
            name: Its name.
            entry: The thing.
            replace: Whether it may take the place of another one.

        Returns:
            The entry.

        Raises:
            PluginError: If the name is no plain word, or is taken.
        """
        if not isinstance(name, str) or not name or name != name.strip() or "/" in name:
            raise PluginError(
                f"The name of a {self.kind} must be a word without spaces around it or `/`, but is {name!r}."
            )
        if name in self._entries and not replace:
            owner = self._origins[name]
            raise PluginError(
                f"A {self.kind} is already named `{name}` ({'qhybrid' if owner is None else owner.name}). "
                "Fix: choose another name, or say replace=True on purpose."
            )
        self._entries[name] = entry
        self._origins[name] = _registering()
        return entry

    def get(self, name: str, source: str = "") -> T:
        """Return a thing by its name.

        Args:
            name: The name.
            source: File or key that names it, for the message.

        Raises:
            QHybridError: Of the registry's class, with near names, if there is none.
        """
        load_plugins()
        if name not in self._entries:
            raise self._error(self.unknown(name, source))
        return self._entries[name]

    def unknown(self, name: object, source: str = "") -> str:
        """Return the message for a name that is not known."""
        known = self.names()
        place = f"{source}: " if source else ""
        hint = near_name(name, known)
        return f"{place}{self.kind} {name!r} is unknown. Known {self.kind}s: {', '.join(known)}.{hint}"

    def names(self) -> tuple[str, ...]:
        """Return all names in alphabetical order."""
        load_plugins()
        return tuple(sorted(self._entries))

    def items(self) -> tuple[tuple[str, T], ...]:
        """Return names and things in the order in which they were added."""
        load_plugins()
        return tuple(self._entries.items())

    def origin(self, name: str) -> Plugin | None:
        """Return the plugin that added a thing; None for our own and for those of scripts."""
        return self._origins.get(name)

    def __contains__(self, name: object) -> bool:
        load_plugins()
        return name in self._entries

    @contextmanager
    def temporarily(self, name: str, entry: T) -> Iterator[T]:
        """Add a thing for the length of a `with` block, in place of one of the same name."""
        before, origin = self._entries.get(name), self._origins.get(name)
        was_there = name in self._entries
        self.register(name, entry, replace=True)
        try:
            yield entry
        finally:
            del self._entries[name], self._origins[name]
            if was_there:
                self._entries[name], self._origins[name] = before, origin  # type: ignore[assignment]

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Take back, at the end of a `with` block, whatever was added or replaced in it."""
        entries, origins = dict(self._entries), dict(self._origins)
        try:
            yield
        finally:
            self._entries, self._origins = entries, origins


@dataclass
class _State:
    """What this process has loaded."""

    done: bool = False
    loading: Plugin | None = None
    asked: str = ""


_REGISTRIES: list[Registry[Any]] = []
_PLUGINS: dict[str, Plugin] = {}
_STATE = _State()
_LOCK = threading.RLock()


def near_name(name: object, known: Iterable[str]) -> str:
    """Return ` Did you mean ...?` with the name that is nearest; empty if none is near."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean `{close[0]}`?" if close else ""


def resolved(reference: Any) -> Any:
    """Return a thing that is given as itself, or as `module:name`, which is imported now.

    Tables that must load quickly name what is behind their entries in this way.
    """
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def _registering() -> Plugin | None:
    """Return the plugin whose code adds a name; None where it is code of ours that a plugin imports first."""
    frame = sys._getframe(1) if _STATE.loading is not None else None
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            return None if package == "qhybrid" else _STATE.loading
        frame = frame.f_back
    return _STATE.loading


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
        if _STATE.loading is None:
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
    tables = [(registry, dict(registry._entries), dict(registry._origins)) for registry in _REGISTRIES]
    try:
        name_plugins([str(one) for one in modules])
        yield
    finally:
        for module in _PLUGINS.keys() - before:
            _forget(_PLUGINS.pop(module))
            sys.modules.pop(Path(module).stem if module.endswith(".py") else module, None)
        for registry, entries, origins in tables:  # those that were replaced
            registry._entries.update(entries)
            registry._origins.update(origins)
        os.environ[VARIABLE], _STATE.asked = variable, asked


def named_plugins() -> list[str]:
    """Return the modules and .py files that QHYBRID_PLUGINS names."""
    return _listed(os.environ.get(VARIABLE, ""))


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


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
    known = {registry.kind: registry.names() for registry in _REGISTRIES}
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
        for registry in _REGISTRIES
    }
    return {kind: names for kind, names in added.items() if names}


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


def _import(plugin: Plugin, load: Any) -> Any:
    _STATE.loading = plugin
    try:
        loaded = load()
        _PLUGINS[plugin.module] = plugin
        return loaded
    except BaseException:
        _forget(plugin)
        raise
    finally:
        _STATE.loading = None


def _forget(plugin: Plugin) -> None:
    """Take back what a plugin added before it failed."""
    for registry in _REGISTRIES:
        for name in [name for name, owner in registry._origins.items() if owner == plugin]:
            del registry._entries[name], registry._origins[name]


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
    for registry in _REGISTRIES:
        for name, owner in registry._origins.items():
            if owner == plugin:
                registry._origins[name] = named
