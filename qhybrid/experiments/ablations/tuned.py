"""Equal budgets: as many settings are tried for each arm, drawn from one space and judged by validation."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qhybrid.cluster import Answer, Job, run_jobs
from qhybrid.config import Recipe, validated
from qhybrid.config.tuning import TuneSpace
from qhybrid.errors import QHybridError
from qhybrid.experiments.repeats.processes import in_processes
from qhybrid.experiments.tuning import TrialRow, read_trials, tune
from qhybrid.experiments.tuning.candidates import trial_recipe
from qhybrid.experiments.tuning.results import best_trial
from qhybrid.workspace import write_text

TUNE_FOLDER = "tune"
ERROR = "error.txt"


@dataclass(frozen=True)
class TunedArm:
    """What a search has found for one arm.

    Attributes:
        recipe: The recipe with the best values; None if there are none.
        parameters: The best values; None without a search.
        trials: What became of all trials.
        error: Why there is no recipe.
    """

    recipe: Recipe | None
    parameters: dict[str, Any] | None = None
    trials: Sequence[dict[str, Any]] = ()
    error: str | None = None


def tune_arms(
    recipes: Mapping[str, Recipe],
    space: TuneSpace,
    data_root: Path,
    output: Path,
    trials: int,
    seed: int,
    jobs: int,
    report: Callable[[str, int, int], None],
    *,
    scheduler: str | None = None,
) -> dict[str, TunedArm]:
    """Search for the best setting of each arm; without trials the recipes stay as they are.

    The first settings are the same for all arms; each search then follows its own results.

    Args:
        recipes: Recipes by arm.
        space: Recipe keys and the distributions of their values.
        data_root: Folder that `data.root` is relative to.
        output: Folder of the ablation.
        trials: Settings that are tried for each arm.
        seed: Of what is drawn.
        jobs: Searches at the same time.
        report: Called after each search, or after each trial where there is one search at a time.
        scheduler: Dask cluster whose workers do a search each instead.

    Raises:
        QHybridError: If a search is not possible, such as without a validation split.
    """
    if not trials:
        return {label: TunedArm(recipe) for label, recipe in recipes.items()}
    if jobs == 1 and scheduler is None:
        _one_by_one(recipes, space, data_root, output, trials, seed, report)
    else:
        labels = list(recipes)
        calls = [
            (recipes[label].model_dump(mode="json"), space.model_dump(mode="json"), data_root.absolute())
            + (output.absolute() / TUNE_FOLDER / label, label, trials, seed)
            for label in labels
        ]
        ended = in_processes(_search, calls, jobs) if scheduler is None else _on_cluster(calls, scheduler)
        for done, (number, code) in enumerate(ended, 1):
            error = _error(output / TUNE_FOLDER / labels[number], code)
            report(f"{labels[number]}: {error or 'tuned'}", done, len(labels))
    return {label: _found(label, recipe, output, trials) for label, recipe in recipes.items()}


def _on_cluster(calls: Sequence[tuple[Any, ...]], scheduler: str) -> Iterator[tuple[int, int]]:
    """Yield number and exit code of searches as they end, each done by a worker of a cluster."""
    jobs = [{"key": f"search-{number}", "call": call} for number, call in enumerate(calls)]
    for answer in run_jobs(jobs, _search_job, scheduler=scheduler):
        yield int(answer["key"].removeprefix("search-")), int("error" in answer)


def _search_job(job: Job) -> Answer:
    _search(*job["call"])
    return {"key": job["key"]}


def tuned_before(label: str, recipe: Recipe, output: Path, trials: int) -> TunedArm:
    """Return what the search of an earlier call has found for an arm; see `tune_arms`."""
    return _found(label, recipe, output, trials) if trials else TunedArm(recipe)


def _one_by_one(
    recipes: Mapping[str, Recipe],
    space: TuneSpace,
    data_root: Path,
    output: Path,
    trials: int,
    seed: int,
    report: Callable[[str, int, int], None],
) -> None:
    done, total = 0, trials * len(recipes)

    def tell(row: TrialRow) -> None:
        nonlocal done
        done += 1
        found = f"{row.metric} {row.value:.4f}" if row.value is not None else f"FAILED: {row.error}"
        report(f"{row.model}, trial {row.trial}: {found}", done, total)

    for label, recipe in recipes.items():
        folder = output / TUNE_FOLDER / label
        done += sum(row.state != "unfinished" for row in read_trials(folder))
        tune({label: recipe}, space, data_root, folder, trials=trials, seed=seed, report=tell)


def _search(
    recipe: dict[str, Any],
    space: dict[str, Any],
    data_root: Path,
    folder: Path,
    label: str,
    trials: int,
    seed: int,
) -> None:
    """Search for one arm, in a process of its own."""
    (folder / ERROR).unlink(missing_ok=True)
    quiet = {**recipe, "training": {**recipe["training"], "progress": False}}
    try:
        tune(
            {label: validated(Recipe, quiet, label)},
            validated(TuneSpace, space, label),
            data_root,
            folder,
            trials=trials,
            seed=seed,
        )
    except QHybridError as error:
        write_text(folder / ERROR, f"{error}\n")
    except Exception:
        # A defect in one search must not cost the others; its trace is kept beside its trials.
        write_text(folder / ERROR, traceback.format_exc())


def _error(folder: Path, code: int | None) -> str:
    """Return why a search has not ended well; empty if it has."""
    if (folder / ERROR).is_file():
        return (folder / ERROR).read_text(encoding="utf-8").strip().splitlines()[-1]
    return "" if code == 0 else f"its process ended with code {code}"


def _found(label: str, recipe: Recipe, output: Path, trials: int) -> TunedArm:
    folder = output / TUNE_FOLDER / label
    rows = [row for row in read_trials(folder) if row.trial <= trials]
    kept = [
        {
            "trial": row.trial,
            "value": row.value,
            "metric": row.metric,
            "parameters": row.parameters,
            "error": row.error,
        }
        for row in rows
    ]
    if len(rows) < trials:
        missing = f"{trials - len(rows)} of {trials} trials did not end. {_error(folder, 0)}".strip()
        return TunedArm(None, None, kept, missing)
    best = best_trial(rows, label)
    if best is None:
        return TunedArm(None, None, kept, f"None of {trials} trials has a result.")
    return TunedArm(trial_recipe(recipe, best.parameters), best.parameters, kept)
