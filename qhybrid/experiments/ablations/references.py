"""Baselines beside the arms: what a data set gives to those who train no network."""

from __future__ import annotations

import contextlib
import json
import statistics
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qhybrid.errors import CheckpointError, ConfigError
from qhybrid.evaluation.classical import BASELINES
from qhybrid.evaluation.evaluate import evaluate_baselines
from qhybrid.evaluation.image_baselines import VERSION
from qhybrid.metrics import metrics_in
from qhybrid.training.data_record import read_record
from qhybrid.workspace import write_text

FILE = "baselines.json"


def baselines_of(runs: Mapping[int | None, Sequence[Path]], output: Path, data_root: Path) -> dict[str, Any]:
    """Return the metrics of each baseline, the mean over folds; computed once for the same data and code.

    Args:
        runs: Run folders of each fold, for its data, classes and statistics: the first that can be loaded.
        output: Folder of the ablation, where they are kept.
        data_root: Folder that `data.root` is relative to.

    Returns:
        Metrics by the baseline's name; nothing where the kind of data has none.

    Warns:
        UserWarning: If no run of a fold can be loaded; there are no baselines then.
    """
    kept = _kept(output / FILE)
    found: dict[str, Any] = {}
    for fold, folders in runs.items():
        record = read_record(folders[0])
        data = None if record is None else record.hashes.get("test")
        key = str(fold)
        own = {"data": data, "version": VERSION, "known": sorted(BASELINES.names())}
        if data is not None and {name: kept.get(key, {}).get(name) for name in own} == own:
            found[key] = kept[key]
            continue
        try:
            results = _evaluated(folders, data_root)
        except ConfigError:  # there are none for such data
            return {}
        except CheckpointError as error:  # the arms' numbers are whole without them
            warnings.warn(f"The table has no references beside its arms: {error}", stacklevel=3)
            return {}
        numbers = {name: numbers_of(one) for name, one in results.items()}
        found[key] = {**own, "baselines": numbers}
    if found != kept:
        write_text(output / FILE, json.dumps(found, indent=2) + "\n")
    return _means([one["baselines"] for one in found.values()])


def _evaluated(folders: Sequence[Path], data_root: Path) -> Mapping[str, Any]:
    """Return the baselines by the first of some runs that can be loaded: weights may not have been kept."""
    for folder in folders[:-1]:
        with contextlib.suppress(CheckpointError):
            return evaluate_baselines(folder, "test", data_root)
    return evaluate_baselines(folders[-1], "test", data_root)


def numbers_of(found: Any) -> dict[str, float]:
    """Return the metrics of one baseline, whatever holds them."""
    if isinstance(found, Mapping):
        content = dict(found)
    elif isinstance(getattr(found, "metrics", None), Mapping):
        content = dict(found.metrics)
    else:
        content = {"miou": found.miou, "accuracy": found.overall_accuracy}
    plain = {key: float(value) for key, value in content.items() if isinstance(value, int | float)}
    return {key: value for key, value in (metrics_in(plain) or plain).items() if value is not None}


def _kept(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _means(folds: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    names = folds[0] if folds else {}
    return {
        name: {
            key: statistics.fmean(one[name][key] for one in folds)
            for key in names[name]
            if all(key in one.get(name, {}) for one in folds)
        }
        for name in names
    }
