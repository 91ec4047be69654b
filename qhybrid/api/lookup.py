"""Find what the user names: recipes, runs, circuits.

A name is looked up in the workspace (the working directory), then among the files of the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from qhybrid.errors import CheckpointError, ConfigError, WorkspaceError
from qhybrid.plugins import near_name
from qhybrid.workspace import SEVERAL_RUNS, definition_files, newest_of, time_name

RECIPE_IN_RUN = "recipe.yaml"
SWEEP_FILE = "sweep.yaml"
ABLATION_FILE = "ablation.json"
SUMMARY = "summary.json"


def find_recipe(text: str) -> Path:
    """Return a recipe file from its path, or its name in ./runs or in the package.

    Raises:
        ConfigError: If there is none; the message lists the names.
    """
    given = Path(text)
    if given.is_file():
        return given
    known = definition_files("runs")
    if text in known:
        return known[text]
    fix = _recipe_of_run(text) or near_name(given.stem, known)
    raise ConfigError(
        f"Recipe {text} must be a YAML file or a known name, but is neither.{fix} "
        f"Known names: {', '.join(known) or 'none'}."
    )


def _recipe_of_run(text: str) -> str:
    """Return the remedy where the recipe of a trained run may be meant; empty if there is none."""
    with suppress(CheckpointError):
        return f" Fix: there is a run of that name; its recipe is {find_run(text) / RECIPE_IN_RUN}."
    return ""


def folder_of(given: Any) -> str | Path:
    """Return the folder of an object that has one, as `Run`, and anything else as it is."""
    found: str | Path = getattr(given, "folder", given)
    return found


def find_run(text: str) -> Path:
    """Return a run folder from its path, or the newest run below runs/NAME.

    Raises:
        CheckpointError: If there is none, or it is a folder of repeated runs, of which one must be named.
    """
    for folder in (Path(text), Path("runs") / text):
        newest = _newest(folder, RECIPE_IN_RUN, SEVERAL_RUNS)
        if newest is not None and (newest / SEVERAL_RUNS).is_file():
            run = next(iter(_runs_below(newest)), newest / "seed-0")
            raise CheckpointError(
                f"{newest} holds repeated runs, but this needs a single one. Fix: name it, for example {run}."
            )
        if newest is not None:
            return newest
    raise CheckpointError(
        f"{text} must be a run folder or hold one, but no {RECIPE_IN_RUN} is there. Fix: give the folder "
        "that `qhybrid train` printed."
    )


def find_repeats(text: str) -> Path | None:
    """Return a folder of repeated runs from its path, or the newest one below runs/NAME if nothing is newer.

    Returns:
        The folder, which has a plan or at least a summary; None if the text names something else.
    """
    for folder in (Path(text), Path("runs") / text):
        newest = _newest(folder, RECIPE_IN_RUN, SEVERAL_RUNS, SUMMARY)
        if newest is not None:
            return None if (newest / RECIPE_IN_RUN).is_file() else newest
    return None


def _newest(folder: Path, *files: str) -> Path | None:
    """Return a folder that has one of some files, or the newest of the folders in it that do.

    Raises:
        CheckpointError: If several are there, and not all are named by the time of their making.
    """
    if any((folder / file).is_file() for file in files):
        return folder
    return newest_of((place.parent for file in files for place in folder.glob(f"*/{file}")), folder)


def _runs_below(folder: Path) -> list[Path]:
    """Return the runs in a folder of repeated runs, seed-2 before seed-10."""
    runs = (file.parent for file in folder.glob(f"*/{RECIPE_IN_RUN}"))
    return sorted(runs, key=lambda run: (len(run.name), run.name))


def find_runs(text: str) -> list[Path]:
    """Return a run folder as `find_run` does; where the newest is a training of several seeds, all its runs.

    Raises:
        CheckpointError: If there is none.
    """
    for folder in (Path(text), Path("runs") / text):
        newest = _newest(folder, RECIPE_IN_RUN, SEVERAL_RUNS)
        if newest is not None:
            return _runs_below(newest) if (newest / SEVERAL_RUNS).is_file() else [newest]
    return [find_run(text)]


def find_report_sources(text: str) -> list[Path]:
    """Return a sweep folder, an ablation, or run folders from their path or name; of a name the sweep first.

    Raises:
        CheckpointError: If there is neither.
    """
    for folder in (Path(text), Path("runs") / text):
        for place in (folder, folder / "sweep"):
            if (place / SWEEP_FILE).is_file():
                return [place]
        if (folder / ABLATION_FILE).is_file():
            return [folder]
    return find_runs(text)


def new_run_folder(name: str) -> Path:
    """Make runs/NAME/<time> and return it, empty; no other process gets the same one.

    Raises:
        WorkspaceError: If it cannot be made.
    """
    stamp = time_name()
    folder = Path("runs") / name / stamp
    number = 2
    while True:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError as error:
            if not folder.parent.is_dir():
                raise WorkspaceError(f"{folder.parent} must be a folder, but is a file.") from error
            folder = Path("runs") / name / f"{stamp}_{number}"
            number += 1
        except OSError as error:
            raise WorkspaceError(
                f"Run folder {folder} must be writable, but cannot be made ({error.strerror}). Fix: choose "
                "another one with --output."
            ) from error
        else:
            return folder


@contextmanager
def run_folder(given: Path | None, name: str) -> Iterator[Path]:
    """Give the folder that was asked for, or a new one, which goes again if it stays empty.

    Args:
        given: The folder that the user wants; None for a new one.
        name: Of the recipe.
    """
    if given is not None:
        yield given
        return
    folder = new_run_folder(name)
    try:
        yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()  # fails if there is anything in it
