"""The chapter on what circuits matter: short forms of evaluations, and diagnoses of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qhybrid.errors import QHybridError
from qhybrid.evaluation.diagnosis.diagnose import PICTURE
from qhybrid.evaluation.diagnosis.interventions import DECISIVE
from qhybrid.evaluation.diagnosis.wording import fitted_on, shots_said, show, show_difference
from qhybrid.evaluation.subject.subject import weights_hash
from qhybrid.metrics import DASH, metric_label
from qhybrid.report.parts import Figure, Table
from qhybrid.report.pictures import Pictures
from qhybrid.report.run_part import NOT_RECORDED, Titled, evaluations_of
from qhybrid.report.sources import RunSource


@dataclass
class DiagnosisPart:
    """One diagnosis.

    Attributes:
        title: Run, split and layers.
        verdicts: One sentence for each layer, and for all of them.
        tables: Replacements, one table for each layer and for all of them.
        layers: What the layers are and what reaches them.
        remarks: What was left out.
        figures: The page of pictures.
    """

    title: str
    verdicts: list[str]
    tables: list[tuple[str, Table]]
    layers: Table
    remarks: list[str] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


@dataclass
class UsePart:
    """The chapter.

    Attributes:
        short: Short forms of evaluations; None where there are none.
        sentences: Their verdicts.
        diagnoses: Whole diagnoses.
        remarks: Diagnoses of weights that are no longer there.
    """

    short: Table | None
    sentences: list[str]
    diagnoses: list[DiagnosisPart]
    remarks: list[str]


def use_part(runs: Titled, pictures: Pictures) -> UsePart | None:
    """Return the chapter; None where nothing is known.

    Args:
        runs: Titles and runs.
        pictures: Makes the pictures.
    """
    rows, sentences, diagnoses, remarks = [], [], [], []
    for title, run in runs:
        for _, label, found in evaluations_of(run):
            use = found.get("circuit_use")
            if isinstance(use, Mapping):
                rows += [] if "not_diagnosed" in use else [(f"{title}, {label}", *_short_row(use))]
                sentences.append(f"{title}, {label}: {use.get('sentence') or use['line']}")
        for name, content in run.diagnoses.items():
            if _is_of_these_weights(run, content):
                diagnoses.append(_diagnosis(title, run, name, content, pictures))
            else:
                remarks.append(f"{title}: a diagnosis in {name} is of other weights than the run has now.")
    if not (sentences or diagnoses or remarks):
        return None
    heads = ("evaluation", "metric", "trained", *DECISIVE, "verdict", "counted")
    return UsePart(Table(heads, rows, (2, 3, 4, 5)) if rows else None, sentences, diagnoses, remarks)


def _is_of_these_weights(run: RunSource, content: Mapping[str, Any]) -> bool:
    try:
        return weights_hash(run.folder, str(content["which"])) == str(content["weights"])
    except QHybridError:
        return False


def _short_row(use: Mapping[str, Any]) -> tuple[str, ...]:
    key, replaced = str(use["metric"]), use["replaced"]
    values = (show(key, replaced[kind]["value"]) for kind in DECISIVE)
    return (metric_label(key), show(key, use["trained"]), *values, str(use["kind"]), str(use["counted"]))


def _diagnosis(
    title: str, run: RunSource, name: str, content: Mapping[str, Any], pictures: Pictures
) -> DiagnosisPart:
    key = str(content["metric"])
    counted = f"{content['split']} split, {content['units']} {content['unit']}"
    part = DiagnosisPart(
        f"{title}, {counted}",
        [target["sentence"] for target in content["targets"]],
        [(target["label"], _replaced(key, content, target)) for target in content["targets"]],
        _layers(content),
    )
    part.remarks.append(f"Shots: {shots_said(content)}.")
    for target in content["targets"]:
        reasons = (f"{kind} ({reason})" for kind, reason in target["left_out"].items())
        if said := ", ".join(reasons):
            part.remarks.append(f"{target['label']}: left out are {said}.")
    file = run.folder / "diagnosis" / name / PICTURE
    part.figures = pictures.figure(file, f"{title}: differences to the trained model, shots, angles.")
    return part


def _replaced(key: str, content: Mapping[str, Any], target: Mapping[str, Any]) -> Table:
    trained = content["trained"]
    ends = trained["low"], trained["high"]
    rows = [("as trained", show(key, trained["value"]), _interval(key, *ends, sign=False), DASH, DASH, DASH)]
    for row in target["replaced"]:
        rows.append(
            (
                row["label"],
                show(key, row["value"]),
                _interval(key, row["low"], row["high"], sign=False),
                show_difference(key, row["difference"]),
                _interval(key, row["difference_low"], row["difference_high"]),
                row["text"],
            )
        )
    name = metric_label(key)
    heads = ("outputs", name, "95 % interval", "difference", "95 % interval of it", "verdict")
    return Table(heads, rows, (1, 2, 3, 4))


def _interval(key: str, low: float | None, high: float | None, *, sign: bool = True) -> str:
    if low is None or high is None:
        return DASH
    return " to ".join(show_difference(key, end, sign=sign, unit=False) for end in (low, high))


def _layers(content: Mapping[str, Any]) -> Table:
    """Return one column a layer: size, shares of parameters and output variance, angles, gradients."""
    columns = []
    for layer in content["layers"].values():
        angles = layer["angles"] or {}
        best = max((value for value in layer["surrogates"].values() if value is not None), default=None)
        columns.append(
            (
                str(layer["circuit"]),
                str(layer["qubits"]),
                f"{layer['trained_parameters']:,} ({_percent(layer['share_of_parameters'])})",
                _percent(layer["share_of_output_variance"]),
                _percent(angles.get("arcs")),
                _percent(angles.get("saturated")),
                DASH if best is None else f"{best:.3f}",
                _gradients(layer["gradients"]),
            )
        )
    names = (
        "circuit",
        "qubits",
        "trained weights (of all parameters)",
        "variance of the logits through it",
        "part of the circle that angles are on",
        "saturated angles",
        f"R² of the best surrogate on {fitted_on(content)}",
        "gradient norm in training: weights, inputs",
    )
    rows = [(name, *values) for name, values in zip(names, zip(*columns))]
    return Table(("", *content["layers"]), rows, tuple(range(1, 1 + len(columns))))


def _gradients(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return NOT_RECORDED
    means = (found.get(name) for name in ("weights", "inputs"))
    return ", ".join(DASH if one is None else f"{one['mean']:.2g}" for one in means)


def _percent(share: float | None) -> str:
    return DASH if share is None else f"{100 * share:.3g} %"
