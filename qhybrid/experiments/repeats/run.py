"""Repeated training: one recipe with several seeds and folds, each run in its own folder."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qhybrid.cluster import Answer, Job, check_workers, run_jobs, usable_cores
from qhybrid.config import Recipe, validated
from qhybrid.data.scenes import SPLITS
from qhybrid.errors import (
    CheckpointError,
    DataError,
    PluginError,
    QHybridError,
)
from qhybrid.evaluation.common import evaluation_folder
from qhybrid.evaluation.evaluate import evaluate_run
from qhybrid.experiments.repeats.processes import in_processes
from qhybrid.experiments.repeats.schedule import RepeatSchedule, Repetition
from qhybrid.training.data_record import (
    DataRecord,
    check_unchanged,
    read_record,
    record_of,
    try_identity,
)
from qhybrid.training.ranks import check_alone
from qhybrid.training.run_folder import RECIPE, RESUME_STATE, kept_epoch, training_ended
from qhybrid.workspace import locked, make_folder, write_text

ERROR = "error.txt"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        repetition: Which run.
        folder: Its folder.
        error: What went wrong; None if it is finished.
    """

    repetition: Repetition
    folder: Path
    error: str | None = None


def result_file(folder: Path, recipe: Recipe) -> Path:
    """Return the file that a run's test metrics go to."""
    return evaluation_folder(folder, "test", recipe.engine, seed=recipe.seed) / "metrics.json"


def is_finished(folder: Path, recipe: Recipe) -> bool:
    """Return whether a run is trained to its end and its test metrics are those of its weights.

    An unfinished run may have been evaluated by hand; that does not make it a result.

    Raises:
        PluginError: If the run needs a plugin that is not loaded; whether it is finished is not known then.
    """
    result = result_file(folder, recipe)
    try:
        if not result.is_file() or not training_ended(folder):
            return False
        return bool(json.loads(result.read_text(encoding="utf-8"))["epoch"] == kept_epoch(folder))
    except PluginError:
        raise
    except (CheckpointError, OSError, ValueError, KeyError, TypeError):
        return False


def all_outcomes(schedule: RepeatSchedule, output: Path, known: Sequence[Outcome] = ()) -> list[Outcome]:
    """Return how every run of a schedule stands, the ones that no call has just ended included.

    Args:
        schedule: The schedule.
        output: Folder of the runs.
        known: Outcomes that are known already.
    """
    ended = {outcome.repetition: outcome for outcome in known}
    rest = f"It is not finished. Go on with: qhybrid train --resume {output}"
    return [
        ended.get(run)
        or Outcome(run, output / run.name, None if is_finished(output / run.name, schedule.recipe) else rest)
        for run in schedule.repetitions
    ]


def run_schedule(
    schedule: RepeatSchedule,
    data_root: Path,
    output: Path,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    report: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Train and test every run of a schedule; finished ones are skipped, interrupted ones go on.

    A run that fails does not stop the others.

    Args:
        schedule: The schedule.
        data_root: Folder that `data.root` is relative to.
        output: Folder of the runs.
        jobs: Runs at the same time, each in a process of its own; 1 runs them one after the other in this
            process.
        scheduler: Dask cluster whose workers do the runs instead; see `qhybrid.cluster.opened`.
        report: Called after each run, in the order in which they end.

    Returns:
        One outcome a run, in the order of the schedule.

    Raises:
        QHybridError: See `run_schedules`.
    """
    found = run_schedules({output: schedule}, data_root, jobs=jobs, scheduler=scheduler, report=report)
    return found[output]


def run_schedules(
    schedules: Mapping[Path, RepeatSchedule],
    data_root: Path,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    report: Callable[[Outcome], None] | None = None,
) -> dict[Path, list[Outcome]]:
    """Train and test every run of several schedules, which take turns; see `run_schedule`.

    Args:
        schedules: Schedules by the folder of their runs.
        data_root: Folder that `data.root` is relative to.
        jobs: Runs at the same time.
        scheduler: Dask cluster whose workers do the runs instead.
        report: Called after each run, in the order in which they end.

    Raises:
        DataError: If data have changed since the first of the runs; the message names the files.
        ConfigError: If a folder belongs to another recipe, `jobs` is below 1 or given with `scheduler`, or
            the model does not fit the data.
        DatasetNotFoundError: If the data set is not where it is expected.
        PluginError: If finished runs need a plugin that is not loaded.
        WorkspaceError: If another process works on a folder, or the cluster has gone.
    """
    check_alone("Repeated trainings")
    check_workers(jobs, scheduler)
    checked = set()
    for output, schedule in schedules.items():
        if not all(is_finished(output / run.name, schedule.recipe) for run in schedule.repetitions):
            alike = schedule.recipe.model_dump_json(include={"data", "model", "engine"})
            if alike not in checked:
                schedule.check(data_root)
            checked.add(alike)
            schedule.check_named(output)
    found: dict[Path, Outcome] = {}
    with ExitStack() as locks:
        for output, schedule in schedules.items():
            make_folder(output)
            locks.enter_context(locked(output))
            schedule.write(output)
            check_same_data(RepeatSchedule.read(output), data_root, output)
        runs = list(_in_turns(schedules))
        if scheduler is not None:
            outcomes = _on_cluster(runs, data_root, scheduler)
        else:
            outcomes = (_one_by_one if jobs == 1 else _side_by_side)(runs, data_root, jobs)
        for outcome in outcomes:
            found[outcome.folder] = outcome
            if report is not None:
                report(outcome)
    return {
        output: [found[output / run.name] for run in schedule.repetitions]
        for output, schedule in schedules.items()
    }


@dataclass(frozen=True)
class _Run:
    """One run of one schedule."""

    schedule: RepeatSchedule
    repetition: Repetition
    folder: Path

    @property
    def finished(self) -> bool:
        return is_finished(self.folder, self.schedule.recipe)

    @property
    def recipe(self) -> Recipe:
        return self.repetition.recipe(self.schedule.recipe)


def _in_turns(schedules: Mapping[Path, RepeatSchedule]) -> Iterator[_Run]:
    """Yield the first run of each schedule, then the second ones, ..."""
    longest = max((len(schedule.repetitions) for schedule in schedules.values()), default=0)
    for number in range(longest):
        for output, schedule in schedules.items():
            for run in schedule.repetitions[number : number + 1]:
                yield _Run(schedule, run, output / run.name)


def check_same_data(
    schedule: RepeatSchedule, data_root: Path, output: Path, *, to_come: bool = False
) -> None:
    """Check that runs which are still to come have the data of those that are there.

    Runs of earlier versions do not say which data they had.

    Args:
        schedule: The runs.
        data_root: Folder that `data.root` is relative to.
        output: Their folder.
        to_come: Whether others are to come that are compared with these.

    Raises:
        DataError: If the data have changed; the message names the files.
    """
    begun, open_ones = [], to_come
    for run in schedule.repetitions:
        folder = output / run.name
        finished = is_finished(folder, schedule.recipe)
        open_ones |= not finished
        record = read_record(folder) if finished or (folder / RESUME_STATE).is_file() else None
        if record is not None:
            begun.append((run, folder, record))
    now: dict[int | None, DataRecord] = {}
    for run, folder, record in begun if open_ones else ():
        if run.fold not in now:
            data = run.recipe(schedule.recipe).data
            now[run.fold] = record_of({one: try_identity(data, one, data_root) for one in SPLITS}, data_root)
        check_unchanged(folder, record, now[run.fold], SPLITS)


def _one_by_one(runs: Sequence[_Run], data_root: Path, _jobs: int) -> Iterator[Outcome]:
    for run in runs:
        if not run.finished:
            _train_and_test(run.recipe, data_root, run.folder)
        yield _outcome(run)


def _side_by_side(runs: Sequence[_Run], data_root: Path, jobs: int) -> Iterator[Outcome]:
    """Give each run a process: one that is killed takes no other with it."""
    shared = max(1, usable_cores() // jobs)
    open_ones = [run for run in runs if not run.finished]
    yield from (_outcome(run) for run in runs if run not in open_ones)
    calls = []
    for run in open_ones:
        threads = run.schedule.recipe.training.threads or shared
        calls.append((_quiet_content(run), data_root, run.folder, threads))
    for number, code in in_processes(_in_process, calls, jobs):
        yield _outcome(open_ones[number], f"The process of this run ended with code {code}.")


def _on_cluster(runs: Sequence[_Run], data_root: Path, scheduler: str) -> Iterator[Outcome]:
    """Give each run to a worker; a run whose worker dies goes on with another one, from its last epoch."""
    open_ones = [run for run in runs if not run.finished]
    yield from (_outcome(run) for run in runs if run not in open_ones)
    root = data_root.absolute()
    jobs = [
        {"key": f"run-{number}", "recipe": _quiet_content(run), "root": root, "folder": run.folder.absolute()}
        for number, run in enumerate(open_ones)
    ]
    for answer in run_jobs(jobs, train_job, scheduler=scheduler):
        yield _outcome(open_ones[int(answer["key"].removeprefix("run-"))], answer.get("error"))


def train_job(job: Job) -> Answer:
    """Train and test one run in a worker process."""
    _train_and_test(validated(Recipe, job["recipe"], str(job["folder"])), job["root"], job["folder"])
    return {"key": job["key"]}


def _quiet_content(run: _Run) -> dict[str, Any]:
    """Return the recipe of a run as plain values, without a bar for each epoch."""
    training = run.schedule.recipe.training.model_copy(update={"progress": False})
    return run.recipe.model_copy(update={"training": training}).model_dump(mode="json")


def _in_process(content: dict[str, Any], data_root: Path, folder: Path, threads: int) -> None:
    torch.set_num_threads(threads)
    _train_and_test(validated(Recipe, content, str(folder)), data_root, folder)


def _train_and_test(recipe: Recipe, data_root: Path, folder: Path) -> None:
    """Train and test one run; an error is written down, not raised."""
    # Imported here: Lightning takes seconds, which reports do without.
    from qhybrid.training import train

    (folder / ERROR).unlink(missing_ok=True)
    try:
        train(recipe, data_root, folder, resume=(folder / RECIPE).is_file())
        found = evaluate_run(folder, data_root=data_root)
        if found.on is not None:
            raise DataError(
                f"{folder}: test data must be those that the training began with, but have changed. Fix: put "
                "them back as they were."
            )
    except QHybridError as error:
        write_text(folder / ERROR, f"{error}\n")
    except Exception:
        # A defect in one run must not cost the others; its trace is kept beside the run.
        write_text(folder / ERROR, traceback.format_exc())


def _outcome(run: _Run, ended: str | None = None) -> Outcome:
    repetition, folder = run.repetition, run.folder
    if run.finished:
        return Outcome(repetition, folder)
    if (folder / ERROR).is_file():
        lines = (folder / ERROR).read_text(encoding="utf-8").strip().splitlines()
        trace = bool(lines) and lines[0].startswith("Traceback")
        return Outcome(repetition, folder, lines[-1] if trace else "\n".join(lines))
    return Outcome(repetition, folder, ended or "The run is not finished, and does not say why.")
