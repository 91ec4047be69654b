"""Names as readers see them."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
OUTDATED = "outdated"
"""Key that the report adds to what it has read of an evaluation of weights that are no longer there."""


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


def time_label(seconds: float) -> str:
    """Return the duration of a training, in seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


SPLITS = {"train": "training split", "val": "validation split", "test": "test split"}


def evaluation_label(folder: str, found: Mapping[str, Any]) -> str:
    """Return an evaluation in words, as in `test split, Aer, noise fake_torino, 1024 shots`.

    Args:
        folder: Name of its folder, which counts where the file does not say.
        found: Its metrics.json.
    """
    split = found.get("split")
    if split is None:
        first, _, rest = folder.partition("-")
        return ", ".join(part for part in (SPLITS.get(first, first), engine_words(rest, {})) if part)
    words = [SPLITS.get(str(split), str(split))]
    if found.get("on"):
        words.insert(0, f"other data: {found['on']}")
    engine = found.get("engine")
    if isinstance(engine, Mapping):
        words += _conditions(engine)
    if found.get("which") == "last" and folder.endswith("-last"):
        words.append("weights of the last epoch")
    if found.get(OUTDATED):
        words.append(f"weights of epoch {found['epoch']}, which are no longer there")
    reading = found.get("read_as") or {}
    if "bands" in reading:
        words.append(f"bands read as {', '.join(map(str, reading['bands']))}")
    if "scale" in reading:
        words.append(f"numbers times {reading['scale']:.6g}")
    if "resolution" in reading:
        words.append(f"resampled to {reading['resolution']:.6g} m")
    return ", ".join(words)


def _conditions(engine: Mapping[str, Any]) -> list[str]:
    """Return what circuits were executed with, part by part."""
    options = engine.get("options") or {}
    words = [engine_words(str(engine["kind"]), options)]
    noise, backend = engine.get("noise"), options.get("backend")
    if noise is not None:
        name = profile_label(str(noise))
        words.append("its noise" if name == backend else f"noise {name}")
    if engine.get("shots") is not None:
        words.append(f"{int(engine['shots'])} shots")
    if engine.get("layers"):
        words.append(f"in {', '.join(engine['layers'])} alone")
    return words


def engine_words(kind: str, options: Mapping[str, Any]) -> str:
    """Return an engine with the options that tell it from others, in words."""
    label = "exact simulation" if kind == "exact" else engine_label(kind)
    more = str(options.get("method") or "").replace("_", " ")
    backend = options.get("backend")
    inner = options.get("engine", "exact")
    words = [label, *([more] if more and more != "auto" else []), *([f"to {backend}"] if backend else [])]
    return " ".join(words) + (f" ({engine_label(str(inner))})" if inner != "exact" else "")


OVER_RUNS = "values: seeds of all runs together; errors are those over runs"
"""What is said below a table with the columns `runs` and `values`."""


def repeats(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return the columns that say what the means in a sweep's table are over, row by row.

    Of single runs these are `seeds`. Of several, `seeds` in results.parquet counts the seeds of all of them.

    Args:
        table: Rows of results.parquet; those of earlier versions do not say how many runs there were.
    """
    values = [str(row) for row in table["seeds"]]
    if "runs" not in table or not (table["runs"] > 1).any():
        return {"seeds": values}
    return {"runs": [str(row) for row in table["runs"]], "values": values}


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in `1 sample` and `2 samples`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def samples_said(number: int, data: Mapping[str, Any]) -> str:
    """Return a hardware plan's samples in words, as in `64 samples` or `2 windows, not blended`.

    Evaluations blend the windows of scenes, so that their metrics are other numbers than a plan's.

    Args:
        number: How many there are.
        data: What a plan notes of its data, or metrics.json of its results: only scenes have an `input`.
    """
    return (
        counted(number, "sample")
        if data.get("input") is None
        else f"{counted(number, 'window')}, not blended"
    )


def short_hash(text: str) -> str:
    """Return the beginning of a hash."""
    return text[:12]
