"""Names as readers see them."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from qhybrid.engine_kinds import engine_label
from qhybrid.experiments.sweeps.cells import TRAINED
from qhybrid.experiments.sweeps.profiles import ALL_TO_ALL
from qhybrid.mitigations import NONE
from qhybrid.noise.library import profile_label

IN_AXES = ("engine.noise", "engine.shots")
"""Settings of a training that are the conditions of cells which run as trained."""
LAYERS = "engine.layers"


def executed_by(engine: str) -> str:
    """Return what a cell was executed with: an engine's label, or that of its own training."""
    return "as trained" if engine == TRAINED else engine_label(engine)


def noise_label(row: Any) -> str:
    """Return profile, scale and device of a row of a sweep's table."""
    text = profile_label(str(row["profile"]))
    if row["scale"] != 1:
        text += f" x {row['scale']:g}"
    if row["mapping"] not in (ALL_TO_ALL, row["profile"]):
        text += f" on {row['mapping']}"
    return text


def shots_label(shots: Any) -> str:
    """Return a number of shots; a missing one means infinitely many."""
    return "infinite" if pd.isna(shots) else f"{int(shots):,}"


def settings_label(settings: dict[str, Any], leave_out: tuple[str, ...] = ()) -> str:
    """Return recipe settings as text."""
    shown = {key: value for key, value in settings.items() if key not in leave_out}
    return ", ".join(f"{key.split('.')[-1]} {_value(value)}" for key, value in sorted(shown.items()))


def training_label(settings: dict[str, Any], engine: str) -> str:
    """Return the settings of a training as text, for a cell of a sweep.

    Noise and shots of the training are those of cells that run as trained; others have their own.
    """
    if engine == TRAINED:
        return settings_label(settings, (*IN_AXES, LAYERS))
    text = settings_label(settings, (LAYERS,))
    return f"trained with {text}" if set(IN_AXES) & set(settings) else text


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, dict):
        return ", ".join(_entry(key, one) for key, one in value.items()) or "none"
    return json.dumps(value) if isinstance(value, list) else str(value)


def _entry(key: str, value: Any) -> str:
    """Return an entry of a section: names speak for themselves, and sections have their own entries."""
    said = isinstance(value, dict) or key in ("kind", "backend")
    return _value(value) if said else f"{key} {_value(value)}"


def failure_label(failure: dict[str, Any]) -> str:
    """Return what failed, but for what is usual, and why."""
    usual = {"scale": 1.0, "mitigation": NONE, "mapping": ALL_TO_ALL, "layers": "all"}
    said = {
        name: value
        for name, value in failure["what"].items()
        if value is not None and usual.get(name) != value
    }
    return f"{', '.join(f'{name} {_words(value)}' for name, value in said.items())}: {failure['error']}"


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else _value(value)


def number(value: Any, digits: int = 4) -> str:
    """Return a number of the page; a missing one is a dash."""
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def seconds_label(seconds: float) -> str:
    """Return a duration with two digits or whole seconds."""
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in `1 sample` and `2 samples`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def short_hash(text: str) -> str:
    """Return the beginning of a hash."""
    return text[:12]
