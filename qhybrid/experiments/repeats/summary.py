"""Mean and standard deviation over repeated runs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qhybrid.config import Recipe
from qhybrid.data.images.image_datasets import dataset_folds, open_image_dataset
from qhybrid.errors import CheckpointError, ConfigError
from qhybrid.experiments.repeats.run import Outcome, result_file
from qhybrid.experiments.repeats.schedule import RepeatSchedule
from qhybrid.metrics import metrics_in
from qhybrid.training.run_folder import METRICS, read_recipe
from qhybrid.workspace import write_text


def summarise(schedule: RepeatSchedule, outcomes: Sequence[Outcome], output: Path) -> dict[str, Any]:
    """Collect the test metrics of finished runs into summary.json and summary.csv.

    Args:
        schedule: What was repeated.
        outcomes: How the runs ended.
        output: Folder of the runs.

    Returns:
        The content of summary.json: name, model section, data, training and engine; `runs`, one mapping a
        run; `metrics`, by name: `mean` and `std` (sample standard deviation) over the `count` finished runs,
        and where there are folds `std_over_seeds`, that of the means over the folds of each complete seed;
        `test_error`, the mean's standard error that comes from the finite test set, where all runs know it.
    """
    rows = [_row(schedule, outcome) for outcome in outcomes]
    finished = [row for row in rows if row["error"] is None]
    names = list(dict.fromkeys(name for row in finished for name in row["metrics"]))
    folded = any(row["fold"] is not None for row in rows)
    metrics = {}
    for name in names:
        values = [row["metrics"].get(name) for row in finished]
        known = sum(value is not None for value in values)
        metrics[name] = {**_spread(values), "count": known}
        if (error := _test_error(rows, name)) is not None:
            metrics[name]["test_error"] = error
        if folded:
            metrics[name]["std_over_seeds"] = _spread(_seed_means(rows, name))["std"]
    content = {"name": schedule.recipe.name, "model": schedule.recipe.model, **_common(schedule.recipe)}
    content["training"]["precision"] = _precision(schedule, outcomes)
    content |= {"metrics": metrics, "runs": rows}
    write_text(output / "summary.csv", _csv(rows, names))
    write_text(output / "summary.json", json.dumps(content, indent=2, allow_nan=False) + "\n")
    return content


def _common(recipe: Recipe) -> dict[str, Any]:
    """Return what a comparison has to know: data without the fold, training, engine, shares of folds."""
    data = recipe.data.model_dump(mode="json", exclude={"augmentation", "workers", "cache_mb"})
    data["options"].pop("fold", None)
    data.pop("fold", None)
    training = recipe.training.model_dump(mode="json", exclude={"progress", "loggers", "threads"})
    training["augmentation"] = recipe.data.augmentation.model_dump(mode="json")
    engine = recipe.engine.model_dump(mode="json")
    return {"data": data, "training": training, "engine": engine, "test_to_train": _test_to_train(recipe)}


def _precision(schedule: RepeatSchedule, outcomes: Sequence[Outcome]) -> str:
    """Return the number format that all runs note; a schedule may leave it open."""
    noted = set()
    for outcome in outcomes:
        with contextlib.suppress(CheckpointError, ConfigError):
            noted.add(read_recipe(outcome.folder).training.precision)
    return noted.pop() if len(noted) == 1 else schedule.recipe.training.precision


def _test_to_train(recipe: Recipe) -> float | None:
    """Return how many test images there are to one training image where there are folds."""
    if recipe.data.folds is not None:
        return 1 / (recipe.data.folds - 2)  # one fold is the validation split
    if not dataset_folds(recipe.data.dataset):
        return None
    dataset = open_image_dataset(recipe.data, Path())
    held_out = float(dataset.options.validation)
    return 1 / ((len(dataset.folds) - 1) * (1 - held_out))


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }


def _seed_means(rows: Sequence[dict[str, Any]], name: str) -> list[float]:
    """Return the mean over the folds of every seed whose runs are all finished."""
    means = []
    for seed in dict.fromkeys(row["seed"] for row in rows):
        runs = [row for row in rows if row["seed"] == seed]
        values = [row["metrics"].get(name) for row in runs]
        if all(value is not None for value in values):
            means.append(statistics.fmean(values))
    return means


def _test_error(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    """Return the standard error of a metric's mean that comes from the finite test set; None if not known.

    Runs of one fold are judged on the same images: they have one error together, the root mean square of
    theirs, which is at least that of their mean. Folds are other images: their errors add up in squares.
    """
    by_fold: dict[Any, list[float]] = {}
    for row in rows:
        if row["error"] is None and row["metrics"].get(name) is not None:
            error = row.get("test_errors", {}).get(name)
            if error is None:
                return None
            by_fold.setdefault(row["fold"], []).append(error)
    squares = [statistics.fmean(error**2 for error in errors) for errors in by_fold.values()]
    return math.sqrt(sum(squares)) / len(squares) if squares else None


def _row(schedule: RepeatSchedule, outcome: Outcome) -> dict[str, Any]:
    run = outcome.repetition
    row: dict[str, Any] = {"run": run.name, "seed": run.seed, "fold": run.fold, "error": outcome.error}
    if outcome.error is not None:
        return {**row, "metrics": {}}
    found = json.loads(result_file(outcome.folder, schedule.recipe).read_text(encoding="utf-8"))
    epochs, seconds = _epochs(outcome.folder / METRICS)
    return {
        **row,
        # Numbers of single classes are in each run's own files.
        "metrics": {name: value for name, value in metrics_in(found).items() if " " not in name},
        "epoch": found["epoch"],
        "epochs": epochs,
        "epoch_seconds": seconds,
        "parameters": found.get("parameters"),
        "data_hash": found.get("data_hash"),
        **_errors(found),
    }


def _errors(found: dict[str, Any]) -> dict[str, Any]:
    """Return the test set's own standard error of each metric, where the evaluation knows it."""
    intervals = (found.get("intervals") or {}).get("metrics", {})
    errors = {name: one["standard_error"] for name, one in intervals.items() if " " not in name}
    return {"test_errors": errors} if errors else {}


def _epochs(table: Path) -> tuple[int, float | None]:
    """Return the number of epochs and the median of their seconds."""
    with table.open(newline="", encoding="utf-8") as handle:
        seconds = [float(row["epoch_seconds"]) for row in csv.DictReader(handle)]
    known = [value for value in seconds if math.isfinite(value)]
    return len(seconds), statistics.median(known) if known else None


def _csv(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    text = io.StringIO()
    columns = ["run", "seed", "fold", *names, "epoch", "epochs", "epoch_seconds", "parameters", "error"]
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, **row["metrics"], "error": row["error"] or ""} for row in rows)
    return text.getvalue()
