"""Results of a plan: predictions, metrics, deviations from exact values, and predicted against obtained.

results/metrics.json            accuracy obtained and predicted, cost, duplicates
results/predictions.csv         one row a sample: class and truth, or the share of right pixels
results/outputs.safetensors     logits and classes of all samples
results/deviations.csv          one row an observable: deviation from its exact value, with error bars
results/partial.csv             predictions of complete samples of a plan that is not finished
results/calibration.yaml        the device's calibration when the results were there (devices of the service)
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from qhybrid.circuits.pauli import format_observable
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.errors import QHybridError
from qhybrid.hardware.jobs.execution import PlanExecution
from qhybrid.hardware.jobs.predicting import exact_run
from qhybrid.hardware.model.recording import run_pass
from qhybrid.hardware.model.workload import Samples, agreement, plain, predicted_labels, score
from qhybrid.hardware.plan.prediction import exact_answer
from qhybrid.hardware.services.backends import is_paid, open_backend
from qhybrid.workspace import atomic_path, write_text

Array = NDArray[np.float64]
RESULTS = "results"
METRICS_FILE = "metrics.json"
PARTIAL_FILE = "partial.csv"


def write_outcome(execution: PlanExecution, outputs: Tensor) -> dict[str, Any]:
    """Write the results of a plan whose outputs are there.

    Args:
        execution: The open plan.
        outputs: The model's outputs, shape (N, K) or (N, K, H, W).

    Returns:
        The content of metrics.json.
    """
    folder = execution.folder / RESULTS
    samples = execution.workload.samples
    # What was paid for is on disk before anything that compares it.
    tensors = {"outputs": outputs.contiguous(), "classes": predicted_labels(outputs).contiguous()}
    _write_tensors(folder, tensors)
    _write_csv(folder / "predictions.csv", _predictions(outputs, samples))
    exact = exact_run(execution)
    deviations = _deviations(execution)
    data = execution.content.get("origin", {}).get("data", {})
    content = {
        "plan": execution.content["plan"],
        "data_root": data.get("root"),
        "data_hash": data.get("hash"),
        "input": data.get("input"),
        "backend": execution.context.settings.backend,
        "shots": execution.context.settings.shots,
        "samples": len(outputs),
        "obtained": plain(score(outputs, samples)),
        "predicted": execution.content["predicted"],
        **_predicted_anew(execution),
        "same_class_as_exact": round(agreement(outputs, exact.outputs), 6),
        "logit_deviation_rms": float((outputs - exact.outputs).square().mean().sqrt()),
        "observable_deviation_rms": _rms([row["rms_deviation"] for row in deviations]),
        "observable_error_rms": _rms([row["rms_error"] for row in deviations]),
        "status": execution.status(),
        "duplicates": [one.__dict__ for one in execution.ledger.duplicates()],
        "events": [text for _, text in execution.ledger.events()],
    }
    _write_csv(folder / "deviations.csv", deviations)
    _write_tensors(folder, {**tensors, "exact_outputs": exact.outputs.contiguous()})
    (folder / PARTIAL_FILE).unlink(missing_ok=True)
    write_text(folder / METRICS_FILE, json.dumps(content, indent=2) + "\n")
    _snapshot(execution, folder)
    return content


def _predicted_anew(execution: PlanExecution) -> dict[str, Any]:
    """Return what was predicted when the plan was last mapped anew, if it was."""
    found = [one["predicted"] for one in execution.content.get("layouts", []) if one.get("predicted")]
    return {"predicted_after_remapping": found[-1]} if found else {}


def write_partial(execution: PlanExecution) -> int:
    """Write predictions of the samples whose results are all there, of a plan that is not finished.

    Args:
        execution: The open plan.

    Returns:
        Number of these samples; nothing is written if there are none.
    """
    log = execution.request_log()
    if not log.results:
        return 0
    workload = execution.workload
    given = workload.samples
    outputs = run_pass(
        workload.model, given.images, execution.content["layers"], log, token_maps=given.token_maps
    )
    known = [index for index, output in enumerate(outputs) if output is not None]
    if not known:
        return 0
    samples = replace(
        given,
        images=given.images[known],
        targets=None if given.targets is None else given.targets[known],
        names=tuple(given.names[index] for index in known),
        token_maps=None if given.token_maps is None else given.token_maps[known],
    )
    found = torch.stack([output for output in outputs if output is not None])
    _write_csv(execution.folder / RESULTS / PARTIAL_FILE, _predictions(found, samples))
    return len(known)


def _write_tensors(folder: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_path(folder / "outputs.safetensors") as temporary:
        save_file(tensors, temporary)


def _deviations(execution: PlanExecution) -> list[dict[str, Any]]:
    """Return one row for every observable of every layer, over all distinct parameter sets.

    Equal parameter sets were executed once: counted as often as they occur, their errors would seem to
    average out.
    """
    log = execution.request_log()
    answer = exact_answer(execution.bound)
    rows = []
    for layer, key in dict.fromkeys((r.layer, r.circuit) for r in log.requests.values()):
        points: dict[int, tuple[Array, Array, Array]] = {}
        for request in log.requests.values():
            if (request.layer, request.circuit) == (layer, key) and request.key in log.results:
                found = zip(
                    request.angles, log.results[request.key], execution.errors[request.key], strict=True
                )
                points |= dict(zip(request.points, found, strict=True))
        angles, measured, errors = (np.stack(part) for part in zip(*points.values(), strict=True))
        exact = answer(key, angles)
        for index, observable in enumerate(execution.bound[key].observables):
            rows.append(
                {
                    "layer": layer,
                    "observable": format_observable(observable),
                    **_summary(measured[:, index] - exact[:, index], errors[:, index]),
                }
            )
    return rows


def _summary(deviation: Array, errors: Array) -> dict[str, Any]:
    """Return mean and spread of the deviations of one observable, and their standard errors.

    `values` is the number of parameter sets. `mean_deviation` has the standard error `mean_error` from
    shots; `rms_error` is what the deviations would have from shots alone, so a larger `rms_deviation` is the
    device's noise.
    """
    return {
        "values": len(deviation),
        "mean_deviation": float(deviation.mean()),
        "mean_error": float(np.sqrt((errors**2).sum()) / len(errors)),
        "rms_deviation": float(np.sqrt((deviation**2).mean())),
        "rms_error": float(np.sqrt((errors**2).mean())),
    }


def _predictions(outputs: Tensor, samples: Samples) -> list[dict[str, Any]]:
    labels = predicted_labels(outputs)
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(samples.names):
        row: dict[str, Any] = {"sample": name}
        truth = None if samples.targets is None else samples.targets[index]
        if labels.ndim == 1:
            row["class"] = int(labels[index])
            row["truth"] = "" if truth is None else int(truth)
        elif truth is not None:
            counted = truth != IGNORE_INDEX
            right = (labels[index] == truth) & counted
            row["labelled_pixels"] = int(counted.sum())
            row["right_pixels"] = int(right.sum())
        rows.append(row)
    return rows


def _snapshot(execution: PlanExecution, folder: Path) -> None:
    """Keep the calibration of the day the results came; the one of the plan may be older."""
    settings = execution.context.settings
    if not is_paid(settings.backend, settings.service):
        return
    try:
        backend = open_backend(settings)
    except QHybridError as error:
        execution.context.say(f"no calibration of today: {error}")
        return
    except Exception as error:  # anything may go wrong in code of others
        execution.context.say(f"no calibration of today: {type(error).__name__}")
        return
    if backend.noise is not None:
        backend.noise.save(folder / "calibration.yaml")


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def _rms(values: list[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).square().mean().sqrt()) if values else 0.0
