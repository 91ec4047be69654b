"""Compare repeated runs pair by pair: the same seed and the same fold, another model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from qhybrid.errors import CheckpointError, ConfigError
from qhybrid.evaluation.repeat_summary import HEADLINES

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
    """

    folder: Path
    name: str
    model: Mapping[str, Any]
    parameters: int | None
    metrics: Mapping[Pair, Mapping[str, float]]

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
        mean: Mean of (other - reference).
        std: Sample standard deviation of these differences; NaN of one pair.
        low: Lower end of the 95 % confidence interval of the mean.
        high: Upper end.
        p_t: Two-sided p of the paired t-test.
        p_wilcoxon: Two-sided p of Wilcoxon's signed-rank test, which knows nothing of the correction below.
        better: Pairs in which the other is above the reference.
        corrected: Whether the t-test allows for training sets that overlap (folds).
    """

    pairs: int
    mean: float
    std: float
    low: float
    high: float
    p_t: float
    p_wilcoxon: float
    better: int
    corrected: bool


def read_repeats(folder: Path) -> RepeatedRuns:
    """Read the summary that repeated training left in a folder.

    Raises:
        CheckpointError: If there is none, it is damaged, or no run has finished.
    """
    file = folder / SUMMARY
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        finished = [row for row in content["runs"] if row["error"] is None]
        metrics = {(int(row["seed"]), row["fold"]): dict(row["metrics"]) for row in finished}
        parameters = finished[0].get("parameters") if finished else None
        runs = RepeatedRuns(folder, str(content["name"]), dict(content["model"]), parameters, metrics)
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


def default_metric(runs: Sequence[RepeatedRuns]) -> str:
    """Return the most important metric that all of them have.

    Raises:
        ConfigError: If they have none in common.
    """
    for name in HEADLINES:
        if all(name in row for each in runs for row in each.metrics.values()):
            return name
    raise ConfigError(
        f"{', '.join(str(each.folder) for each in runs)}: no metric is common to all runs. Fix: compare runs "
        "of the same task."
    )


def compare(reference: RepeatedRuns, other: RepeatedRuns, metric: str) -> Difference:
    """Compare two models over the seeds and folds that both have finished.

    Where there are folds, the variance of the mean is multiplied for training sets that overlap: with K folds
    and J pairs it is (1/J + 1/(K-1)) s^2 instead of s^2/J (the corrected test for repeated cross-validation;
    C. Nadeau and Y. Bengio, Machine Learning 52, 2003; R. Bouckaert and E. Frank, PAKDD 2004). Seeds alone
    share one test set: the test then speaks of training's randomness only.

    Raises:
        ConfigError: If the runs are of different recipes, or have no seed and fold in common.
    """
    if reference.name != other.name:
        raise ConfigError(
            f"{other.folder} is of recipe `{other.name}`, {reference.folder} of `{reference.name}`. Fix: "
            "compare models that were trained with one recipe."
        )
    first, second = reference.values(metric), other.values(metric)
    shared = sorted(first.keys() & second.keys(), key=str)
    if not shared:
        raise ConfigError(f"{reference.folder} and {other.folder} have no seed and fold in common.")
    differences = np.array([second[pair] - first[pair] for pair in shared])
    folds = {fold for _, fold in shared if fold is not None}
    overlap = 1 / (len(folds) - 1) if len(folds) > 1 else 0.0
    return _statistics(differences, overlap)


def _statistics(differences: np.ndarray, overlap: float) -> Difference:
    count = len(differences)
    mean = float(differences.mean())
    std = float(differences.std(ddof=1)) if count > 1 else math.nan
    error = std * math.sqrt(1 / count + overlap)
    if count < 2:
        half, p_t = math.nan, math.nan
    elif error == 0:
        half, p_t = 0.0, 1.0 if mean == 0 else 0.0
    else:
        half = float(stats.t.ppf(0.975, count - 1)) * error
        p_t = float(2 * stats.t.sf(abs(mean) / error, count - 1))
    changed = bool(np.any(differences != 0))
    p_wilcoxon = float(stats.wilcoxon(differences).pvalue) if changed and count > 1 else math.nan
    better = int(np.sum(differences > 0))
    return Difference(count, mean, std, mean - half, mean + half, p_t, p_wilcoxon, better, overlap > 0)
