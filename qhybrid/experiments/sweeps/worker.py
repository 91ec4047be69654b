"""What workers do: evaluate one cell, or train one run; plain values in, plain values out."""

from __future__ import annotations

import datetime
import functools
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from qhybrid.config import Recipe
from qhybrid.errors import QHybridError
from qhybrid.evaluation.subject.load import load_subject
from qhybrid.evaluation.subject.subject import Outcome, Subject
from qhybrid.experiments.sweeps.arrays import pack
from qhybrid.experiments.sweeps.cells import TRAINED, Conditions
from qhybrid.experiments.sweeps.engines import cell_engine
from qhybrid.noise import NoiseProfile
from qhybrid.training import train
from qhybrid.training.provenance import environment
from qhybrid.training.run_folder import RECIPE
from qhybrid.workspace import write_text

SUBJECTS_KEPT = 3
TRAINED_MARK = "sweep.done"
"""File in the folder of a run that a sweep has trained to its end."""


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Do a job; errors come back as text, so that one failed job does not stop the others.

    Args:
        job: From `Cell.job` or `training_job`.

    Returns:
        `{"key", "result"}`, or `{"key", "error", "details"}`.
    """
    work: Callable[[dict[str, Any]], dict[str, Any]] = _train if "recipe" in job else _evaluate
    try:
        return {"key": job["key"], "result": work(job)}
    except QHybridError as error:
        return {"key": job["key"], "error": str(error), "details": type(error).__name__}
    except Exception as error:  # whatever goes wrong in one cell is reported with it
        name = type(error).__name__
        return {"key": job["key"], "error": f"{name}: {error}", "details": traceback.format_exc()}


def training_job(key: str, recipe: Recipe, folder: str, data_root: str) -> dict[str, Any]:
    """Return the job of training a run."""
    content = recipe.model_dump(mode="json")
    return {"key": key, "recipe": content, "folder": folder, "data_root": data_root}


@functools.lru_cache(maxsize=SUBJECTS_KEPT)
def loaded_subject(folder: str, which: str, split: str, samples: int | None, data_root: str) -> Subject:
    """Return a run with its test set, loaded once in a process."""
    return load_subject(folder, which, split, samples, data_root)


@functools.lru_cache(maxsize=1)
def _environment() -> dict[str, Any]:
    return environment(0)


def _evaluate(job: dict[str, Any]) -> dict[str, Any]:
    settings = job["settings"]
    subject = loaded_subject(
        job["folder"], settings["which"], settings["split"], settings["samples"], settings["data_root"]
    )
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
    outcome = subject.evaluate()
    return {
        **_plain(outcome),
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - worked,
        "made_with": provenance(),
    }


def provenance() -> dict[str, Any]:
    """Return versions, git state and machine of this process."""
    found = _environment()
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {
        "created": created,
        **{key: found[key] for key in ("qhybrid", "python", "platform", "packages", "git")},
    }


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "metrics": outcome.metrics,
        "confusion": outcome.confusion.tolist(),
        "count": outcome.count,
        "shown": [pack(prediction) for prediction in outcome.shown],
    }


def _train(job: dict[str, Any]) -> dict[str, Any]:
    folder = Path(job["folder"])
    started = time.perf_counter()
    threads = torch.get_num_threads()
    try:
        recipe = Recipe.model_validate(job["recipe"])
        train(recipe, Path(job["data_root"]), folder, resume=(folder / RECIPE).is_file())
    finally:
        torch.set_num_threads(threads)
    write_text(folder / TRAINED_MARK, f"{job['key']}\n")
    return {"folder": str(folder), "seconds": time.perf_counter() - started}
