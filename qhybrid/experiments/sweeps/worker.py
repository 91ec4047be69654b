"""What workers do: evaluate one cell, measure a finished one, or train one run; plain values in and out."""

from __future__ import annotations

import datetime
import functools
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qhybrid.config import Recipe
from qhybrid.errors import DataError, QHybridError
from qhybrid.evaluation.measuring import Measured, Tally
from qhybrid.evaluation.subject.load import load_subject
from qhybrid.evaluation.subject.results import Evaluation, Options
from qhybrid.evaluation.subject.subject import Subject, weights_hash
from qhybrid.experiments.sweeps.arrays import pack
from qhybrid.experiments.sweeps.cells import REPLICATES, TRAINED, Cell, Conditions
from qhybrid.experiments.sweeps.engines import cell_engine
from qhybrid.metrics import METRICS
from qhybrid.noise import NoiseProfile
from qhybrid.plugins import VARIABLE, loaded_plugins
from qhybrid.training.data_record import training_identity
from qhybrid.training.metrics import SegmentationMetrics
from qhybrid.training.provenance import environment
from qhybrid.training.run_folder import RECIPE, Which
from qhybrid.workspace import write_text

SUBJECTS_KEPT = 3
PREDICTIONS = "predictions"
FAILED = "failed_metrics"
TRAINED_MARK = "sweep.done"
"""File in the folder of a run that a sweep has trained to its end."""


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job; errors come back as text, so that one failed job does not stop the others.

    Args:
        job: From `Cell.job`, `measuring_job` or `training_job`.

    Returns:
        `{"key", "result"}`, or `{"key", "error", "details"}`.
    """
    work: Callable[[dict[str, Any]], dict[str, Any]] = _evaluate
    if "recipe" in job:
        work = _train
    elif "metrics" in job:
        work = _measure
    try:
        return {"key": job["key"], "result": work(job)}
    except QHybridError as error:
        return {"key": job["key"], "error": str(error), "details": type(error).__name__}
    except Exception as error:  # whatever goes wrong in one cell is reported with it
        name = type(error).__name__
        return {"key": job["key"], "error": f"{name}: {error}", "details": traceback.format_exc()}


def training_job(
    key: str, recipe: Recipe, folder: str, data_root: str, data_hash: str | None, split: str
) -> dict[str, Any]:
    """Return the job of training a run.

    Args:
        key: Its key.
        recipe: Its recipe.
        folder: Its run folder.
        data_root: Folder that `data.root` is relative to.
        data_hash: Identity of the data that the key stands for; None if it cannot be told.
        split: The split that its cells will be evaluated on.
    """
    content = recipe.model_dump(mode="json")
    job = {"key": key, "recipe": content, "folder": folder, "data_root": data_root}
    return {**job, "data_hash": data_hash, "split": split}


@functools.lru_cache(maxsize=SUBJECTS_KEPT)
def loaded_subject(
    folder: str, which: Which, split: str, samples: int | None, data_root: str, _sweep: str = ""
) -> Subject:
    """Return a run with its test set, loaded once in a process and sweep.

    Args:
        folder: The run folder.
        which: Weights of the `best` or of the `last` epoch.
        split: The split.
        samples: Images or scenes at most.
        data_root: Folder that the recipe's `data.root` is relative to.
        _sweep: Tells the calls of `run_sweep` apart: before the next one weights and data may change.
    """
    return load_subject(folder, which, split, samples, data_root)


@functools.lru_cache(maxsize=1)
def _environment() -> dict[str, Any]:
    return environment(0)


def _evaluate(job: dict[str, Any]) -> dict[str, Any]:
    settings, subject = job["settings"], _subject_of(job)
    content = dict(job["conditions"])
    content["layers"] = "all" if content["layers"] == "all" else tuple(content["layers"])
    conditions = Conditions(**content)
    started, worked = time.perf_counter(), time.process_time()
    if conditions.engine == TRAINED:
        subject.use_own()
    else:
        noise = None if job["noise"] is None else NoiseProfile.model_validate(job["noise"])
        layers = None if conditions.layers == "all" else list(conditions.layers)
        subject.use(cell_engine(conditions, noise, settings, job["weights"]), layers)
    outcome = subject.evaluate(Options(keep=True))
    _check_content(job, subject)
    return {
        **_plain(outcome),
        PREDICTIONS: outcome.predictions,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - worked,
        "made_with": provenance(),
    }


def provenance() -> dict[str, Any]:
    """Return versions, plugins, git state and machine of this process."""
    found = _environment()
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    kept = ("qhybrid", "python", "platform", "packages", "git")
    plugins = loaded_plugins()  # a script may have loaded one since the last cell
    return {
        "created": created,
        **{key: found[key] for key in kept},
        **({"plugins": plugins} if plugins else {}),
    }


def _plain(outcome: Evaluation) -> dict[str, Any]:
    return {
        **_plain_metrics(outcome.measured),
        "confusion": outcome.counts.matrix.tolist(),
        "count": outcome.count,
        "shown": [pack(prediction) for prediction in outcome.shown],
        **_replicates(outcome),
        **({"places": list(outcome.places)} if outcome.places else {}),
    }


def _replicates(outcome: Evaluation) -> dict[str, Any]:
    """Return the headline metric without each unit of the test set, by which cells are compared in pairs."""
    headline = next(iter(outcome.metrics), "")
    kept = {} if outcome.intervals is None else outcome.intervals.replicates
    return {REPLICATES: {headline: pack(kept[headline])}} if headline in kept else {}


def _plain_metrics(measured: Measured) -> dict[str, Any]:
    return {"metrics": measured.values, "measured": measured.versions, FAILED: measured.failed}


def _subject_of(job: dict[str, Any]) -> Subject:
    settings = job["settings"]
    chosen = (settings[key] for key in ("which", "split", "samples", "data_root"))
    return loaded_subject(job["folder"], *chosen, settings.get("sweep", ""))


def _check_content(job: dict[str, Any], subject: Subject) -> None:
    """Check that a cell is computed with the weights and the data that its key is made of.

    Raises:
        DataError: If a file has changed since the sweep was started, or is another one on this machine.
    """
    expected = job.get("data_hash")
    if expected is not None and subject.identify().hash != expected:
        raise DataError(
            f"{job['folder']}: images and masks must stay as they are while a sweep runs, but those of split "
            f"{job['settings']['split']} below {job['settings']['data_root']} have changed, or are others on "
            "this machine. Fix: run the sweep again."
        )
    weights = job.get("weights")
    if weights is not None and weights_hash(subject.folder, subject.which) != weights:
        raise DataError(
            f"{job['folder']}: weights must stay as they are while a sweep runs, but have changed. Fix: run "
            "the sweep again."
        )


def measuring_job(
    cell: Cell,
    settings: dict[str, Any],
    metrics: Sequence[str],
    confusion: list[list[int]],
    file: Path | None,
) -> dict[str, Any]:
    """Return the job of computing metrics of a finished cell from what was kept of it.

    Args:
        cell: The cell.
        settings: What holds for all cells.
        metrics: Keys of the metrics.
        confusion: The cell's confusion matrix.
        file: The predictions that were kept; None if there are none.
    """
    kept = None if file is None else str(file)
    return {**cell.job(settings), "metrics": list(metrics), "confusion": confusion, PREDICTIONS: kept}


def _measure(job: dict[str, Any]) -> dict[str, Any]:
    """Compute metrics of a finished cell; no engine is used."""
    subject = _subject_of(job)
    known = [METRICS.get(key) for key in job["metrics"] if key in METRICS]
    counts = SegmentationMetrics(np.array(job["confusion"], dtype=np.int64), subject.class_names)
    file = None if job[PREDICTIONS] is None else Path(job[PREDICTIONS])
    _check_content(job, subject)
    measured = subject.measure_kept(file, counts, Tally(known))
    for key in job["metrics"]:
        if key not in METRICS:
            measured.failed[key] = (
                f"Metric `{key}` is not known to the worker process. Fix: put it into a module, and name "
                f"that in --plugin or {VARIABLE}; a script alone is not seen by workers."
            )
    return _plain_metrics(measured)


def _train(job: dict[str, Any]) -> dict[str, Any]:
    # Imported here: Lightning takes seconds, which cells and reports do without.
    from qhybrid.training import train

    folder = Path(job["folder"])
    started = time.perf_counter()
    threads = torch.get_num_threads()
    try:
        recipe = Recipe.model_validate(job["recipe"])
        # A test split that the cells need must be usable now, not when all runs are trained.
        test = True if job["split"] == "test" else None
        train(recipe, Path(job["data_root"]), folder, resume=(folder / RECIPE).is_file(), test=test)
    finally:
        torch.set_num_threads(threads)
    expected, root = job["data_hash"], Path(job["data_root"])
    if expected is not None and training_identity(recipe.data, root).hash != expected:
        raise DataError(
            f"{folder}: training data must stay as they are while a sweep runs, but have changed. Fix: run "
            "the sweep again."
        )
    write_text(folder / TRAINED_MARK, f"{job['key']}\n")
    return {"folder": str(folder), "seconds": time.perf_counter() - started}
