"""Metrics that finished cells lack: added later, or changed since; computed from what was kept of a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qhybrid.evaluation.subject.subject import can_measure
from qhybrid.experiments.sweeps.cells import Cell
from qhybrid.experiments.sweeps.store import CellStore
from qhybrid.metrics import OWN_KEYS, Metric, entry_of, metrics_of, version_of


@dataclass(frozen=True)
class Lacking:
    """What a finished cell lacks.

    Attributes:
        cell: The cell.
        found: Its result.
        metrics: Keys of metrics that can be computed from what was kept.
        unknown: Keys of metrics that only a new computation of the cell can give.
    """

    cell: Cell
    found: dict[str, Any]
    metrics: tuple[str, ...]
    unknown: tuple[str, ...]


def lacking(cells: Sequence[Cell], store: CellStore) -> list[Lacking]:
    """Return the finished cells that lack metrics, each once.

    Args:
        cells: All cells of a sweep.
        store: Their results.
    """
    found = []
    for cell in {cell.key: cell for cell in cells}.values():
        result = store.load(cell.key)
        missing = [] if result is None else unmeasured(cell, result)
        if result is not None and missing:
            kept = store.predictions(cell.key) is not None
            task = cell.run.facts["task"]
            can = tuple(one.key for one in missing if can_measure(task, one, kept))
            cannot = tuple(one.key for one in missing if one.key not in can)
            found.append(Lacking(cell, result, can, cannot))
    return found


def unmeasured(cell: Cell, result: Mapping[str, Any]) -> list[Metric]:
    """Return the metrics of a cell's task that its result lacks, or has of another version of a plugin."""
    measured = result.get("measured", dict.fromkeys(OWN_KEYS, ""))
    return [one for one in metrics_of(cell.run.facts["task"]) if measured.get(one.key) != version_of(one)]


def with_metrics(result: Mapping[str, Any], added: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cell's result with metrics that were computed later.

    Args:
        result: The result.
        added: `metrics` and `measured` of the new ones.
    """
    measured = {**result.get("measured", dict.fromkeys(OWN_KEYS, "")), **added["measured"]}
    # Numbers of an earlier version go, also those of classes that have none now.
    kept = {key: value for key, value in result["metrics"].items() if not _is_of(key, added["measured"])}
    return {**result, "metrics": {**kept, **added["metrics"]}, "measured": measured}


def _is_of(key: str, metrics: Mapping[str, str]) -> bool:
    entry = entry_of(key)
    return entry is not None and entry.key in metrics
