"""`qhybrid data`: list, fetch, generate, check, tile and measure data sets."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from qhybrid.api.lookup import find_recipe
from qhybrid.cli.console import progress_bar, say, say_path, say_table
from qhybrid.cli.train import DATA_ROOT_HELP
from qhybrid.config import apply_overrides, load_recipe, validated
from qhybrid.workspace import data_root as find_data_root
from qhybrid.workspace import make_folder

if TYPE_CHECKING:
    from qhybrid.data.check import DataCheck

app = typer.Typer(help="List, fetch, generate, check, tile and measure data sets.", no_args_is_help=True)

RecipeArgument = Annotated[str, typer.Argument(help="A recipe file, or its name in ./runs.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Replace a value of the recipe.")]
DataRoot = Annotated[Path | None, typer.Option(help=DATA_ROOT_HELP)]


@app.command("list")
def list_() -> None:
    """List the data sets that a recipe can name."""
    from qhybrid.data.scene_datasets import dataset_info, list_datasets

    table = Table("data set", "what it reads", "fetch")
    for name in list_datasets():
        found = dataset_info(name)
        table.add_row(name, found.description, "yes" if found.fetchable else "")
    say_table(table)


@app.command()
def info(name: Annotated[str, typer.Argument(help="A data set of `list`.")]) -> None:
    """Show a data set's own keys (`data.options` in a recipe) and their defaults."""
    from qhybrid.data.scene_datasets import dataset_info

    found = dataset_info(name)
    say(found.description)
    table = Table("data.options", "default")
    for key, default in found.options.items():
        table.add_row(key, default)
    say_table(table)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A data set of `list` that can be fetched.")],
    data_root: DataRoot = None,
    url: Annotated[str | None, typer.Option(help="Another address of the same archive.")] = None,
) -> None:
    """Download a data set into the data root; an interrupted download goes on where it stopped."""
    from qhybrid.data.scene_datasets import fetch_dataset

    with progress_bar(name, bytes_=True) as progress:
        folder = fetch_dataset(name, find_data_root(data_root), url, progress)
    say_path("data set", folder)


@app.command()
def synthetic(
    to: Annotated[Path, typer.Option(help="New folder for the scenes.")],
    option: Annotated[
        list[str] | None,
        typer.Option(help="Key of the data set, as in size=1024; see `qhybrid data info synthetic`."),
    ] = None,
) -> None:
    """Generate georeferenced scenes with masks, laid out for the data set `geotiff_folder`."""
    from qhybrid.data.synthetic import SyntheticOptions, write_scenes

    options = validated(SyntheticOptions, apply_overrides({}, option or [], "--option"), "--option")
    say_path("scenes", write_scenes(options, to))


@app.command()
def tile(
    recipe: RecipeArgument,
    to: Annotated[Path, typer.Option(help="New folder for the tiles.")],
    size: Annotated[int, typer.Option(min=16, help="Side of the tiles in pixels.")] = 512,
    partial: Annotated[bool, typer.Option(help="Also write tiles that overhang a scene.")] = True,
    set_: SetOption = None,
    data_root: DataRoot = None,
) -> None:
    """Cut the scenes of a recipe's data set into lossless PNG tiles, as in the HQ-UNet paper."""
    from qhybrid.data.scene_datasets import open_dataset
    from qhybrid.data.statistics import first_contract
    from qhybrid.data.tiling import tile_dataset

    config = load_recipe(find_recipe(recipe), set_).data
    dataset = open_dataset(config, find_data_root(data_root))
    contract = first_contract(dataset, config)
    with progress_bar("scenes") as progress:
        folder = tile_dataset(
            dataset, to, config.bands, size=size, partial=partial, progress=progress, contract=contract
        )
    say_path("tiles", folder)


@app.command()
def check(
    recipe: RecipeArgument,
    set_: SetOption = None,
    data_root: DataRoot = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for check.json and contact_sheet.png.", show_default=False)
    ] = None,
) -> None:
    """Read every file of every split and its mask, and name all that is wrong; exit code 1 if anything is."""
    from qhybrid.data.check import check_data, told_once, write_check

    config = load_recipe(find_recipe(recipe), set_).data
    if output is not None:
        make_folder(output)
    with progress_bar("files") as progress:
        found = check_data(config, find_data_root(data_root), progress=progress)
    for table in check_tables(found):
        say_table(table)
    for problem in told_once(found.problems):
        text = f"{'wrong' if problem.severe else 'look'}: {problem.message}"
        # Paths stay whole, so that they can be copied.
        say(fill(text, 80, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))
    if output is not None:
        for label, file in zip(("report", "sheet"), write_check(found, output)):
            if file is not None:
                say_path(label, file)
    wrong = sum(problem.severe for problem in found.problems)
    say(f"{wrong} problem(s)." if wrong else "Nothing wrong was found.")
    if wrong:
        raise typer.Exit(1)


def check_tables(found: DataCheck) -> list[Table]:
    """Return what a check has counted: amounts, shares of the classes and statistics, a column each split.

    There are none where nothing could be read: zeros would look like a finding.
    """
    splits = found.splits
    if not any(part.count for part in splits.values()):
        return []
    amounts = Table("", *splits)
    rows = {found.unit: [f"{part.count:,}" for part in splits.values()]}
    rows["pixels"] = [f"{part.pixels:,}" for part in splits.values()]
    if found.unit == "scenes":
        valid = [(part.valid or 0) / max(1, part.pixels) for part in splits.values()]
        rows["with data"] = [f"{100 * share:.1f} %" for share in valid]
    for label, cells in rows.items():
        amounts.add_row(label, *cells)
    shares = Table(f"class (share of {found.counted})", *splits)
    counts = [part.per_class for part in splits.values()]
    for index, name in enumerate(found.class_names):
        parts = ("" if one is None else f"{100 * one[index] / max(1, one.sum()):.2f} %" for one in counts)
        shares.add_row(name, *parts)
    values = Table("band (mean, deviation)", *splits)
    moments = [part.moments for part in splits.values()]
    for band in range(max((len(one.mean) for one in moments if one is not None), default=0)):
        cells = [
            f"{one.mean[band]:.4g}, {one.std[band]:.3g}" if one is not None and band < len(one.mean) else ""
            for one in moments
        ]
        values.add_row(str(band + 1), *cells)
    return [amounts, shares, values]


@app.command()
def statistics(recipe: RecipeArgument, set_: SetOption = None, data_root: DataRoot = None) -> None:
    """Print band statistics and class shares of the training split."""
    from qhybrid.data.scene_datasets import open_dataset
    from qhybrid.data.statistics import compute_statistics, first_contract

    config = load_recipe(find_recipe(recipe), set_).data
    dataset = open_dataset(config, find_data_root(data_root))
    with progress_bar("training scenes") as progress:
        found = compute_statistics(
            dataset.scenes("train"),
            classes=dataset.classes,
            progress=progress,
            contract=first_contract(dataset, config),
        )
    bands = Table("band", "mean", "std", "0.5 %", "99.5 %")
    for values in zip(found.bands, found.mean, found.std, found.low, found.high, strict=True):
        bands.add_row(str(values[0]), *(f"{value:.4g}" for value in values[1:]))
    say_table(bands)
    labelled = max(1, sum(found.pixels_per_class))
    classes = Table("class", "pixels", "share")
    for name, count in zip(dataset.classes.names, found.pixels_per_class, strict=True):
        classes.add_row(name, f"{count:,}", f"{100 * count / labelled:.2f} %")
    say_table(classes)
