"""Many runs from one call: repeats, sweeps and ablations, as tables of pandas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qhybrid.api.lookup import find_repeats, run_folder
from qhybrid.api.recipes import (
    RecipeLike,
    Settings,
    SpaceLike,
    SweepLike,
    as_list,
    as_recipe,
    as_space,
    as_sweep,
)
from qhybrid.api.run import FilePath, Run
from qhybrid.errors import CheckpointError
from qhybrid.workspace import data_below
from qhybrid.workspace import data_root as default_data_root

if TYPE_CHECKING:
    import pandas as pd

    from qhybrid.experiments.repeats.run import Outcome
    from qhybrid.experiments.sweeps import SweepOutcome

ABLATION_FOLDER = "ablation"


@dataclass(frozen=True, eq=False)
class Repeats:
    """A recipe that was trained with several seeds and folds.

    Attributes:
        folder: Where the runs are.
        summary: Content of summary.json: mean and standard deviation of each test metric.
        failures: Why runs are not finished, by the name of their folder.
    """

    folder: Path
    summary: dict[str, Any]
    failures: dict[str, str]

    @property
    def results(self) -> pd.DataFrame:
        """Test metrics of the finished runs: one row a run, with its seed and fold."""
        import pandas as pd

        rows = [row for row in self.summary["runs"] if row["error"] is None]
        return pd.DataFrame(
            [{"run": row["run"], "seed": row["seed"], "fold": row["fold"], **row["metrics"]} for row in rows]
        )

    @property
    def runs(self) -> list[Run]:
        """The finished runs."""
        return [Run(self.folder / row["run"]) for row in self.summary["runs"] if row["error"] is None]


def repeat(
    recipe: RecipeLike,
    seeds: Sequence[int] = (),
    folds: Sequence[int] | None = None,
    *,
    all_folds: bool = False,
    settings: Settings | None = None,
    data_root: FilePath | None = None,
    output: FilePath | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    report: Callable[[Outcome], None] | None = None,
) -> Repeats:
    """Train and test a recipe with every seed and fold; finished runs are kept, interrupted ones go on.

    A run that fails does not stop the others: see `failures` of the result.

    Args:
        recipe: As for `train`.
        seeds: Seeds; the recipe's own if empty.
        folds: Folds of the data set; the recipe's own if absent.
        all_folds: All folds, instead of `folds`.
        settings: As for `train`.
        data_root: As for `train`.
        output: Folder of the runs, also that of an earlier call; runs/NAME/<time> if absent.
        jobs: Runs at the same time, each in a process of its own.
        scheduler: Dask cluster that does the runs instead: an address, or `local:N`.
        report: Told of each run as it ends.

    Raises:
        QHybridError: See `qhybrid.experiments.repeats.run.run_schedule`.
    """
    from qhybrid.experiments.repeats.run import all_outcomes, run_schedule
    from qhybrid.experiments.repeats.schedule import RepeatSchedule
    from qhybrid.experiments.repeats.summary import summarise

    root = default_data_root(data_root)
    with data_below(root):
        schedule = RepeatSchedule.make(as_recipe(recipe, settings), seeds, folds, all_folds=all_folds)
        with run_folder(None if output is None else Path(output), schedule.recipe.name) as folder:
            outcomes = run_schedule(schedule, root, folder, jobs=jobs, scheduler=scheduler, report=report)
            # The folder may hold runs of earlier calls too.
            whole = RepeatSchedule.read(folder)
            ended = all_outcomes(whole, folder, outcomes)
            summary = summarise(whole, ended, folder)
    failures = {one.repetition.name: one.error for one in ended if one.error is not None}
    return Repeats(folder, summary, failures)


@dataclass(frozen=True, eq=False)
class SweepTables:
    """Tables of a sweep.

    Attributes:
        outcome: What was computed, kept and failed, and in which folder.
        results: One row a condition and metric: mean over seeds, and its error.
        cells: One row a cell and metric.
    """

    outcome: SweepOutcome
    results: pd.DataFrame
    cells: pd.DataFrame

    @property
    def folder(self) -> Path:
        """The sweep folder."""
        return self.outcome.folder


def sweep(
    sweep: SweepLike,
    *,
    data_root: FilePath | None = None,
    output: FilePath | None = None,
    jobs: int | None = None,
    scheduler: str | None = None,
    recompute: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> SweepTables:
    """Evaluate trained runs under noise and shots; finished cells are never computed again.

    Scripts that use several processes need `if __name__ == "__main__":`.

    Args:
        sweep: A name in ./runs or of the package, a file, a mapping, or a sweep.
        data_root: Folder of the data sets; QHYBRID_DATA or ./data if absent.
        output: The sweep folder; runs/NAME/sweep if absent, where it also resumes.
        jobs: Processes on this machine; one a core if absent.
        scheduler: Address of a Dask scheduler whose workers do the work instead.
        recompute: Compute cells again whose new metrics cannot be had otherwise.
        progress: Told of what is done, how much of it is done, and how much there is.

    Raises:
        QHybridError: See `qhybrid.experiments.sweeps.run_sweep`.
    """
    from qhybrid.experiments.sweeps import read_cells, read_results, run_sweep

    outcome = run_sweep(
        as_sweep(sweep),
        default_data_root(data_root),
        output,
        processes=jobs,
        scheduler=scheduler,
        progress=progress,
        recompute=recompute,
    )
    return SweepTables(outcome, read_results(outcome.folder), read_cells(outcome.folder))


@dataclass(frozen=True, eq=False)
class Ablation:
    """A recipe that was retrained with other things in the place of its circuits.

    Attributes:
        folder: Where the runs are.
        content: Content of ablation.json.
    """

    folder: Path
    content: dict[str, Any]

    @property
    def verdicts(self) -> dict[str, str]:
        """What the difference of each arm to the model as it is decides, in words."""
        rows = self.content["arms"]
        return {row["arm"]: row["difference"]["text"] for row in rows if row.get("difference")}

    @property
    def results(self) -> pd.DataFrame:
        """One row an arm: trained weights, mean, standard deviation, difference, its interval, p, finds."""
        import pandas as pd

        metric, rows = self.content["metric"], []
        for row in self.content["arms"]:
            numbers = row.get("metrics", {}).get(metric) or {}  # an arm that failed has none
            difference = row.get("difference") or {}
            rows.append(
                {
                    "arm": row["arm"],
                    "weights": row["parameters"],
                    "runs": len(row.get("runs", ())),
                    "mean": numbers.get("mean"),
                    "std": numbers.get("std"),
                    "difference": difference.get("mean"),
                    "low": difference.get("low"),
                    "high": difference.get("high"),
                    "p": difference.get("p_different"),
                    "finds": difference.get("detectable"),
                    "verdict": difference.get("text"),
                    "error": row["error"] or None,
                }
            )
        return pd.DataFrame(rows)


def ablate(
    recipe: RecipeLike,
    arms: Sequence[str] | None = None,
    seeds: Sequence[int] = tuple(range(5)),
    *,
    layers: Sequence[str] | None = None,
    folds: Sequence[int] | None = None,
    all_folds: bool = False,
    trials: int = 0,
    space: SpaceLike | None = None,
    margin: float | None = None,
    metric: str | None = None,
    settings: Settings | None = None,
    data_root: FilePath | None = None,
    output: FilePath | None = None,
    jobs: int = 1,
    scheduler: str | None = None,
    report: Callable[[str, int, int], None] | None = None,
) -> Ablation:
    """Retrain a recipe with other things in the place of its circuits, and say what that decides.

    Args:
        recipe: As for `train`.
        arms: Such as `zero`, or `twin@bottleneck.core` for one layer; all that are possible if absent.
        seeds: Seeds of every arm.
        layers: Quantum layers that arms without `@` are for; all if absent.
        folds: Folds of the data set; the recipe's own if absent.
        all_folds: All folds, instead of `folds`.
        trials: Settings that are tried for each arm, judged by validation alone; 0: the recipe's own.
        space: Where they are drawn from: a file, a mapping of recipe keys with distributions, or a space.
        margin: Differences up to it do not matter; what the recipe says if absent.
        metric: What is compared; what the recipe says if absent.
        settings: As for `train`.
        data_root: As for `train`.
        output: Folder of the ablation; runs/NAME/ablation if absent, where it also resumes.
        jobs: Runs at the same time.
        scheduler: Dask cluster that does the runs and searches instead: an address, or `local:N`.
        report: Told of what has ended, how much of its kind is done, and how much there is.

    Raises:
        QHybridError: See `qhybrid.experiments.ablations.ablate`.
    """
    from qhybrid.experiments.ablations import ablate as run_ablation

    checked = as_recipe(recipe, settings)
    folder = Path("runs") / checked.name / ABLATION_FOLDER if output is None else Path(output)
    content = run_ablation(
        checked,
        default_data_root(data_root),
        folder,
        arms=None if arms is None else as_list(arms),
        layers=None if layers is None else as_list(layers),
        seeds=seeds,
        folds=folds,
        all_folds=all_folds,
        margin=margin,
        metric=metric,
        trials=trials,
        space=None if space is None else as_space(space),
        jobs=jobs,
        scheduler=scheduler,
        **({} if report is None else {"report": report}),
    )
    return Ablation(folder, content)


def open_repeats(repeats: FilePath) -> Repeats:
    """Return repeated runs from their folder, or the newest of a name in ./runs, as they stand.

    Raises:
        CheckpointError: If there are none.
    """
    from qhybrid.experiments.repeats.run import all_outcomes
    from qhybrid.experiments.repeats.schedule import RepeatSchedule
    from qhybrid.experiments.repeats.summary import summarise

    folder = find_repeats(str(repeats))
    if folder is None:
        raise CheckpointError(
            f"{repeats} must be a folder of repeated runs, but is none. Fix: give the folder that "
            "`repeat` or `qhybrid train --seeds` made."
        )
    schedule = RepeatSchedule.read(folder)
    ended = all_outcomes(schedule, folder)
    failures = {one.repetition.name: one.error for one in ended if one.error is not None}
    return Repeats(folder, summarise(schedule, ended, folder), failures)
