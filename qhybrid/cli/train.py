"""`qhybrid train`: from a recipe to a run folder with test metrics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.api.lookup import RECIPE_IN_RUN, find_recipe, find_repeats, find_run, run_folder
from qhybrid.cli.console import (
    errors,
    evaluation_table,
    hush,
    progress_bar,
    say,
    say_circuit_use,
    say_path,
    say_table,
    short,
)
from qhybrid.cli.hashing import hashing_bar
from qhybrid.cli.repeats import ALL, check_one_kind, parse_numbers, train_repeatedly
from qhybrid.cluster import SCHEDULER_HELP
from qhybrid.config import load_recipe
from qhybrid.workspace import data_below
from qhybrid.workspace import data_root as find_data_root

if TYPE_CHECKING:
    from qhybrid.config import Recipe
    from qhybrid.experiments.repeats.schedule import RepeatSchedule
    from qhybrid.training.preparation import TrainingStart

DATA_ROOT_HELP = "Folder of the data sets; otherwise the variable QHYBRID_DATA, otherwise ./data."


def train(
    recipe: Annotated[str | None, typer.Argument(help="A recipe file, or its name in ./runs.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Replace a value of the recipe: training.epochs=3.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help=DATA_ROOT_HELP)] = None,
    output: Annotated[Path | None, typer.Option(help="Run folder; otherwise runs/NAME/<time>.")] = None,
    resume: Annotated[
        str | None, typer.Option(help="Run folder of an interrupted run to go on with, instead of a recipe.")
    ] = None,
    test: Annotated[bool, typer.Option(help="Evaluate on the test split afterwards.")] = True,
    seeds: Annotated[
        str | None,
        typer.Option(help="Repeat with these seeds, as in 0-9 or 0,3,7; a run each."),
    ] = None,
    folds: Annotated[
        str | None, typer.Option(help="Repeat with these folds of the data set, as in 1-3, or all.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Repeated runs at the same time.")] = 1,
    scheduler: Annotated[str | None, typer.Option(help=f"Of repeated runs. {SCHEDULER_HELP}")] = None,
    rate_test: Annotated[
        bool,
        typer.Option("--find-rate", help="Find a learning rate by a range test of 100 steps; train nothing."),
    ] = False,
    diagnose: Annotated[
        bool,
        typer.Option("--diagnose/--no-diagnose", help="End the test with a line on the use of circuits."),
    ] = True,
) -> None:
    """Train the model of a recipe, then evaluate it on the test split; with many seeds and folds if asked."""
    if (recipe is None) == (resume is None):
        raise typer.BadParameter("exactly one of RECIPE and --resume must be given")
    if resume is not None and output is not None:
        raise typer.BadParameter("--output cannot be given with --resume: a run goes on in its own folder")
    if rate_test:
        if resume is not None or seeds is not None or folds is not None:
            raise typer.BadParameter("--find-rate trains nothing: leave out --resume, --seeds and --folds")
        root, checked = find_data_root(data_root), load_recipe(find_recipe(recipe or ""), set_)
        with data_below(root):
            find_rate_and_print(checked, root, output)
        return
    check_one_kind(jobs, scheduler)
    if _repeats(recipe, resume, seeds, folds):
        if not test:
            raise typer.BadParameter("--no-test cannot be given with --seeds and --folds: they end in tests")
        with data_below(find_data_root(data_root)):
            schedule, given = _schedule(recipe, resume, seeds, folds, set_, output)
            with run_folder(given, schedule.recipe.name) as target:
                train_repeatedly(schedule, find_data_root(data_root), target, jobs, scheduler)
        return
    if jobs > 1 or scheduler is not None:
        raise typer.BadParameter("--jobs and --scheduler are for repeated runs: give --seeds or --folds")
    folder = find_run(resume) if resume is not None else None
    file = folder / RECIPE_IN_RUN if folder is not None else find_recipe(recipe or "")
    if folder is not None:
        from qhybrid.training.run_folder import read_recipe

        read_recipe(folder)  # says which plugin is missing before its names are looked up
    checked = load_recipe(file, set_)
    from qhybrid.api.run import joined_run_folder
    from qhybrid.training.ranks import launched

    if not launched().first:
        hush()
    root = find_data_root(data_root)
    with data_below(root):
        with joined_run_folder(folder or output, checked.name) as target:
            train_and_hint(checked, root, target, resume=folder is not None, test=test)
        say_path("run", target)
        if test and launched().first:
            test_run(target, root, diagnose=diagnose)


def _repeats(recipe: str | None, resume: str | None, seeds: str | None, folds: str | None) -> bool:
    """Return whether several runs are asked for: by seeds or folds, or by their folder."""
    if resume is not None and (seeds is not None or folds is not None):
        raise typer.BadParameter("--seeds and --folds cannot be given with --resume: the folder knows them")
    given = seeds is not None or folds is not None
    return given or (resume is not None and find_repeats(resume) is not None)


def _schedule(
    recipe: str | None,
    resume: str | None,
    seeds: str | None,
    folds: str | None,
    settings: list[str] | None,
    output: Path | None,
) -> tuple[RepeatSchedule, Path | None]:
    """Return what is to be repeated, and the folder of the runs; None for a new one."""
    from qhybrid.experiments.repeats.schedule import RepeatSchedule

    repeated = find_repeats(resume) if resume is not None else None
    if repeated is not None:
        if settings:
            raise typer.BadParameter("--set cannot be given with --resume of repeated runs")
        return RepeatSchedule.read(repeated), repeated
    checked = load_recipe(find_recipe(recipe or ""), settings)
    schedule = RepeatSchedule.make(
        checked,
        parse_numbers(seeds, "--seeds") if seeds is not None else (),
        parse_numbers(folds, "--folds") if folds is not None and folds != ALL else None,
        all_folds=folds == ALL,
    )
    return schedule, output


def train_and_hint(
    recipe: Recipe, data_root: Path, target: Path, *, resume: bool = False, test: bool = True
) -> None:
    """Train, and say what on before the first step; after Ctrl-C, say how to go on."""
    from qhybrid.api import run as runs

    def say_start(start: TrainingStart) -> None:
        for line in start_lines(start):
            say(line)

    try:
        with hashing_bar():
            common: dict[str, Any] = {"data_root": data_root, "test": test, "on_start": say_start}
            if resume:
                runs.resume(target, recipe=recipe, **common)
            else:
                runs.train(recipe, output=target, **common)
    except KeyboardInterrupt:
        if (target / "resume" / "state.ckpt").is_file():
            hint = f"Complete epochs are kept. Go on with: qhybrid train --resume {short(target)}"
        else:
            hint = "No epoch was complete, so there is nothing to go on with."
        errors.print(f"Interrupted. {hint}", markup=False, soft_wrap=True)
        raise


def start_lines(start: TrainingStart) -> list[str]:
    """Return what is about to be trained, in lines of at most 80 columns."""
    data = start.data
    lines = [
        f"{split:<12}{found.count:>7,} {data.unit.removesuffix('s') if found.count == 1 else data.unit:<7}"
        f"{found.pixels:>17,} pixels"
        for split, found in data.splits.items()
    ]
    angles = f", {start.circuit_weights:,} of them in circuits" if start.circuit_weights else ""
    lines.append(f"{'model':<12}{start.model}: {start.parameters:,} parameters{angles}")
    lines += [f"{'frozen ViT':<12}{start.frozen}"] if start.frozen else []
    inputs = "patches" if data.unit == "scenes" else "images"
    per_step = f"{start.steps:,} steps of {start.batch_size:,} {inputs}"
    where = start.device if start.processes == 1 else f"{start.device}, {start.processes:,} processes"
    lines.append(f"{'training':<12}{start.epochs:,} epochs x {per_step}, on {where}")
    return lines


def find_rate_and_print(recipe: Recipe, data_root: Path, output: Path | None) -> None:
    """Run a learning-rate range test, and print its suggestion and where its picture is."""
    from qhybrid.training.rate_test import find_rate, save_rate_test

    with progress_bar("range test") as progress:
        found = find_rate(recipe, data_root, progress=progress)
    with run_folder(None, recipe.name) as run:  # a time that no other run has; the folder itself goes again
        folder = output or run.with_name(f"rate_test_{run.name}")
        picture = save_rate_test(found, folder)
    end = "the loss ran away there" if found.diverged else "the highest rate of the test"
    say(f"suggested learning rate: {found.suggestion:.2g}   (recipe: {recipe.training.learning_rate:g})")
    say(f"smallest loss at {found.lowest:.2g}; tested up to {found.rates[-1]:.2g}, {end}")
    say(f"to use it: --set training.learning_rate={found.suggestion:.2g}")
    say_path("picture", picture)


def test_run(folder: Path, data_root: Path, *, diagnose: bool) -> None:
    """Evaluate a run on the test split and print where everything is."""
    from qhybrid.api import Run
    from qhybrid.errors import MetricError

    recipe, failed = load_recipe(folder / RECIPE_IN_RUN), None
    with progress_bar("test split") as progress, hashing_bar():
        try:
            found = Run(folder).evaluate(data_root=data_root, progress=progress, diagnose=diagnose)
        except MetricError as error:
            failed, found = error, error.evaluation
    say_table(evaluation_table("test split", recipe.name, found, {}))
    say_circuit_use(found)
    say_path("metrics", found.folder)
    if failed is not None:
        raise failed
