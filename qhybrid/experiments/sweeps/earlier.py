"""Results of earlier versions, which were kept under keys that did not cover all bytes of the data.

They are taken over where that is safe: no file that decides them, and no folder of one, has changed since
they were made. Otherwise they are computed again.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qhybrid.evaluation.subject.subject import Subject
from qhybrid.experiments.sweeps.cells import Cell, SweepRun, cell_key
from qhybrid.experiments.sweeps.store import CellStore
from qhybrid.training.run_folder import META, RECIPE

_MARGIN = 2.0
"""Seconds between a change and a result at least: clocks and file systems round."""


def made_after(created: str, newest_change: float | None) -> bool:
    """Return whether a result is younger than the newest change of its data; False if that is not known.

    Args:
        created: When it was begun, in ISO format.
        newest_change: Time of the newest change, in seconds since 1970.
    """
    if newest_change is None:
        return False
    try:
        return datetime.datetime.fromisoformat(created).timestamp() - _MARGIN > newest_change
    except ValueError:
        return False


@dataclass(frozen=True)
class EarlierCells:
    """What was found of earlier versions.

    Attributes:
        taken: Keys of cells that were taken over.
        doubtful: Keys of cells that are there, but whose data may have changed since.
    """

    taken: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()


def take_over(
    cells: Sequence[Cell],
    store: CellStore,
    subject_of: Callable[[SweepRun], Subject],
    settings: dict[str, object],
) -> EarlierCells:
    """Keep finished cells of earlier versions under their keys of today, where that is safe.

    Args:
        cells: Cells that have no result.
        store: Results.
        subject_of: Returns the loaded run of a cell.
        settings: What holds for all cells of the sweep.
    """
    taken, doubtful = [], []
    if not store.any():
        return EarlierCells()
    runs: dict[str, tuple[SweepRun | None, float | None]] = {}
    for cell in cells:
        if cell.run.folder not in runs:
            runs[cell.run.folder] = _earlier_run(cell.run, subject_of(cell.run))
        run, newest_change = runs[cell.run.folder]
        if run is None:
            continue
        key = cell_key(run, cell.conditions, cell.noise, settings)
        found = store.load(key)
        if found is None:
            continue
        if not made_after(_begun(found), newest_change):
            doubtful.append(cell.key)
            continue
        kept = store.predictions(key)
        if kept is not None:
            store.save_predictions(cell.key, kept.read_bytes())
        store.save(cell.key, found)
        taken.append(cell.key)
    return EarlierCells(tuple(taken), tuple(doubtful))


def _begun(result: dict[str, object]) -> str:
    """Return when the computation of a cell began: its note is of the end."""
    made, seconds = result["made_with"], result["seconds"]
    assert isinstance(made, dict)
    try:
        ended = datetime.datetime.fromisoformat(str(made["created"]))
        return (ended - datetime.timedelta(seconds=float(str(seconds)))).isoformat()
    except (ValueError, KeyError):
        return ""


def _earlier_run(run: SweepRun, subject: Subject) -> tuple[SweepRun | None, float | None]:
    """Return a run with the identity that earlier versions gave it, and when anything of it changed last."""
    identity = subject.identify()
    data = subject.earlier_identity(identity)
    if data is None or identity.newest_change is None:
        return None, None
    folder = Path(run.folder)
    files = [folder / RECIPE, folder / subject.which / META]
    changes = [identity.newest_change, *(max(one.stat().st_mtime, one.stat().st_ctime) for one in files)]
    named = {"dataset": run.identity["data"]["dataset"], **data}
    return replace(run, identity={**run.identity, "data": named}), max(changes)
