"""The verdict on a model and its circuits, in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qhybrid.evaluation.diagnosis.interventions import DECISIVE, MEAN, PERMUTED, ZERO
from qhybrid.metrics import PERCENT, find_metric
from qhybrid.metrics.verdict import DIFFERENT, EQUIVALENT, Verdict

NOT_USED, USED, CONSTANT, HARMFUL, UNDECIDED = "not used", "used", "constant", "harmful", "not decidable"


@dataclass(frozen=True)
class Conclusion:
    """What the replacements say of a circuit.

    Attributes:
        kind: `not used`; `used`; `constant` (only the mean of its outputs is used); `harmful` (the metric is
            better without what it says); or `not decidable`.
        sentence: The verdict for readers.
    """

    kind: str
    sentence: str


def conclude(
    verdicts: Mapping[str, Verdict],
    values: Mapping[str, float],
    trained: float,
    key: str,
    units: str,
    what: str = "its circuit",
) -> Conclusion:
    """Return the verdict on a circuit, or on all circuits of a model.

    A model does not use its circuit where mean, zero and permuted outputs are each equivalent to the trained
    ones. It uses what the circuit says of the input where the mean or the outputs of other samples, which
    hold nothing of the input, are different and worse.

    Args:
        verdicts: Of the replacements, replaced - trained; those of `DECISIVE` among them.
        values: Metric of each replacement.
        trained: Metric of the trained model.
        key: Key of the metric.
        units: What was counted, as in "64 images".
        what: What the circuits are called in the sentence.
    """
    name = find_metric(key).label
    found = {one: verdicts[one].kind for one in DECISIVE}
    numbers = f"{name} is {show(key, trained)} as trained, {listed(key, values)}"
    margin = show_difference(key, verdicts[MEAN].margin or 0.0, sign=False)
    if all(kind == EQUIVALENT for kind in found.values()):
        said = f"{numbers}, each equivalent within {margin} ({units})"
        return Conclusion(NOT_USED, f"This model does not use {what}: {said}.")
    telling = [one for one in (MEAN, PERMUTED) if found[one] == DIFFERENT]
    if telling:
        return _used(telling, verdicts, key, units, what)
    if found[MEAN] == found[PERMUTED] == EQUIVALENT and found[ZERO] == DIFFERENT:
        return Conclusion(
            CONSTANT,
            f"This model uses {what} as a constant alone: {numbers}; mean and permuted outputs are "
            f"equivalent to the trained ones within {margin} ({units}).",
        )
    open_ones = [verdicts[one].finds for one in DECISIVE if found[one] not in (EQUIVALENT, DIFFERENT)]
    largest = float("nan") if any(map(math.isnan, open_ones)) else max(open_ones, default=float("nan"))
    limit = (
        f"this sample finds differences above {show_difference(key, largest, sign=False)} only"
        if largest == largest
        else "so few units do not say how much they scatter"
    )
    return Conclusion(
        UNDECIDED, f"Whether this model uses {what} is not decidable: {limit}; {numbers} ({units})."
    )


def _used(telling: list[str], verdicts: Mapping[str, Verdict], key: str, units: str, what: str) -> Conclusion:
    better = find_metric(key).larger_is_better
    worst = max(telling, key=lambda one: abs(verdicts[one].mean))
    found = verdicts[worst]
    loss = found.mean < 0 if better else found.mean > 0
    interval = f"95 % interval {show_difference(key, found.low)} to {show_difference(key, found.high)}"
    how = "at their mean" if worst == MEAN else "permuted over samples"
    size = f"different by {show_difference(key, found.mean)} {find_metric(key).label} ({interval}; {units})"
    if loss:
        return Conclusion(USED, f"This model uses {what}: with outputs {how} it is {size}.")
    return Conclusion(HARMFUL, f"This model would do better without {what}: with outputs {how} it is {size}.")


def listed(key: str, values: Mapping[str, float]) -> str:
    """Return the metrics of the decisive replacements in words."""
    return (
        f"{show(key, values[MEAN])} with outputs at their mean, {show(key, values[ZERO])} at zero and "
        f"{show(key, values[PERMUTED])} permuted over samples"
    )


def fitted_on(content: Mapping[str, Any]) -> str:
    """Return which angles the R^2 of a diagnosis is of: held-out ones, but of the training split."""
    return "held-out angles" if content.get("held_out_angles", True) else "angles of training, some fitted"


def shots_said(content: Mapping[str, Any]) -> str:
    """Return in words how many shots are enough to stay within the margin.

    That more are needed is a finding only where the largest number is different: a sample that is too small
    finds no number equivalent, whatever shots do.

    Args:
        content: What diagnosis.json holds.
    """
    shots, key = content["shots"], str(content["metric"])
    if shots["left_out"]:
        return f"not tried ({shots['left_out']})"
    if shots["enough"] is not None:
        return f"{shots['enough']:,} of every basis are enough to stay within the margin, without noise"
    last = shots["tried"][-1]
    if last["verdict"] == DIFFERENT:
        return f"more than {last['shots']:,} are needed to stay within the margin"
    limit = "does not say how much it scatters"
    if last["detectable"] is not None:
        limit = f"finds differences above {show_difference(key, last['detectable'], sign=False)} only"
    return f"how many are enough is not decidable, {last['shots']:,} neither: this sample {limit}"


def show(key: str, value: float) -> str:
    """Return a metric for readers."""
    return find_metric(key).show(value)


def show_difference(key: str, value: float, *, sign: bool = True, unit: bool = True) -> str:
    """Return a difference of a metric for readers: of one in per cent in points."""
    metric = find_metric(key)
    points = " points" if unit and metric.unit == PERCENT else ""
    return f"{metric.number(value):{'+' if sign else ''}.{metric.digits}f}{points}"


def verdict_text(key: str, verdict: Verdict) -> str:
    """Return the verdict on one replacement in one of the three wordings."""
    metric = find_metric(key)
    return verdict.text(metric.number(1.0), metric.digits, " points" if metric.unit == PERCENT else "")
