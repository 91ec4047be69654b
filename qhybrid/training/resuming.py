"""What a run that goes on must share with what it was: recipe, model, data, number of processes."""

from __future__ import annotations

import json
from pathlib import Path

from qhybrid.config import Recipe
from qhybrid.errors import ConfigError, DataError, WorkspaceError
from qhybrid.training.data_record import LEARNED, DataRecord, check_unchanged
from qhybrid.training.kept_noise import check_same_noise
from qhybrid.training.preparation import is_new, with_shots_seed
from qhybrid.training.ranks import place
from qhybrid.training.run_folder import (
    ENVIRONMENT,
    META,
    RECIPE,
    RESUME_STATE,
    MetaHead,
    read_meta,
    read_recipe,
)
from qhybrid.training.task import Task


def prepare_folder(recipe: Recipe, output: Path, resume: bool) -> Path | None:
    """Check the run folder and return the state to resume from, if any."""
    if not resume:
        if not is_new(output):
            raise WorkspaceError(
                f"{output} already exists and is not empty. Fix: choose another folder, or resume the run in "
                "it."
            )
        return None
    before = with_shots_seed(read_recipe(output))
    _check_same_run(before, recipe, output)
    state = output / RESUME_STATE
    return state if state.is_file() else None


def _check_same_run(before: Recipe, now: Recipe, output: Path) -> None:
    """A resumed run must compute what the interrupted one would have; only how it is shown may change."""
    shown = {"progress", "loggers"}
    old = before.model_dump(mode="json")
    new = now.model_dump(mode="json")
    different = [
        f"{section}.{key}"
        for section in ("data", "model", "engine", "training")
        for key in old[section].keys() | new[section].keys()
        if old[section].get(key) != new[section].get(key) and key not in shown
    ]
    if before.seed != now.seed:
        different.append("seed")
    if different:
        raise ConfigError(
            f"{output / RECIPE} differs from the given recipe in {', '.join(sorted(different))}. Fix: "
            "resume with the run's own recipe, or start a new run."
        )


def with_kept_model(recipe: Recipe, output: Path, kind: type[MetaHead]) -> Recipe:
    """A resumed run has the model that it began with, whatever circuits/ says by now; and its noise.

    Raises:
        ConfigError: If the noise profile has changed.
    """
    file = output / "last" / META
    if not file.is_file():
        return recipe
    meta = read_meta(file, kind)
    check_same_noise(file, meta.noise, recipe)
    return recipe.model_copy(update={"model": meta.model})


def check_same_data(output: Path, before: DataRecord | None, now: DataRecord, task: Task) -> None:
    """A resumed run must go on with the data that it was begun with.

    Weights were learned with statistics of these data: also where files cannot be compared (runs of earlier
    versions, servers without ETag), they must be those of now.
    """
    if before is not None:
        check_unchanged(output, before, now, LEARNED)
    file = output / "last" / META
    kept = json.loads(file.read_text(encoding="utf-8")).get("statistics", {}) if file.is_file() else {}
    found = task.meta(epoch=1, step=1, metrics={}).model_dump(mode="json").get("statistics", {})
    different = sorted(key for key in kept.keys() & found.keys() if kept[key] != found[key])
    if different:
        raise DataError(
            f"{output}: the training data must be those that the run was begun with, but their statistics "
            f"({', '.join(different)}) differ from those in {file}. Fix: put the data back as they were, or "
            "start a new run."
        )


def check_same_processes(output: Path) -> None:
    """A resumed run must have as many processes: with their number steps and batches change."""
    file = output / ENVIRONMENT
    before = json.loads(file.read_text(encoding="utf-8")).get("processes", 1) if file.is_file() else 1
    if before != place().world:
        raise ConfigError(
            f"{output} was begun by {before} process(es), each with a batch of its own, but this is a "
            f"training by {place().world}: its steps would be others. Fix: start as many (`torchrun "
            f"... -m qhybrid.cli train --resume {output}`), or a new run."
        )
