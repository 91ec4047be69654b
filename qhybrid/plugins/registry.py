"""One kind of thing by name: ours, and those that plugins add."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any, Generic, TypeVar

from qhybrid.errors import ConfigError, PluginError, QHybridError

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
    """

    def __init__(self, kind: str, error: type[QHybridError] = ConfigError) -> None:
        self.kind = kind
        self._error = error
        self._entries: dict[str, T] = {}
        self._origins: dict[str, Plugin | None] = {}
        REGISTRIES.append(self)

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
        _LOAD[-1]()
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
        _LOAD[-1]()
        return tuple(sorted(self._entries))

    def items(self) -> tuple[tuple[str, T], ...]:
        """Return names and things in the order in which they were added."""
        _LOAD[-1]()
        return tuple(self._entries.items())

    def origin(self, name: str) -> Plugin | None:
        """Return the plugin that added a thing; None for our own and for those of scripts."""
        return self._origins.get(name)

    def __contains__(self, name: object) -> bool:
        _LOAD[-1]()
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


REGISTRIES: list[Registry[Any]] = []
_LOADING: list[Plugin] = []
_LOAD: list[Callable[[], object]] = [lambda: None]


def near_name(name: object, known: Iterable[str]) -> str:
    """Return ` Did you mean ...?` with the name that is nearest; empty if none is near."""
    close = difflib.get_close_matches(str(name), list(known), n=1)
    return f" Did you mean `{close[0]}`?" if close else ""


def _registering() -> Plugin | None:
    """Return the plugin whose code adds a name; None where it is code of ours that a plugin imports first."""
    if not _LOADING:
        return None
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            return None if package == "qhybrid" else _LOADING[-1]
        frame = frame.f_back
    return _LOADING[-1]


@contextmanager
def names_of(plugin: Plugin) -> Iterator[None]:
    """Note a plugin as the origin of all names that are added in a `with` block."""
    _LOADING.append(plugin)
    try:
        yield
    finally:
        _LOADING.pop()


def load_before_look_up(load: Callable[[], object]) -> None:
    """Have a function called before each look-up: the one that imports plugins."""
    _LOAD.append(load)
