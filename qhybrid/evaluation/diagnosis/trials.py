"""The trials of a diagnosis: passes over the data with outputs replaced or few shots, and their verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qhybrid.engines import make_engine
from qhybrid.errors import QHybridError
from qhybrid.evaluation.diagnosis.comparing import Counts, are_steady, headline, judge_replaced, measure
from qhybrid.evaluation.diagnosis.evidence import (
    describe_layer,
    fit_surrogates,
    surrogate_r2,
    training_inputs,
)
from qhybrid.evaluation.diagnosis.interventions import (
    DRAWS,
    INTERVENTIONS,
    MEAN,
    SURROGATES,
    Evidence,
)
from qhybrid.evaluation.diagnosis.probe import Call, Probe, Replacement
from qhybrid.evaluation.diagnosis.surrogates import Surrogate
from qhybrid.evaluation.diagnosis.units import SampledUnits, Units
from qhybrid.evaluation.diagnosis.wording import conclude, verdict_text
from qhybrid.evaluation.subject.subject import Subject
from qhybrid.metrics.verdict import EQUIVALENT, Verdict
from qhybrid.seeding import derive_seed

SHARE_SAMPLES = 64
"""Images or windows that the share of the output variance is computed on."""
SHOTS = (1, 4, 16, 64, 256, 1024, 4096)
"""Numbers of shots that are tried, the smallest first."""
SHOT_ROWS = 200_000
"""Executions of circuits in a pass above which shots are not drawn."""
Show = Callable[[str, int, "int | None"], None]
"""Called with the name of a stage, what is done of it, and how much there is."""


class Trials:
    """Passes of one trained model over the same data.

    Attributes:
        key: Key of the metric.
        metric: How it is computed of confusion matrices.
        trained: Confusion matrices of the units as trained, shape (n, K, K).
        samples: Images or windows that went through the model.

    Args:
        subject: The run with its split.
        layers: Names of the layers that are looked at.
        units: What is counted.
        margin: Differences up to it do not matter.
        seed: Decides permutations, redrawn angles and shots.
        show: Called with stages and their progress.
    """

    trained: Counts
    samples: int
    _answers: Tensor | None = None

    def __init__(
        self, subject: Subject, layers: tuple[str, ...], units: Units, margin: float, seed: int, show: Show
    ) -> None:
        self._subject, self._layers, self._units = subject, layers, units
        self._margin, self._seed, self._show = margin, seed, show
        self.key, self.metric = headline(subject.task)
        engines = [subject.layers[name].engine.describe() for name in layers]
        self._exact = not any(one.get("noise") or one.get("shots") for one in engines)
        self._probe = Probe(subject.model, layers)
        self._surrogates: dict[tuple[str, int, str], Surrogate] = {}
        self._evidence = Evidence({}, {}, seed)

    def fit(self, data_root: Path, device: str | torch.device | None) -> None:
        """Fit surrogates on angles of the training split; none where it is not there."""
        inputs = training_inputs(self._subject, data_root, self._seed)
        if inputs is None or not len(inputs.images):
            return
        probe = Probe(self._subject.model, self._layers, reuse=False)
        units = SampledUnits(self._subject, inputs, device, apart=True)
        with probe.opened():
            probe.record()
            for _ in units.logits(probe, lambda done, total: self._show("training angles", done, total)):
                pass
            self._surrogates = fit_surrogates(probe.records(), inputs.names, SURROGATES, self._seed)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open the model for passes; see `Probe.opened`."""
        with self._probe.opened():
            yield

    def record(self) -> None:
        """Run the model as trained."""
        self._probe.record()
        self.trained = self._counted("as trained")
        self._answers = self._units.answers
        self.samples = self._probe.samples
        self._evidence = Evidence(self._probe.records(), self._surrogates, self._seed)

    def _counted(self, stage: str) -> Counts:
        return self._units.counts(self._probe, lambda done, total: self._show(stage, done, total))

    def _is_steady(self, answers: Tensor | None = None) -> bool:
        """Return whether the last pass gave nearly the logits of the trained model, or others."""
        found, before = self._units.answers, self._answers if answers is None else answers
        return before is not None and found is not None and are_steady(before, found)

    def describe(self) -> dict[str, dict[str, Any]]:
        """Return size, angles and surrogates of each layer."""
        records = self._evidence.records
        found = {}
        for name in self._layers:
            found[name] = describe_layer(self._subject.model, name, self._subject.layers[name], records)
            found[name]["surrogates"] = {
                kind: surrogate_r2(records, self._surrogates, name, kind, self._seed) for kind in SURROGATES
            }
        return found

    def replace(self, names: tuple[str, ...], kinds: Sequence[str] | None = None) -> dict[str, Any]:
        """Replace the outputs of some layers at once, in every way, and judge.

        Args:
            names: The layers.
            kinds: Names of interventions; all of them if absent.
        """
        what = names[0] if len(names) == 1 else "all layers"
        found: dict[str, list[Counts]] = {}
        left_out: dict[str, str] = {}
        moved = set()
        for kind in dict(INTERVENTIONS.items()) if kinds is None else kinds:
            entry = INTERVENTIONS.get(kind)
            if (reason := self._reason(names, kind)) is not None:
                left_out[kind] = reason
                continue
            for draw in range(DRAWS if entry.random else 1):
                self._probe.replace(dict.fromkeys(names, entry.make(self._evidence, draw)))
                found.setdefault(kind, []).append(self._counted(f"{what}: {entry.label}"))
                if not self._is_steady():
                    moved.add(kind)
        steady = set(found) - moved
        verdicts = judge_replaced(self.trained, found, self.metric, self._margin, steady)
        rows = [
            {
                "name": kind,
                "label": INTERVENTIONS.get(kind).label,
                "draws": len(counts),
                **self._numbers(counts, verdicts[kind]),
            }
            for kind, counts in found.items()
        ]
        values = {kind: measure(counts, self.metric).value for kind, counts in found.items()}
        trained = measure([self.trained], self.metric).value
        said = self._units.said(len(self.trained))
        conclusion = conclude(verdicts, values, trained, self.key, said, self._called(names))
        return {
            "layers": list(names),
            "label": what,
            "kind": conclusion.kind,
            "sentence": conclusion.sentence,
            "replaced": rows,
            "left_out": left_out,
        }

    def _called(self, names: tuple[str, ...]) -> str:
        plural = "its circuit" if len(names) == 1 else "its circuits"
        return plural if len(names) == len(self._subject.layers) else f"{plural} {', '.join(names)}"

    def _reason(self, names: tuple[str, ...], kind: str) -> str | None:
        """Return why layers have no such replacement; None if all have one."""
        for name in names:
            spec = self._subject.layers[name].spec
            if (reason := INTERVENTIONS.get(kind).applies(spec)) is not None:
                return f"circuit `{spec.name}`: {reason}"
            if kind in SURROGATES and (name, 0, kind) not in self._surrogates:
                return "the training data are not there"
        return None

    def _numbers(self, counts: Sequence[Counts], verdict: Verdict) -> dict[str, Any]:
        value = measure(counts, self.metric)
        interval = {"low": plain(value.low), "high": plain(value.high)}
        return {"value": value.value, **interval, **verdict_numbers(verdict, self.key)}

    def shots(self) -> dict[str, Any]:
        """Find the smallest number of shots, without noise, that is equivalent to exact values.

        Those of the trained model are exact, unless it runs under noise or shots of its own: then a pass
        without them is what shots are compared with (`exact`).
        """
        tried: list[dict[str, Any]] = []
        records = (record for name in self._layers for record in self._evidence.records[name])
        rows = sum(record.inputs.shape[0] * record.inputs.shape[1] for record in records)
        if rows > SHOT_ROWS:
            reason = f"{rows:,} executions in a pass, and shots are drawn for at most {SHOT_ROWS:,}"
            return {"tried": tried, "enough": None, "left_out": reason}
        exact, answers = self.trained, self._answers
        if not self._exact:
            self._probe.replace(dict.fromkeys(self._layers, _values_by(make_engine("exact"))))
            exact, answers = self._counted("without noise and shots"), self._units.answers
        ends = {"exact": measure([exact], self.metric).value}
        for shots in SHOTS:
            engine = make_engine("exact", shots=shots, seed=derive_seed(self._seed, "shots", shots) % 2**31)
            self._probe.replace(dict.fromkeys(self._layers, _values_by(engine)))
            try:
                counts = self._counted(f"{shots} shots")
            except QHybridError as error:
                return {"tried": tried, "enough": None, "left_out": str(error)}
            steady = ("shots",) if self._is_steady(answers) else ()
            (verdict,) = judge_replaced(
                exact, {"shots": [counts]}, self.metric, self._margin, steady
            ).values()
            tried.append({"shots": shots, **self._numbers([counts], verdict)})
            if verdict.kind == EQUIVALENT:
                return {"tried": tried, "enough": shots, "left_out": None, **ends}
        return {"tried": tried, "enough": None, "left_out": None, **ends}


def _values_by(engine: Any) -> Replacement:
    """Return what replaces a layer's outputs by those of another engine."""

    def replace(call: Call) -> Tensor:
        values: Tensor = engine.expectations(call.spec, call.inputs, call.weights)
        return values

    return replace


def verdict_numbers(verdict: Verdict, key: str) -> dict[str, Any]:
    """Return a verdict on a difference of a metric as plain values for JSON."""
    return {
        "difference": verdict.mean,
        "difference_low": plain(verdict.low),
        "difference_high": plain(verdict.high),
        "p_different": plain(verdict.p_different),
        "p_equivalent": plain(verdict.p_equivalent),
        "detectable": plain(verdict.finds),
        "verdict": verdict.kind,
        "text": verdict_text(key, verdict),
    }


def output_shares(
    subject: Subject,
    layers: tuple[str, ...],
    samples: int | None,
    seed: int,
    device: str | torch.device | None,
) -> dict[str, float | None]:
    """Return the share of the logits' variance that passes each layer, and `all` of them.

    With z the logits less their mean over classes, and z' those with the layer's outputs at their mean over
    the
    samples: sum of (z - z')^2 / sum of (z - mean z)^2, the mean over samples (and pixels) of each class.
    Where what passes the layer adds to the rest and is independent of it, this is its part of the variance.
    """
    inputs = subject.inputs(min(SHARE_SAMPLES, samples or SHARE_SAMPLES), seed)
    assert inputs is not None  # the split was counted before
    units = SampledUnits(subject, inputs, device)
    probe = Probe(subject.model, layers)
    found: dict[str, float | None] = {}
    with probe.opened():
        probe.record()
        logits = _centred(torch.cat(list(units.logits(probe))))
        mean = INTERVENTIONS.get(MEAN).make(Evidence(probe.records(), {}, seed), 0)
        axes = [axis for axis in range(logits.ndim) if axis != 1]
        spread = float((logits - logits.mean(dim=axes, keepdim=True)).square().sum())
        for label, names in (*((name, (name,)) for name in layers), ("all", layers)):
            probe.replace(dict.fromkeys(names, mean))
            changed = _centred(torch.cat(list(units.logits(probe))))
            found[label] = float((changed - logits).square().sum()) / spread if spread > 0 else None
    return found


def _centred(logits: Tensor) -> Tensor:
    """Return logits less their mean over classes, which no probability depends on."""
    return logits.double() - logits.double().mean(dim=1, keepdim=True)


def plain(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return value if math.isfinite(value) else None
