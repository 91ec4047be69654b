"""`ablate`: tune each arm, train it with each seed and fold, and say what the differences decide.

    settings.json       recipe, margin, metric, tuning: written first, never changed
    tune/ARM/           the search of each arm: all trials
    arms/ARM/           the runs of each arm, a folder of repeated runs each, with its summary
    baselines.json      references without a network
    ablation.json       the result, whole or not at all
    ablation.png        its picture

A killed call goes on with the same command; more seeds, folds and arms may be added later. What was trained
once stays in the result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qhybrid.config import Recipe
from qhybrid.config.numbers import whole_number
from qhybrid.config.tuning import TuneSpace
from qhybrid.errors import ConfigError
from qhybrid.experiments.ablations.arms import PlannedArm, plan_arms, trained_arm
from qhybrid.experiments.ablations.pictures import PICTURE, draw_ablation
from qhybrid.experiments.ablations.references import baselines_of
from qhybrid.experiments.ablations.results import RESULT, ArmRuns, build_result
from qhybrid.experiments.ablations.settings import Settings, keep_settings
from qhybrid.experiments.ablations.tuned import TunedArm, tune_arms, tuned_before
from qhybrid.experiments.repeats.run import (
    Outcome,
    all_outcomes,
    check_same_data,
    is_finished,
    run_schedules,
)
from qhybrid.experiments.repeats.schedule import RepeatSchedule
from qhybrid.experiments.repeats.summary import summarise
from qhybrid.experiments.tuning import default_space
from qhybrid.models.arms import AS_IS
from qhybrid.training.kinds import with_task_defaults
from qhybrid.training.named_parts import named_parts
from qhybrid.training.pictures import lost_pictures_warned
from qhybrid.training.precision import with_resolved_precision
from qhybrid.workspace import SEVERAL_RUNS, data_below, locked, make_folder, write_text

ARMS_FOLDER = "arms"
FINISHED, FINISHED_BEFORE = "finished", "finished before"
"""How a run stands that this call has trained, and one that an earlier call has."""
Report = Callable[[str, int, int], None]
"""Called with what has ended, how much of its kind is done, and how much there is."""


def ablate(
    recipe: Recipe,
    data_root: Path,
    output: Path,
    *,
    arms: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    seeds: Sequence[int] = (),
    folds: Sequence[int] | None = None,
    all_folds: bool = False,
    margin: float | None = None,
    metric: str | None = None,
    trials: int = 0,
    space: TuneSpace | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    report: Report = lambda _what, _done, _total: None,
) -> dict[str, Any]:
    """Retrain a recipe with other things in the place of its circuits, and compare.

    Args:
        recipe: The recipe; its model has quantum layers.
        data_root: Folder that `data.root` is relative to.
        output: Folder of the ablation; one of an earlier call goes on.
        arms: Arms, as in `zero`, or `zero@bottleneck.core` for some layers alone; all that are possible if
            absent. The model as it is always is one.
        layers: Layers that arms without `@` are for; all quantum layers if absent.
        seeds: Seeds; the recipe's own if empty.
        folds: Folds of the data set; absent: as the recipe says.
        all_folds: All folds, instead of `folds`.
        margin: Differences up to it do not matter; what the recipe says if absent.
        metric: What is compared; what the recipe says if absent.
        trials: Settings that are tried for each arm, judged by validation alone; 0: the recipe's own.
        space: Where they are drawn from; `default_space` if absent.
        jobs: Runs at the same time, each in a process of its own.
        scheduler: Dask cluster whose workers do the runs and searches instead.
        report: Called after each search and each run.

    Returns:
        The content of ablation.json.

    Raises:
        ConfigError: If the model has no quantum layers, an arm is not possible, or the folder is of an
            ablation that was stated otherwise.
        QHybridError: See `qhybrid.experiments.repeats.run.run_schedules`.
    """
    if recipe.training.start is not None:
        raise ConfigError(
            "Key `training.start` must be left out of an ablation, which trains every arm from new weights. "
            "Fix: leave it out."
        )
    trials = whole_number("trials", trials)
    with data_below(data_root):
        plain = with_resolved_precision(with_task_defaults(recipe))
        planned, impossible = plan_arms(plain, data_root, arms, layers)
        space = space or default_space(plain)
        settings = Settings.of(plain, margin, metric, trials, space)
        make_folder(output)
        with locked(output):
            keep_settings(output, settings, named_parts(plain))
            _check_data(output, planned, data_root)
            recipes = {arm.label: arm.recipe(plain) for arm in planned}
            tuned = tune_arms(
                recipes, space, data_root, output, trials, plain.seed, jobs, report, scheduler=scheduler
            )
            schedules = {
                label: RepeatSchedule.make(one.recipe, seeds, folds, all_folds=all_folds)
                for label, one in tuned.items()
                if one.recipe is not None
            }
            errors = _train(schedules, data_root, output, jobs, scheduler, report)
            found = [_runs_of(arm, tuned[arm.label], errors, output) for arm in planned]
            found += _earlier_arms(output, tuned, data_root, trials)
            baselines = baselines_of(_finished_runs(output), output, data_root)
            result = build_result(settings, found, impossible, baselines)
            write_text(output / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")
            with lost_pictures_warned(output, "numbers"):
                draw_ablation(result, output / PICTURE)
    return result


def _check_data(output: Path, planned: Sequence[PlannedArm], data_root: Path) -> None:
    """Check that arms which are new get the data that the model as it is was trained with.

    Raises:
        DataError: If they have changed since; the message names the files.
    """
    base = arm_folder(output, AS_IS)
    new = any(not (arm_folder(output, one.label) / SEVERAL_RUNS).is_file() for one in planned)
    if new and (base / SEVERAL_RUNS).is_file():
        check_same_data(RepeatSchedule.read(base), data_root, base, to_come=True)


def arm_folder(output: Path, label: str) -> Path:
    """Return the folder of an arm's runs."""
    return output / ARMS_FOLDER / label


def _train(
    schedules: Mapping[str, RepeatSchedule],
    data_root: Path,
    output: Path,
    jobs: int,
    scheduler: str | None,
    report: Report,
) -> dict[str, str]:
    """Train and test all runs, and summarise them; return why arms have no finished run."""
    by_folder = {arm_folder(output, label): schedule for label, schedule in schedules.items()}
    every = [
        (folder / run.name, schedule.recipe)
        for folder, schedule in by_folder.items()
        for run in schedule.repetitions
    ]
    kept = {folder for folder, recipe in every if is_finished(folder, recipe)}
    done = 0

    def tell(outcome: Outcome) -> None:
        nonlocal done
        done += 1
        state = FINISHED if outcome.error is None else f"FAILED: {outcome.error}"
        state = FINISHED_BEFORE if outcome.folder in kept else state
        report(f"{outcome.folder.parent.name}, {outcome.folder.name}: {state}", done, len(every))

    outcomes = run_schedules(by_folder, data_root, jobs=jobs, scheduler=scheduler, report=tell)
    errors = {}
    for folder, ended in outcomes.items():
        # The folder may hold runs of earlier calls too.
        whole = RepeatSchedule.read(folder)
        runs = all_outcomes(whole, folder, ended)
        summarise(whole, runs, folder)
        if all(run.error is not None for run in runs):
            errors[folder.name] = str(runs[0].error)
    return errors


def _runs_of(arm: PlannedArm, tuned: TunedArm, errors: Mapping[str, str], output: Path) -> ArmRuns:
    error = tuned.error or errors.get(arm.label)
    return ArmRuns(arm, arm_folder(output, arm.label), error, tuned.parameters, tuned.trials)


def _earlier_arms(output: Path, now: Collection[str], data_root: Path, trials: int) -> Iterator[ArmRuns]:
    """Yield the arms that only earlier calls have asked for.

    They stay in the result: a family of comparisons that can be made smaller once the results are known
    makes Holm's correction worthless.
    """
    for file in sorted((output / ARMS_FOLDER).glob(f"*/{SEVERAL_RUNS}")):
        label = file.parent.name
        if label in now:
            continue
        schedule = RepeatSchedule.read(file.parent)
        arm = trained_arm(label, schedule.recipe, data_root)
        ended = all_outcomes(schedule, file.parent)
        error = None if any(one.error is None for one in ended) else "none of its runs has finished"
        tuned = tuned_before(label, schedule.recipe, output, trials)
        yield ArmRuns(arm, file.parent, error, tuned.parameters, tuned.trials)


def _finished_runs(output: Path) -> dict[int | None, list[Path]]:
    """Return the folders of the finished runs of each fold of the model as it is."""
    folder = arm_folder(output, AS_IS)
    if not (folder / SEVERAL_RUNS).is_file():
        return {}
    found: dict[int | None, list[Path]] = {}
    for outcome in all_outcomes(RepeatSchedule.read(folder), folder):
        if outcome.error is None:
            found.setdefault(outcome.repetition.fold, []).append(outcome.folder)
    return found
