"""Trained models side by side: repeated runs of several, compared pair by pair."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qhybrid.api.lookup import find_repeats
from qhybrid.api.run import FilePath
from qhybrid.api.studies import Repeats
from qhybrid.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from qhybrid.experiments.repeats.comparison import Difference, RepeatedRuns

MARGIN = 0.005
"""Half a point of accuracy."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models of one recipe, and what the others differ by from the first.

    Attributes:
        metric: What was compared.
        margin: Differences up to it do not matter.
        runs: The runs of each model, by what it is called; the first is the reference.
        differences: What each of the others differs by; p of the verdicts is corrected by Holm over them.
        remarks: Runs that do not count, and what was not trained alike, in words.
    """

    metric: str
    margin: float
    runs: Mapping[str, RepeatedRuns]
    differences: Mapping[str, Difference]
    remarks: tuple[str, ...]

    @property
    def verdicts(self) -> dict[str, str]:
        """What the difference of each model to the first decides, in words."""
        from qhybrid.metrics import find_metric

        shown = find_metric(self.metric)
        scale = int(shown.number(1))
        unit = " points" if scale == 100 else ""
        return {label: one.text(scale, shown.digits, unit) for label, one in self.differences.items()}

    @property
    def results(self) -> pd.DataFrame:
        """One row a model, in fractions: weights, runs, mean, std, difference, interval, p, finds, verdict.

        `p` is of the comparison alone, `p_corrected` is corrected by Holm over all of them.
        """
        import pandas as pd

        rows = []
        for label, each in self.runs.items():
            values = list(each.values(self.metric).values())
            row = {
                "model": label,
                "weights": each.parameters,
                "runs": len(values),
                "mean": statistics.fmean(values),
                "std": statistics.stdev(values) if len(values) > 1 else None,
            }
            if (one := self.differences.get(label)) is not None:
                row |= {
                    "difference": one.mean,
                    "low": one.low,
                    "high": one.high,
                    "p": one.p_t,
                    "p_corrected": one.verdict.p_different,
                    "finds": one.verdict.detectable,
                    "verdict": self.verdicts[label],
                }
            rows.append(row)
        return pd.DataFrame(rows)


def compare(
    reference: FilePath | Repeats,
    *others: FilePath | Repeats,
    metric: str | None = None,
    margin: float = MARGIN,
) -> Comparison:
    """Compare repeated runs of several models with those of one: over the seeds and folds that both have.

    Args:
        reference: What `repeat` returned, its folder, or a name in ./runs.
        others: The same of other models.
        metric: Such as accuracy, soft_iou, iou; otherwise the most important one that all have.
        margin: Differences up to it do not matter; 0.005 is half a point of accuracy.

    Raises:
        CheckpointError: If a folder holds no finished repeated runs.
        ConfigError: If nothing is to be compared, a folder is given twice, or the models were not tested on
            the same data.
    """
    from qhybrid.experiments.repeats import comparison
    from qhybrid.metrics.margin import check_margin

    if not others:
        raise ConfigError("A comparison needs at least two folders of repeated runs, but has one.")
    given = [one.folder if isinstance(one, Repeats) else one for one in (reference, *others)]
    folders = [find_repeats(str(one)) or Path(one) for one in given]
    places = [folder.resolve() for folder in folders]  # however they are written
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"{folder} is given twice. Fix: give each model's runs once.")
    runs = [comparison.read_repeats(folder) for folder in folders]
    name = metric or comparison.default_metric(runs)
    check_margin(margin, name, "The margin")
    first, *labels = comparison.labels(runs)
    compared = dict(zip(labels, runs[1:], strict=True))
    differences = comparison.compare_all(runs[0], compared, name, margin)
    remarks = comparison.left_out(runs[0], compared, name, first)
    if different := comparison.training_differences(runs):
        remarks.append(f"The models were not trained alike: {', '.join(different)} differ.")
    return Comparison(name, margin, {first: runs[0], **compared}, differences, tuple(remarks))
