"""Fake backends of qiskit-ibm-runtime: snapshots of real devices, found by name."""

from __future__ import annotations

import difflib
import functools
import warnings
from importlib.metadata import version
from typing import Any

from qhybrid.devices.device import Device
from qhybrid.errors import ConfigError

NOTES = {"fake_nighthawk": "; by its own words not typical error values"}
"""What has to be known about single snapshots, added to their source."""


@functools.cache
def _classes() -> dict[str, Any]:
    """Return the classes of fake backends by the names of their backends."""
    # Imported when first needed: it takes seconds.
    from qiskit_ibm_runtime import fake_provider

    found = (getattr(fake_provider, name) for name in dir(fake_provider) if name.startswith("Fake"))
    return {
        str(one.backend_name): one for one in found if isinstance(getattr(one, "backend_name", None), str)
    }


def list_devices() -> tuple[str, ...]:
    """Return the names that `load_device` accepts, for example `fake_torino`."""
    return tuple(sorted(_classes()))


def load_device(name: str) -> Device:
    """Load a fake backend.

    Args:
        name: `fake_torino`, or the class name `FakeTorino`.

    Raises:
        ConfigError: If there is no such device; the message names similar ones.
    """
    classes = _classes()
    key = _key(name)
    by_key = {_key(one): one for one in classes}
    by_key |= {_key(one.__name__): backend for backend, one in classes.items()}
    if key not in by_key:
        close = difflib.get_close_matches(key, by_key, n=3, cutoff=0.5)
        similar = ", ".join(dict.fromkeys(by_key[one] for one in close)) or "none; `list_devices()` has all"
        raise ConfigError(
            f"Device {name!r} must be a fake backend, but none has that name. Similar: {similar}."
        )
    backend = classes[by_key[key]]
    with warnings.catch_warnings():
        # What the class says once in a process, NOTES says always.
        warnings.simplefilter("ignore", UserWarning)
        made = backend()
    source = f"{backend.__name__} of qiskit-ibm-runtime {version('qiskit-ibm-runtime')}"
    return Device.from_backend(made, source + NOTES.get(str(made.name), ""))


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").removesuffix("v2")
