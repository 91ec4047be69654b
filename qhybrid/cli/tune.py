"""`qhybrid tune`: the same search over recipe keys for several models, judged by validation."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qhybrid.api.lookup import find_recipe
from qhybrid.cli.console import duration, errors, say, say_path, say_table, seconds_left, short
from qhybrid.cli.train import DATA_ROOT_HELP
from qhybrid.cluster import SCHEDULER_HELP
from qhybrid.config import load_recipe

if TYPE_CHECKING:
    from rich.table import Table

    from qhybrid.api.searches import Search, Tuning
    from qhybrid.config import Recipe
    from qhybrid.experiments.tuning import TrialRow


def tune(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or its name in ./runs.")],
    models: Annotated[
        str | None,
        typer.Option(help="Models to search for, as in hq_unet,hq_unet_twin, or recipes on the same data."),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(help="YAML file of recipe keys with `low`, `high`, `log`, `integer` or `choices`."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials of each model, earlier ones included.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is drawn.")] = 0,
    scheduler: Annotated[str | None, typer.Option(help=SCHEDULER_HELP)] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Replace a value of the recipes: training.epochs=3.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help=DATA_ROOT_HELP)] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the search; otherwise runs/NAME/tune, where it also resumes."),
    ] = None,
) -> None:
    """Search the same space with the same budget for each model; validation judges, never the test split."""
    from qhybrid.api.searches import search_folder
    from qhybrid.api.searches import tune as search

    started, done = time.monotonic(), 0
    labels: list[str] = []

    def on_start(what: Search) -> None:
        labels.extend(what.recipes)
        for label, lost in what.left_out.items():
            say(f"{label}: without {', '.join(f'model.{key}' for key in lost)}, which it does not have")
        say(f"searching with {trials} trials of {' and '.join(labels)}:")
        _say_folded(", ".join(what.space.space))

    def report(row: TrialRow) -> None:
        nonlocal done
        done += 1
        say(_trial_line(row, trials))
        _say_folded(", ".join(f"{k.rpartition('.')[2]} {_short(v)}" for k, v in row.parameters.items()))
        # Trials of the models take turns; those of earlier calls are not reported.
        left = (trials - row.trial) * len(labels) + len(labels) - 1 - labels.index(row.model)
        seconds = seconds_left(time.monotonic() - started, done, left)
        if left and seconds is not None:
            say(f"  {left} to go, about {duration(seconds)} left")

    base = load_recipe(find_recipe(recipe), set_)
    try:
        found = search(
            base,
            _models(models, set_),
            space=space,
            trials=trials,
            seed=seed,
            data_root=data_root,
            output=output,
            scheduler=scheduler,
            on_start=on_start,
            report=report,
        )
    except KeyboardInterrupt:
        folder = search_folder(base, output)
        errors.print(
            f"Interrupted. Trials are kept in {short(folder)}; the same command goes on.",
            markup=False,
            soft_wrap=True,
        )
        raise
    _print_results(found, trials)


def _models(names: str | None, settings: list[str] | None) -> list[str | Recipe]:
    """Return names of models as they are, and recipes of other names."""
    from qhybrid.models import MODELS

    given = [] if names is None else [part.strip() for part in names.split(",")]
    return [one if one in MODELS.names() else load_recipe(find_recipe(one), settings) for one in given]


def _print_results(found: Tuning, trials: int) -> None:
    from qhybrid.experiments.tuning.results import PICTURE, TABLE

    labels, best, target = list(found.search.recipes), found.best, found.folder
    say_table(results_table(found.trials, labels, trials))
    say("judged on the validation split alone; the test split is not used.")
    say("To train and test the best:")
    for file in best.values():
        say(f"  qhybrid train {short(file)}")
    say_path("trials", target / TABLE)
    if (target / PICTURE).is_file():
        say_path("picture", target / PICTURE)
    if len(best) < len(labels):
        raise typer.Exit(1)


def results_table(rows: Sequence[TrialRow], labels: list[str], trials: int) -> Table:
    """Return a table of the best trial of each model, with what was spent on it."""
    from rich import box
    from rich.table import Table

    from qhybrid.experiments.tuning.results import best_trial

    names = [row.metric for row in rows if row.metric]
    done = max((row.trial for row in rows), default=trials)  # more than this call's if earlier ones had more
    title = f"Best of {done} trials a model"
    table = Table(title=title, title_justify="left", box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for head in ("model", names[0] if names else "metric", "trial", "failed", "seconds", "values"):
        table.add_column(head, overflow="fold")
    for label in labels:
        own = [row for row in rows if row.model == label]
        best = best_trial(rows, label)
        failed = str(sum(row.state == "failed" for row in own))
        seconds = f"{sum(row.seconds or 0.0 for row in own):.0f}"
        if best is None:
            table.add_row(label, "-", "-", failed, seconds, "")
            continue
        values = ", ".join(f"{key.rpartition('.')[2]} {_short(one)}" for key, one in best.parameters.items())
        table.add_row(label, f"{best.value:.4f}", str(best.trial), failed, seconds, values)
    return table


def _trial_line(row: TrialRow, trials: int) -> str:
    """Return what came of a trial; its error whole, however long."""
    found = f"{row.metric} {row.value:.4f}" if row.value is not None else f"FAILED: {row.error}"
    return f"{row.model} {row.trial}/{trials}: {found} ({row.seconds or 0:.0f} s)"


def _say_folded(text: str) -> None:
    """Print a list in indented lines of at most 80 columns."""
    for line in textwrap.wrap(text, 78, break_long_words=False, break_on_hyphens=False):
        say(f"  {line}")


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
