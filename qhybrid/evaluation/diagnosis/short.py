"""The short form: mean, zero and permuted outputs on a few images or windows, in one line."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from qhybrid.evaluation.diagnosis.comparing import (
    are_steady,
    headline,
    judge_replaced,
    measure,
    stated_margin,
)
from qhybrid.evaluation.diagnosis.interventions import DECISIVE, INTERVENTIONS, Evidence
from qhybrid.evaluation.diagnosis.probe import Probe
from qhybrid.evaluation.diagnosis.trials import plain, verdict_numbers
from qhybrid.evaluation.diagnosis.units import SampledUnits
from qhybrid.evaluation.diagnosis.wording import (
    CONSTANT,
    HARMFUL,
    NOT_USED,
    USED,
    conclude,
    show,
    show_difference,
)
from qhybrid.evaluation.subject.results import ModelInputs
from qhybrid.evaluation.subject.scenes import SceneSubject
from qhybrid.evaluation.subject.subject import Subject
from qhybrid.metrics import find_metric
from qhybrid.metrics.margin import check_margin
from qhybrid.metrics.verdict import DIFFERENT, EQUIVALENT

SAMPLES = 64
"""Images or windows at most."""
LEAST_SECONDS, SHARE = 20.0, 0.1
"""It may take this long, or this share of the evaluation, whichever is larger."""
PATIENCE = 5
"""On a machine that does other things, it takes at most so many times the limit by the wall clock."""
DECIDED = (EQUIVALENT, DIFFERENT)
_VALUES = 2**26
"""Numbers of all images together at most."""
_TRIAL = 2
_FEWEST = 4
_PASSES = 1 + len(DECISIVE)


class _LateError(Exception):
    """The time is over."""


class _Budget:
    """Seconds that may be spent: of work, so that a busy machine costs no samples.

    A second counts as the wall clock or the processor time of this process has it, whichever is less; where
    others do the work, as a GPU does, at least `1 / PATIENCE` of the wall clock counts.

    Args:
        limit: Seconds.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def spent(self) -> float:
        """Return the seconds that were spent."""
        wall = time.perf_counter() - self._wall
        return max(min(wall, time.process_time() - self._processor), wall / PATIENCE)

    def left(self) -> float:
        """Return the seconds that are left."""
        return self.limit - self.spent()

    def check(self, done: int, total: int) -> None:
        """Stop a pass when the time is over.

        Raises:
            _LateError: If it is.
        """
        if done < total and self.left() < 0:
            raise _LateError


def short_diagnosis(
    subject: Subject,
    seconds: float,
    *,
    device: str | torch.device | None = None,
    margin: float | None = None,
    seed: int = 0,
    budget: float | None = None,
) -> dict[str, Any] | None:
    """Replace the outputs of all quantum layers at once, on at most 64 images or windows drawn at random.

    The model runs on the engines that are set; it is left as it was found. All its quantum layers are
    replaced together, each kind of replacement with one draw. Fewer samples are taken where the time does not
    suffice.

    Args:
        subject: The run with its split.
        seconds: What the evaluation took.
        device: Where the model runs; None leaves it where it is.
        margin: Differences of the metric up to it do not matter; the recipe's `ablation.margin` if absent.
        seed: Decides the samples and the permutation.
        budget: Seconds of work that it may take; 20, or a tenth of the evaluation if that is more.

    Returns:
        Plain values: metrics, verdict, `line` for the terminal; or only why there are none (`not_diagnosed`).
        None for a model without quantum layers.
    """
    layers = tuple(subject.layers)
    if not layers:
        return None
    started = time.perf_counter()
    limit = max(LEAST_SECONDS, SHARE * seconds) if budget is None else budget
    found: dict[str, Any]
    try:
        found = _within(subject, layers, _Budget(limit), device, margin, seed)
    except _LateError:
        found = {"not_diagnosed": f"{_FEWEST} samples take longer than {limit:.0f} s"}
    except Exception as error:  # code of others: it must not cost the evaluation
        found = {"not_diagnosed": str(error) or type(error).__name__}
    found["seconds"] = round(time.perf_counter() - started, 3)
    found["line"] = in_one_line(found)
    return found


def _within(
    subject: Subject,
    layers: tuple[str, ...],
    budget: _Budget,
    device: str | torch.device | None,
    margin: float | None,
    seed: int,
) -> dict[str, Any]:
    """Take as many samples as there is time for.

    Raises:
        _LateError: If there is too little time for a few.
    """
    inputs = subject.inputs(_most(subject), seed)
    if inputs is None:
        return {"not_diagnosed": "nothing in the split has a label"}
    wanted = len(inputs.images)
    each = _seconds_each(subject, layers, inputs, device, budget)
    count = min(wanted, int(budget.left() / (_PASSES * each))) if each else wanted
    probe = Probe(subject.model, layers)
    with probe.opened():
        while True:
            if count < min(_FEWEST, wanted):
                raise _LateError
            units = SampledUnits(subject, _first(inputs, count), device)
            before = budget.spent()
            probe.record()
            trained = units.counts(probe, budget.check)
            if budget.left() >= len(DECISIVE) * (budget.spent() - before):  # enough for all other passes
                break
            count //= 2
        evidence = Evidence(probe.records(), {}, seed)
        counts, answers, steady = {}, units.answers, set()
        for kind in DECISIVE:
            probe.replace(dict.fromkeys(layers, INTERVENTIONS.get(kind).make(evidence, 0)))
            counts[kind] = [units.counts(probe, budget.check)]
            if answers is not None and units.answers is not None and are_steady(answers, units.answers):
                steady.add(kind)
    key, metric = headline(subject.task)
    margin = stated_margin(subject.recipe, key) if margin is None else margin
    check_margin(margin, key, "Argument `margin`")
    value = measure([trained], metric).value
    values = {kind: measure(one, metric).value for kind, one in counts.items()}
    verdicts = judge_replaced(trained, counts, metric, margin, steady)
    said = units.said(len(trained))
    called = "its circuit" if len(layers) == 1 else "its circuits"
    conclusion = conclude(verdicts, values, value, key, said, called)
    return {
        "kind": conclusion.kind,
        "sentence": conclusion.sentence,
        "metric": key,
        "trained": value,
        "replaced": {
            kind: {"value": plain(values[kind]), **verdict_numbers(verdicts[kind], key)} for kind in DECISIVE
        },
        "counted": said,
        "samples": count,
        "asked": wanted,
        "units": len(trained),
        "margin": margin,
        "seed": seed,
        "layers": list(layers),
    }


def _seconds_each(
    subject: Subject,
    layers: tuple[str, ...],
    inputs: ModelInputs,
    device: str | torch.device | None,
    budget: _Budget,
) -> float:
    """Return what a sample takes in one whole pass, tried on two."""
    probe = Probe(subject.model, layers, reuse=False)
    count = min(_TRIAL, len(inputs.images))
    units = SampledUnits(subject, _first(inputs, count), device)
    with probe.opened():
        before = budget.spent()
        probe.record()
        units.counts(probe, budget.check)
        return (budget.spent() - before) / count


def _most(subject: Subject) -> int:
    """Return how many samples fit into memory."""
    if not isinstance(subject, SceneSubject):
        return SAMPLES
    values = max(1, len(subject.run.bands) * subject.run.patch_size**2)
    return max(_FEWEST, min(SAMPLES, _VALUES // values))


def _first(inputs: ModelInputs, count: int) -> ModelInputs:
    """Return samples that are evenly spread over those that were drawn."""
    chosen = torch.linspace(0, len(inputs.images) - 1, count).round().long()
    return inputs.take(chosen)


def in_one_line(found: Mapping[str, Any]) -> str:
    """Return the short form in one line.

    Args:
        found: What `short_diagnosis` returns.
    """
    if "not_diagnosed" in found:
        return f"use not diagnosed: {found['not_diagnosed']}"
    key, replaced = found["metric"], found["replaced"]
    numbers = ", ".join(f"{kind} {show(key, replaced[kind]['value'])}" for kind in DECISIVE)
    numbers = f"{find_metric(key).label} {show(key, found['trained'])}, outputs replaced: {numbers}"
    fewer = ", as many as the time allows" if found["samples"] < found["asked"] else ""
    said = {
        NOT_USED: "not used",
        USED: "used",
        HARMFUL: "does harm",
        CONSTANT: "used as a constant alone",
    }.get(found["kind"])
    if said is None:
        # Limits of the undecided ones alone. A limit is absent where so few units are all equal.
        limits = [one["detectable"] for one in replaced.values() if one["verdict"] not in DECIDED]
        known = bool(limits) and None not in limits
        below = f"below {show_difference(key, max(limits), sign=False)}" if known else "by so few"
        said = f"use not decidable {below}"
    return f"{said}: {numbers} ({found['counted']}{fewer})"
