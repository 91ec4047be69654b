"""Compare repeated runs pair by pair: the same seed and the same fold, another model."""

from __future__ import annotations

import json
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from qhybrid.config import TrainingConfig
from qhybrid.errors import CheckpointError, ConfigError
from qhybrid.metrics import METRICS, OTHER_NAMES
from qhybrid.metrics.verdict import Verdict, judge, judge_all

SUMMARY = "summary.json"
Pair = tuple[int, int | None]


@dataclass(frozen=True)
class RepeatedRuns:
    """Finished runs of one recipe.

    Attributes:
        folder: Where they lie.
        name: Name of the recipe.
        model: Its model section.
        parameters: Trained parameters of the model; None where runs do not say.
        metrics: Test metrics of each finished run, by (seed, fold).
        data: Its data section without the fold; empty where the summary does not say.
        training: Its training section; empty where the summary does not say.
        test_to_train: Test images to one training image, where there are folds.
        test_data: Identity of the test data of each finished run, where the summary says it.
        failed: Why runs have no result, by (seed, fold).
        epoch_seconds: Wall-clock seconds of an epoch, median over runs; None where the summary does not say.
    """

    folder: Path
    name: str
    model: Mapping[str, Any]
    parameters: int | None
    metrics: Mapping[Pair, Mapping[str, float]]
    data: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    test_to_train: float | None = None
    test_data: Mapping[Pair, str | None] = field(default_factory=dict)
    epoch_seconds: float | None = None
    failed: Mapping[Pair, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The model's name, with its variant if it has one."""
        variant = self.model.get("variant")
        return str(self.model["name"]) + (f" {variant}" if variant else "")

    def values(self, metric: str) -> dict[Pair, float]:
        """Return one metric of every run.

        Raises:
            ConfigError: If no run has it.
        """
        metric = OTHER_NAMES.get(metric, metric)
        found = {pair: row[metric] for pair, row in self.metrics.items() if row.get(metric) is not None}
        if not found:
            known = sorted({name for row in self.metrics.values() for name in row})
            raise ConfigError(
                f"{self.folder} has no metric `{metric}`. Fix: give one of {', '.join(known) or '(none)'}."
            )
        return found


@dataclass(frozen=True)
class Difference:
    """What two models differ by, over the pairs of runs that both have.

    Attributes:
        pairs: Number of pairs.
        better: Pairs in which the other is above the reference.
        folds: Folds that were tested; 0 where only seeds are.
        values: What is tested, each (other - reference): the differences of seeds, or the folds' means over
            their seeds.
        overlap: See `qhybrid.metrics.verdict.judge`.
        verdict: What they say, with p and margin.
    """

    pairs: int
    better: int
    folds: int
    values: tuple[float, ...]
    overlap: float
    verdict: Verdict

    @property
    def mean(self) -> float:
        """Mean of (other - reference)."""
        return self.verdict.mean

    @property
    def std(self) -> float:
        """Sample standard deviation of what is tested; NaN of a single one."""
        return self.verdict.std

    @property
    def low(self) -> float:
        """Lower end of the 95 % confidence interval of the mean; NaN of a single seed or fold."""
        return self.verdict.low

    @property
    def high(self) -> float:
        """Upper end."""
        return self.verdict.high

    @property
    def p_t(self) -> float:
        """Two-sided p of the paired t-test of this comparison alone."""
        return judge(self.values, None, self.overlap).p_different

    def text(self, scale: float = 1.0, digits: int = 3, unit: str = "") -> str:
        """Return the verdict in one of the three wordings; see `Verdict.text`."""
        if len(self.values) == 1 < self.pairs:
            return f"not decidable: {self.pairs} seeds of a single fold do not say how much folds scatter"
        return self.verdict.text(scale, digits, unit)


def read_repeats(folder: Path) -> RepeatedRuns:
    """Read the summary that repeated training left in a folder.

    Raises:
        CheckpointError: If there is none, it is damaged, or no run has finished.
    """
    file = folder / SUMMARY
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        finished = [row for row in content["runs"] if row["error"] is None]
        metrics = {
            (int(row["seed"]), row["fold"]): {
                OTHER_NAMES.get(name, name): value for name, value in row["metrics"].items()
            }
            for row in finished
        }
        parameters = finished[0].get("parameters") if finished else None
        runs = RepeatedRuns(
            folder,
            str(content["name"]),
            dict(content["model"]),
            parameters,
            metrics,
            # Summaries of earlier versions have none of these.
            dict(content.get("data", {})),
            dict(content.get("training", {})),
            content.get("test_to_train"),
            {(int(row["seed"]), row["fold"]): row.get("data_hash") for row in finished},
            _median([row.get("epoch_seconds") for row in finished]),
            {
                (int(row["seed"]), row["fold"]): str(row["error"])
                for row in content["runs"]
                if row["error"] is not None
            },
        )
    except OSError as error:
        raise CheckpointError(
            f"{file} cannot be read ({error.strerror}). Fix: give a folder of repeated runs, made with "
            "`qhybrid train RECIPE --seeds ...`."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is damaged: {error!r}. Fix: repeat the training command.") from error
    if not metrics:
        raise CheckpointError(
            f"{file} has no finished run. Fix: go on with `qhybrid train --resume {folder}`."
        )
    return runs


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def default_metric(runs: Sequence[RepeatedRuns]) -> str:
    """Return the most important metric that all of them have: the soft IoU, the mIoU, else the accuracy.

    Raises:
        ConfigError: If they have none in common.
    """
    for name in sorted(
        (key for key, _ in METRICS.items()), key=lambda name: name not in ("soft_iou", "miou")
    ):
        # `left_out` names single runs of which it is not known.
        if all(any(row.get(name) is not None for row in each.metrics.values()) for each in runs):
            return name
    raise ConfigError(
        f"{', '.join(str(each.folder) for each in runs)}: no metric is common to all runs. Fix: compare runs "
        "of the same task."
    )


def labels(runs: Sequence[RepeatedRuns]) -> list[str]:
    """Return what to call several models: name, variant, and the keys that tell models of one name apart."""
    found = []
    for each in runs:
        alike = [other.model for other in runs if other.label == each.label]
        keys = sorted({key for model in alike for key in model})
        apart = [key for key in keys if len({_plain(model.get(key)) for model in alike}) > 1]
        found.append(" ".join([each.label, *(f"{key}={_plain(each.model.get(key))}" for key in apart)]))
    if len(set(found)) < len(found):  # of one model: the recipes may have names of their own
        found = [
            f"{label} ({each.name})"
            if found.count(label) > 1 and len({one.name for one in runs}) > 1
            else label
            for label, each in zip(found, runs, strict=True)
        ]
    folders = [each.folder.name for each in runs]
    return [
        f"{label} ({each.folder if folders.count(each.folder.name) > 1 else each.folder.name})"
        if found.count(label) > 1
        else label
        for label, each in zip(found, runs, strict=True)
    ]


def _plain(value: Any) -> str:
    """Return a key's value as short text; a key that a recipe does not give has its default."""
    if value is None:
        return "default"
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def training_differences(runs: Sequence[RepeatedRuns]) -> list[str]:
    """Return the training keys in which runs differ; runs that do not say are left out.

    A key that a summary lacks is younger than it and had its default.
    """
    defaults = TrainingConfig().model_dump(mode="json")
    known = [{**defaults, **each.training} for each in runs if each.training]
    keys = sorted({key for training in known for key in training})
    return [key for key in keys if any(each.get(key) != known[0].get(key) for each in known)]


def compare_all(
    reference: RepeatedRuns, others: Mapping[str, RepeatedRuns], metric: str, margin: float | None = None
) -> dict[str, Difference]:
    """Compare several models with one; the verdicts' p are corrected by Holm over them. See `compare`."""
    found = {name: compare(reference, each, metric, margin) for name, each in others.items()}
    values = {name: one.values for name, one in found.items()}
    judged = judge_all(values, margin, {name: one.overlap for name, one in found.items()})
    return {name: replace(one, verdict=judged[name]) for name, one in found.items()}


def left_out(
    reference: RepeatedRuns, others: Mapping[str, RepeatedRuns], metric: str, called: str
) -> list[str]:
    """Return in words which runs do not count: that failed, have no such metric, or have no partner.

    Args:
        reference: The model that the others are compared with.
        others: The others, by what they are called.
        metric: What is compared.
        called: What the reference is called.
    """
    found = []
    base = reference.values(metric).keys()
    for name, each in {called: reference, **others}.items():
        own = each.values(metric).keys()
        if each.failed:
            (pair, why), *_ = each.failed.items()
            of = len(each.failed) + len(each.metrics)
            found.append(f"{name}: {len(each.failed)} of {of} runs failed, as {_called(pair)} ({why})")
        if undefined := each.metrics.keys() - own:
            found.append(f"{name}: no {metric} of {_listed(undefined)}")
        if alone := own - base - reference.failed.keys() - reference.metrics.keys():
            found.append(f"{name}: in no pair, for want of {called}, are {_listed(alone)}")
        if alone := base - own - each.failed.keys() - each.metrics.keys():
            found.append(f"{called}: in no pair, for want of {name}, are {_listed(alone)}")
    return found


def _listed(pairs: Collection[Pair]) -> str:
    return "; ".join(_called(pair) for pair in sorted(pairs, key=lambda one: (one[0], one[1] or 0)))


def _called(pair: Pair) -> str:
    return f"seed {pair[0]}" + ("" if pair[1] is None else f", fold {pair[1]}")


def compare(
    reference: RepeatedRuns, other: RepeatedRuns, metric: str, margin: float | None = None
) -> Difference:
    """Compare two models over the seeds and folds that both have finished.

    Over seeds alone it is the paired t-test of their differences; all share one test set, so it speaks of the
    randomness of training only. Over folds the differences are averaged over the seeds of each fold first,
    because more seeds of the same folds are no new test images; the K means are tested with K - 1 degrees of
    freedom and a variance of (1/K + n_test/n_train) s^2, which allows for training sets that overlap
    (C. Nadeau and Y. Bengio, Machine Learning 52, 2003).

    Args:
        reference: The model that the other one is compared with.
        other: The other one.
        metric: What is compared.
        margin: Differences up to it do not matter; without one nothing is equivalent.

    Raises:
        ConfigError: If the runs are of different recipes or data, or have no seed and fold in common.
    """
    if reference.folder.resolve() == other.folder.resolve():
        raise ConfigError(
            f"{other.folder} is compared with itself, which is always the same. Fix: name each folder once."
        )
    _check_same_test(reference, other)
    first, second = reference.values(metric), other.values(metric)
    shared = sorted(first.keys() & second.keys(), key=str)
    if not shared:
        raise ConfigError(f"{reference.folder} and {other.folder} have no seed and fold in common.")
    _check_same_images(reference, other, shared)
    differences = {pair: second[pair] - first[pair] for pair in shared}
    better = sum(difference > 0 for difference in differences.values())
    folds = sorted({fold for _, fold in shared if fold is not None})
    if not folds:
        values = tuple(differences.values())
        return Difference(len(shared), better, 0, values, 0.0, judge(values, margin))
    means = tuple(
        float(np.mean([difference for (_, of), difference in differences.items() if of == fold]))
        for fold in folds
    )
    # Summaries of earlier versions do not say; there all folds of the data set were run, without validation.
    overlap = reference.test_to_train or (1 / (len(folds) - 1) if len(folds) > 1 else 0.0)
    return Difference(len(shared), better, len(folds), means, overlap, judge(means, margin, overlap))


def _check_same_test(reference: RepeatedRuns, other: RepeatedRuns) -> None:
    # Recipes may be called otherwise, as those of the best trials of a search; what counts are their data.
    if reference.name != other.name and not (reference.data and other.data):
        raise ConfigError(
            f"{other.folder} is of recipe `{other.name}`, {reference.folder} of `{reference.name}`, and one "
            "of them does not say which data it had. Fix: compare models that were trained with one recipe, "
            "or repeat the runs of the earlier version."
        )
    if reference.data and other.data and reference.data != other.data:
        keys = sorted(reference.data.keys() | other.data.keys())
        different = [f"data.{key}" for key in keys if reference.data.get(key) != other.data.get(key)]
        raise ConfigError(
            f"{other.folder} and {reference.folder} differ in {', '.join(different)}, so their images are "
            "not the same. Fix: compare models that were trained on the same data."
        )


def _check_same_images(reference: RepeatedRuns, other: RepeatedRuns, pairs: Sequence[Pair]) -> None:
    """Check that pairs were tested on images of the same content; earlier versions do not say."""
    for pair in pairs:
        one, two = reference.test_data.get(pair), other.test_data.get(pair)
        if one is not None and two is not None and one != two:
            raise ConfigError(
                f"{other.folder} and {reference.folder} must be tested on the same data, but these differ in "
                f"content ({_called(pair)}). Fix: repeat the runs that were made before the data changed."
            )
