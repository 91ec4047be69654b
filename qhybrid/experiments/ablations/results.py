"""What an ablation decides: the content of ablation.json."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from qhybrid.errors import CheckpointError, ConfigError
from qhybrid.experiments.ablations.arms import PlannedArm
from qhybrid.experiments.ablations.images import PREDICTIONS, image_values, over_images
from qhybrid.experiments.ablations.settings import Settings
from qhybrid.experiments.repeats.comparison import (
    Difference,
    Pair,
    RepeatedRuns,
    compare_all,
    left_out,
    read_repeats,
)
from qhybrid.experiments.repeats.run import result_file
from qhybrid.experiments.repeats.schedule import RepeatSchedule, Repetition
from qhybrid.metrics import find_metric
from qhybrid.models.arms import AS_IS
from qhybrid.version import __version__

RESULT = "ablation.json"
FORMAT = 1
OVER_SEEDS = (
    "Differences are paired over seeds; all share one test set, so they speak of the randomness of training."
)
OVER_FOLDS = (
    "Differences are the folds' means over their seeds, tested with the correction for training images that "
    "folds share (Nadeau and Bengio 2003)."
)


@dataclass(frozen=True)
class ArmRuns:
    """The runs of one arm.

    Attributes:
        arm: The arm.
        folder: Folder of its runs.
        error: Why it has no result; None if it has.
        tuned: Values of the best trial; None without tuning.
        trials: What became of its trials.
    """

    arm: PlannedArm
    folder: Path
    error: str | None = None
    tuned: dict[str, Any] | None = None
    trials: Sequence[Mapping[str, Any]] = ()


def build_result(
    settings: Settings,
    arms: Sequence[ArmRuns],
    impossible: Mapping[str, str],
    baselines: Mapping[str, Mapping[str, float]],
) -> dict[str, Any]:
    """Return the content of ablation.json.

    Args:
        settings: What the ablation decides by.
        arms: All arms, that of the model as it is first.
        impossible: Why arms are not possible.
        baselines: Metrics of references without a network.

    Raises:
        CheckpointError: If no run of the model as it is has finished.
    """
    runs, unknown = {}, {}
    for one in arms:
        if one.error is None:
            each = read_repeats(one.folder)
            try:
                each.values(settings.metric)
            except ConfigError as error:
                unknown[one.arm.label] = str(error)
            else:
                runs[one.arm.label] = each
    if AS_IS not in runs:
        raise CheckpointError(
            f"{arms[0].folder} has no finished run of the model as it is, which all arms are compared with. "
            f"{arms[0].error or unknown.get(AS_IS, '')}".rstrip()
        )
    reference = runs[AS_IS]
    others = {label: each for label, each in runs.items() if label != AS_IS}
    base = reference.values(settings.metric).keys()
    paired = {label: each for label, each in others.items() if each.values(settings.metric).keys() & base}
    found = compare_all(reference, paired, settings.metric, settings.margin)
    rows = [_row(one, runs.get(one.arm.label), found.get(one.arm.label), reference, settings) for one in arms]
    for row in rows:
        row["error"] = row["error"] or unknown.get(row["arm"])
    folded = any(fold is not None for _, fold in reference.metrics)
    return {
        "format": FORMAT,
        "qhybrid": __version__,
        "name": reference.name,
        "model": str(reference.model["name"]),
        "dataset": settings.recipe["data"]["dataset"],
        "metric": settings.metric,
        "margin": settings.margin,
        "trials": settings.trials,
        "space": settings.space,
        "seeds": sorted({seed for seed, _ in reference.metrics}),
        "folds": sorted({fold for _, fold in reference.metrics if fold is not None}),
        "statistics": OVER_FOLDS if folded else OVER_SEEDS,
        "arms": rows,
        "left_out": left_out(reference, others, settings.metric, AS_IS),
        "remarks": _remarks(reference, settings) + alike_said(runs),
        "baselines": {name: dict(one) for name, one in baselines.items()},
        "impossible": dict(impossible),
    }


def _remarks(reference: RepeatedRuns, settings: Settings) -> list[str]:
    """Return in words where the margin asks for more than the test images can say."""
    if settings.metric != "accuracy":
        return []
    (file, _), *_ = _predictions(reference, reference, settings)
    values = image_values(file, settings.metric) or {}
    images = len(values)
    if not 0 < images < 1 / settings.margin or not set(values.values()) <= {0.0, 1.0}:  # of pixels
        return []
    return [
        f"One of {images:,} test images is {100 / images:.2f} points, more than the margin of "
        f"{100 * settings.margin:g}: seeds may all agree, and other images may not."
    ]


def alike_said(runs: Mapping[str, RepeatedRuns]) -> list[str]:
    """Return in words which arms have the same metrics, losses included, in every run that they share.

    Args:
        runs: The runs of each arm.
    """
    groups: list[list[str]] = []
    for label, each in runs.items():
        for group in groups:
            first = runs[group[0]].metrics
            common = first.keys() & each.metrics.keys()
            if common and all(first[key] == each.metrics[key] for key in common):
                group.append(label)
                break
        else:
            groups.append([label])
    return [
        f"{', '.join(group)} gave the same metrics in every run, as one network does under several names; "
        "each is a comparison of its own in Holm's correction all the same."
        for group in groups
        if len(group) > 1
    ]


def _row(
    one: ArmRuns,
    runs: RepeatedRuns | None,
    found: Difference | None,
    reference: RepeatedRuns,
    settings: Settings,
) -> dict[str, Any]:
    arm = one.arm
    row: dict[str, Any] = {
        "arm": arm.label,
        "replace": dict(arm.replace),
        "words": dict(arm.words),
        "parameters": arm.parameters,
        "error": one.error,
        "tuned": one.tuned,
        "trials": [dict(trial) for trial in one.trials],
    }
    if runs is None:
        return row
    values = runs.values(settings.metric)
    row["failed"] = [{"seed": seed, "fold": fold, "error": why} for (seed, fold), why in runs.failed.items()]
    row["runs"] = [
        {"seed": seed, "fold": fold, "value": value}
        for (seed, fold), value in sorted(values.items(), key=str)
    ]
    row["metrics"] = _metrics(runs)
    row["epoch_seconds"] = runs.epoch_seconds
    if (vit := _frozen_vit(runs)) is not None:
        row["frozen_vit"] = vit
    if found is not None:
        row["difference"] = _difference(found, settings)
        interval = over_images(_predictions(reference, runs, settings), settings.metric)
        row["over_images"] = None if interval is None else interval.to_dict()
    return row


def _frozen_vit(runs: RepeatedRuns) -> str | None:
    """Return what the runs of an arm call their frozen ViT; None without one."""
    recipe = RepeatSchedule.read(runs.folder).recipe
    for seed, fold in runs.metrics:
        file = result_file(runs.folder / Repetition(seed, fold).name, recipe)
        label = json.loads(file.read_text(encoding="utf-8")).get("frozen_vit")
        return None if label is None else str(label)
    return None


def frozen_vits(content: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each frozen ViT of an ablation.json, with the arms that have it."""
    arms: dict[str, list[str]] = {}
    for row in content["arms"]:
        if row.get("frozen_vit"):
            arms.setdefault(row["frozen_vit"], []).append(row["arm"])
    return [f"Frozen ViT of {', '.join(names)}: {label}." for label, names in arms.items()]


def tuning_said(content: Mapping[str, Any]) -> str:
    """Return in a sentence how the arms of an ablation.json were tuned; empty where they were not.

    A space may have fewer settings than were to be tried, and some are tried several times then.
    """
    trials = content["trials"]
    if not trials:
        return ""
    each = [
        len({json.dumps(one["parameters"], sort_keys=True) for one in row["trials"]})
        for row in content["arms"]
        if row["trials"]
    ]
    fewest = min(each, default=trials)
    few = f" (of one arm only {fewest} of them different)" if fewest < trials else ""
    return (
        f"Each arm was tuned with {trials} settings by validation{few}, over {', '.join(content['space'])}."
    )


def _metrics(runs: RepeatedRuns) -> dict[str, dict[str, float | None]]:
    """Return mean and standard deviation of all metrics over the runs."""
    names = list(dict.fromkeys(name for row in runs.metrics.values() for name in row))
    found = {}
    for name in names:
        values = [row[name] for row in runs.metrics.values() if row.get(name) is not None]
        found[name] = {
            "mean": statistics.fmean(values) if values else None,
            "std": statistics.stdev(values) if len(values) > 1 else None,
        }
    return found


def _difference(found: Difference, settings: Settings) -> dict[str, Any]:
    shown = find_metric(settings.metric)
    scale, digits = shown.number(1), shown.digits
    numbers = {key: _plain(value) for key, value in asdict(found.verdict).items()}
    unit = " points" if scale == 100 else ""
    return {
        **numbers,
        "values": list(found.values),
        "pairs": found.pairs,
        "above": found.better,
        "folds": found.folds,
        "text": found.text(scale, digits, unit),
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _predictions(reference: RepeatedRuns, other: RepeatedRuns, settings: Settings) -> list[tuple[Path, Path]]:
    """Return the files of the predictions of all runs that both have."""
    shared: list[Pair] = sorted(reference.metrics.keys() & other.metrics.keys(), key=str)
    found = []
    for seed, fold in shared:
        name = Repetition(seed, fold).name
        files = []
        for runs in (reference, other):
            recipe = RepeatSchedule.read(runs.folder).recipe
            files.append(result_file(runs.folder / name, recipe).parent / PREDICTIONS)
        found.append((files[0], files[1]))
    return found


def read_result(folder: Path) -> dict[str, Any]:
    """Return the content of an ablation.json.

    Raises:
        CheckpointError: If there is none, or it is damaged or of another version.
    """
    file = folder / RESULT
    try:
        content = dict(json.loads(file.read_text(encoding="utf-8")))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        content["arms"][0]["runs"]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CheckpointError(
            f"{file} must be the result of an ablation, but cannot be read ({error!r}). Fix: repeat the "
            "command that made it; finished runs are kept."
        ) from error
    return content
