"""The metrics of a split: those of the package, and those of plugins, none of which stops the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import MetricError
from qhybrid.metrics import METRICS, Metric, Sample, Totals, metrics_of, version_of


@dataclass(frozen=True)
class Measured:
    """Numbers of a split.

    Attributes:
        values: By the keys of files, the headline first. A class that does not occur has none.
        versions: What was measured: versions of the metrics' code by their keys.
        failed: Why metrics have no number, by their keys.
    """

    values: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def check(self, evaluation: Any = None) -> None:
        """Raise what went wrong.

        Args:
            evaluation: What the error carries, so that the rest is not lost.

        Raises:
            MetricError: If a metric has failed; the message names all of them.
        """
        if self.failed:
            raise MetricError(
                f"{' '.join(self.failed.values())} All other metrics were computed and are kept.", evaluation
            )


class Tally:
    """Adds up what metrics count, sample by sample.

    Args:
        metrics: The metrics.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = tuple(metrics)
        self._sums: dict[str, NDArray[Any]] = {}
        self._failed: dict[str, str] = {}

    @classmethod
    def of(cls, task: str) -> Tally:
        """Return a tally of all metrics of a task."""
        return cls(metrics_of(task))

    @property
    def counting(self) -> tuple[Metric, ...]:
        """Metrics that look at every sample; without any, samples need not be added."""
        return tuple(one for one in self._metrics if one.count is not None and one.key not in self._failed)

    def add_all(self, samples: Iterable[Sample]) -> None:
        """Count samples; none is made if no metric looks at them."""
        if self.counting:
            for sample in samples:
                self.add(sample)

    def add(self, sample: Sample) -> None:
        """Count one sample; code of others may look at it, but cannot change it."""
        sample = _read_only(sample)
        for metric in self.counting:
            assert metric.count is not None
            try:
                found = np.asarray(metric.count(sample), dtype=np.float64)
                before = self._sums.get(metric.key)
                if before is not None and before.shape != found.shape:
                    raise ValueError(f"`count` gave shape {before.shape}, then {found.shape}")
                self._sums[metric.key] = found if before is None else before + found
            except Exception as error:  # code of others: one metric must not cost the rest
                self._failed[metric.key] = _failure(metric, error)

    def measure(self, totals: Totals) -> Measured:
        """Return all numbers.

        Args:
            totals: What the evaluation counted by itself.
        """
        found = Measured(failed=dict(self._failed))
        for metric in self._metrics:
            if metric.value is None or metric.key in found.failed:
                continue
            try:
                if metric.count is not None and metric.key not in self._sums:
                    raise ValueError("no sample was counted")
                value = metric.value(totals if metric.count is None else self._sums[metric.key])
                found.values.update(_by_key(metric, value))
                found.versions[metric.key] = version_of(metric)
            except Exception as error:
                found.failed[metric.key] = _failure(metric, error)
        return found


def _read_only(sample: Sample) -> Sample:
    """Return a sample whose arrays refuse to be written: a test set in memory is used again and again."""
    probabilities = None if sample.probabilities is None else _locked(sample.probabilities)
    return replace(
        sample,
        predicted=_locked(sample.predicted),
        truth=_locked(sample.truth),
        probabilities=probabilities,
    )


def _locked(values: NDArray[Any]) -> NDArray[Any]:
    view = values.view()
    view.flags.writeable = False
    return view


def _by_key(metric: Metric, value: float | Mapping[str, float]) -> dict[str, float]:
    if not isinstance(value, Mapping):
        return {metric.key: float(value)}
    numbers = {str(name): float(number) for name, number in value.items()}
    stem = metric.stem or metric.key
    return {f"{stem} {name}": number for name, number in numbers.items() if not math.isnan(number)}


def _failure(metric: Metric, error: Exception) -> str:
    origin = METRICS.origin(metric.key)
    where = "" if origin is None else f" of plugin `{origin.name}`"
    return f"Metric `{metric.key}`{where} failed ({type(error).__name__}: {error})."
