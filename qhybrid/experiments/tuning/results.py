"""What a search leaves: a table of all trials, the best recipe of each model, a picture."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from qhybrid.config import Recipe, to_yaml
from qhybrid.data.figures import save_figure
from qhybrid.errors import CheckpointError
from qhybrid.experiments.tuning.candidates import trial_recipe
from qhybrid.training.pictures import LINE_COLORS
from qhybrid.workspace import write_text

RESULT, TABLE, PICTURE, TRIALS = "trial.json", "trials.csv", "trials.png", "trials"
_PANELS = 4
"""Parameters that get a panel of the picture."""
_MARKS = (("o", 44, "-"), ("s", 18, "--"), ("^", 60, ":"), ("D", 12, "-."))
"""Shape and size of the points, and style of the line, of each model."""


@dataclass(frozen=True)
class TrialRow:
    """One trial.

    Attributes:
        model: Label of the model.
        trial: Number of the trial, from 1.
        state: `complete`, `failed`, or `unfinished` (interrupted; the same command goes on with it).
        metric: Name of the validation metric.
        value: Its value; None if there is none.
        seconds: Time of training.
        parameters: Values of the tuned recipe keys.
        folder: The run folder.
        error: Why it failed.
    """

    model: str
    trial: int
    state: str
    metric: str | None
    value: float | None
    seconds: float | None
    parameters: dict[str, Any]
    folder: Path
    error: str | None

    @classmethod
    def of(cls, model: str, trial: int, result: Mapping[str, Any], folder: Path) -> TrialRow:
        """Make the row of a result, or of a trial that has only its parameters."""
        value = result.get("value")
        ended = "seconds" in result
        return cls(
            model,
            trial,
            "unfinished" if not ended else "failed" if value is None else "complete",
            result.get("metric"),
            value,
            result.get("seconds"),
            dict(result["parameters"]),
            folder,
            result.get("error"),
        )


def trial_folder(output: Path, model: str, trial: int) -> Path:
    """Return the run folder of a trial."""
    return output / TRIALS / model / f"{trial:03d}"


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the result of a trial; None if it has not ended.

    Raises:
        CheckpointError: If it is damaged.
    """
    file = folder / RESULT
    if not file.is_file():
        return None
    try:
        content = dict(json.loads(file.read_text(encoding="utf-8")))
        if content["value"] is not None and not math.isfinite(content["value"]):
            raise ValueError(f"value {content['value']}")
        return {key: content[key] for key in ("parameters", "value", "metric", "error", "seconds")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file} is damaged: {error!r}. Fix: remove it, and the trial is judged again."
        ) from error


def read_trials(output: Path) -> list[TrialRow]:
    """Return the trials of a search that have ended, from their folders.

    Raises:
        CheckpointError: If a result is damaged.
    """
    files = sorted((output / TRIALS).glob(f"*/*/{RESULT}"))
    found = ((file.parent, read_result(file.parent)) for file in files)
    return [
        TrialRow.of(folder.parent.name, int(folder.name), result, folder)
        for folder, result in found
        if result
    ]


def best_trial(rows: Sequence[TrialRow], model: str) -> TrialRow | None:
    """Return the complete trial of a model with the largest metric, of equal ones the first."""
    complete = [row for row in rows if row.model == model and row.value is not None]
    return max(complete, key=lambda row: row.value or 0.0, default=None)


def write_table(output: Path, rows: Sequence[TrialRow]) -> Path:
    """Write all trials as CSV, and return the file; run folders are relative to it."""
    keys = list(rows[0].parameters) if rows else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("model", "trial", "state", "metric", "value", "seconds", "run", *keys, "error"))
    for row in rows:
        plain = (row.metric or "", *("" if one is None else repr(one) for one in (row.value, row.seconds)))
        values = (_text(row.parameters[key]) for key in keys)
        run = row.folder.relative_to(output).as_posix()
        writer.writerow((row.model, row.trial, row.state, *plain, run, *values, row.error or ""))
    return write_text(output / TABLE, text.getvalue())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def best_file(output: Path, model: str) -> Path:
    """Return where the recipe of a model's best trial is written."""
    return output / f"best_{model}.yaml"


def write_best(output: Path, recipes: Mapping[str, Recipe], rows: Sequence[TrialRow]) -> None:
    """Write the recipe of each model's best trial, ready to be trained and tested."""
    for label, recipe in recipes.items():
        best = best_trial(rows, label)
        if best is None:
            continue
        name = f"{recipe.name}_{label}_tuned" if label != recipe.name else f"{label}_tuned"
        what = f"Trial {best.trial} of a search: {best.metric} {best.value:.4f} on the validation split."
        found = trial_recipe(recipe, best.parameters).model_copy(update={"name": name, "description": what})
        write_text(best_file(output, label), to_yaml(found))


def draw_trials(output: Path, rows: Sequence[TrialRow]) -> Path | None:
    """Draw metric against trial for each model, and against each number that was tuned; None without any."""
    complete = [row for row in rows if row.value is not None]
    if not complete:
        return None
    numbers = [key for key, value in complete[0].parameters.items() if _is_number(value)][:_PANELS]
    figure = Figure(figsize=(4.2 + 2.6 * len(numbers), 3.6), layout="constrained")
    first, *panels = figure.subplots(
        1, 1 + len(numbers), sharey=True, squeeze=False, width_ratios=[1.6, *[1] * len(numbers)]
    )[0]
    models = dict.fromkeys(row.model for row in rows)
    for label, color, (shape, size, dash) in zip(models, LINE_COLORS * len(rows), _MARKS * len(rows)):
        # Outlines of other shapes and sizes: equal values of two models do not hide each other.
        points = {"marker": shape, "s": size, "facecolors": "none", "edgecolors": color}
        own = [row for row in complete if row.model == label]
        best = [max(row.value or 0.0 for row in own[: i + 1]) for i in range(len(own))]
        first.scatter([row.trial for row in own], [row.value for row in own], label=label, **points)
        first.step([row.trial for row in own], best, where="post", color=color, linewidth=1.5, linestyle=dash)
        for axes, key in zip(panels, numbers):
            axes.scatter([row.parameters[key] for row in own], [row.value for row in own], **points)
    first.set(xlabel="trial (line: best so far)", ylabel=f"{complete[0].metric}, validation")
    first.xaxis.set_major_locator(MaxNLocator(integer=True))
    first.legend(frameon=False)
    for axes, key in zip(panels, numbers):
        axes.set_xlabel(key.rpartition(".")[2])
        values = [row.parameters[key] for row in complete]
        if min(values) > 0 and max(values) > 20 * min(values):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())  # numbers between decades would overlap
    return save_figure(figure, output / PICTURE)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
