"""What is seen of the layers themselves: their angles, weights and gradients, and surrogates of them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qhybrid.circuits.disentangled import entangling_gates
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.data.patches import RandomPatches
from qhybrid.errors import CircuitError, QHybridError
from qhybrid.evaluation.diagnosis.probe import LayerRecord, Records
from qhybrid.evaluation.diagnosis.surrogates import (
    LARGEST_FIT,
    Surrogate,
    explained,
    fit_surrogate,
    parts_of,
)
from qhybrid.evaluation.subject.load import subject_of
from qhybrid.evaluation.subject.results import ModelInputs
from qhybrid.evaluation.subject.scenes import SceneSubject
from qhybrid.evaluation.subject.subject import Subject
from qhybrid.inference.scene_model import scene_tokens
from qhybrid.layers import QuantumLayer
from qhybrid.models.heads import LatentAngles
from qhybrid.seeding import derive_seed, numpy_generator
from qhybrid.training.run_folder import GRADIENT_INPUTS, GRADIENT_WEIGHTS, METRICS

SATURATED = 0.95
"""Share of its bound from which on an angle counts as saturated: there tanh' is below 0.1."""
TRAINING_SAMPLES = 512
"""Images or windows of the training split that surrogates are fitted on."""
_HELD_OUT = 4096
_SLOTS = 36
"""Arcs of ten degrees, into which the circle is divided."""


def training_inputs(subject: Subject, data_root: Path, seed: int) -> ModelInputs | None:
    """Return random samples of the training split: images, or windows at random places as in training.

    Args:
        subject: The run, with whatever split.
        data_root: Folder that the recipe's `data.root` is relative to.
        seed: Chooses them.

    Returns:
        None where the training data are not there.
    """
    try:
        training = subject_of(subject.run, "train", None, data_root)
        if not isinstance(training, SceneSubject):
            return training.inputs(TRAINING_SAMPLES, seed)
        run = training.run
        section = run.recipe.data.model_copy(
            update={
                "patch_size": run.patch_size,
                "patches_per_epoch": TRAINING_SAMPLES,
                "class_sampling": 0.0,
            }
        )
        drawn = derive_seed(seed, "training angles")
        maps = scene_tokens(run, keep=True)
        patches = RandomPatches(training.scenes, run.classes, run.statistics, section, drawn, maps)
        found = [patches[index] for index in range(len(patches))]
        names = [training.scenes[patches.window(0, index)[0]].id for index in range(len(patches))]
    except (QHybridError, OSError):
        return None
    images, masks = (torch.stack([one[key] for one in found]) for key in ("image", "mask"))
    tokens = None if maps is None else torch.stack([one["tokens"] for one in found])
    return ModelInputs(images, masks, tuple(names), tokens)


def fit_surrogates(
    training: Records, groups: Sequence[str], kinds: tuple[str, ...], seed: int
) -> dict[tuple[str, int, str], Surrogate]:
    """Fit surrogates of every call of every layer with inputs on training angles.

    Args:
        training: What the layers saw and said on training samples.
        groups: Scene or image of each sample: cross-validation keeps them together.
        kinds: The surrogates.
        seed: Chooses rows where there are many.
    """
    found = {}
    order = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    numbers = torch.tensor([order[name] for name in groups])
    for name, calls in training.items():
        for number, record in enumerate(calls):
            inputs, outputs, samples = _some_rows(record, LARGEST_FIT, seed)
            parts = parts_of(numbers[samples] if len(order) > 1 else samples)
            if inputs.shape[1] and len(torch.unique(parts)) > 1:
                for kind in kinds:
                    found[name, number, kind] = fit_surrogate(kind, inputs, outputs, parts)
    return found


def surrogate_r2(
    records: Records, surrogates: Mapping[tuple[str, int, str], Surrogate], layer: str, kind: str, seed: int
) -> float | None:
    """Return R^2 of a surrogate on the angles of the data that are diagnosed, over all calls of a layer.

    Returns:
        None without a surrogate, and where the outputs do not vary.
    """
    truth, predicted = [], []
    for number, record in enumerate(records[layer]):
        surrogate = surrogates.get((layer, number, kind))
        if surrogate is None:
            return None
        inputs, outputs, _ = _some_rows(record, _HELD_OUT, seed)
        truth.append(outputs)
        predicted.append(surrogate(inputs))
    found = explained(torch.cat(truth), torch.cat(predicted))
    return None if math.isnan(found) else found


def _some_rows(record: LayerRecord, most: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return random rows of a record: inputs, outputs, and the sample that each is of."""
    inputs, outputs = record.inputs.flatten(0, 1), record.outputs.flatten(0, 1)
    samples = torch.arange(len(record.inputs)).repeat_interleave(record.inputs.shape[1])
    if len(inputs) > most:
        chosen = numpy_generator(seed, "rows").choice(len(inputs), most, replace=False)
        rows = torch.from_numpy(np.sort(chosen))
        inputs, outputs, samples = inputs[rows], outputs[rows], samples[rows]
    return inputs, outputs, samples


def describe_layer(model: nn.Module, name: str, layer: QuantumLayer, records: Records) -> dict[str, Any]:
    """Return the size of a layer, its share of the trained parameters, and how its angles are used."""
    spec = layer.spec
    trained = sum(part.numel() for part in model.parameters() if part.requires_grad)
    own = layer.weight.numel() if layer.weight.requires_grad else 0
    try:
        entangling: int | None = entangling_gates(spec)
    except CircuitError:
        entangling = None
    rows = sum(record.inputs.shape[1] for record in records[name])
    return {
        "circuit": spec.name,
        "qubits": spec.num_qubits,
        "inputs": spec.num_inputs,
        "outputs": spec.num_observables,
        "two_qubit_gates": entangling,
        "calls": len(records[name]),
        "rows_per_sample": rows,
        "trained_parameters": own,
        "parameters": trained,
        "share_of_parameters": own / trained if trained else None,
        "angles": describe_angles(records[name], angle_bound(model, name), turns(spec)),
        "output_std": output_std(records[name]),
    }


def output_std(calls: tuple[LayerRecord, ...]) -> float:
    """Return the standard deviation of outputs over samples: root of the mean square over all of them."""
    parts = [record.outputs.double().var(dim=0, correction=0) for record in calls]
    return float(torch.cat([part.flatten() for part in parts]).mean().sqrt())


def turns(spec: CircuitSpec) -> Tensor:
    """Return by how many radians a gate turns for a radian of each input, shape (n_in,): pi for `RY(pi x)`.

    The largest number of all gates whose angle is linear in the input; 1 where there is none, as in a gate
    whose definition hides it.
    """
    place = {parameter: index for index, parameter in enumerate(spec.input_params)}
    found = torch.zeros(len(place), dtype=torch.float64)
    for instruction in spec.circuit.data:
        for angle in instruction.operation.params:
            for parameter in getattr(angle, "parameters", ()):
                if parameter in place:
                    slope = angle.gradient(parameter)
                    if not getattr(slope, "parameters", ()):
                        index = place[parameter]
                        found[index] = max(float(found[index]), abs(float(slope)))
    return torch.where(found > 0, found, torch.ones_like(found))


def describe_angles(
    calls: tuple[LayerRecord, ...], bound: float | None, slopes: Tensor
) -> dict[str, Any] | None:
    """Return how the input angles of a layer lie on the circle.

    Args:
        calls: Records of the layer's calls.
        bound: Largest input that the encoding can give; None if there is none.
        slopes: Radians that a gate turns for one of each input, see `turns`.

    Returns:
        Smallest and largest angle in radians; `std`, over samples, root of the mean square over inputs;
        `arcs`, the share of the circle's 36 arcs of 10 degrees with an angle in them; `concentration`, |mean
        of exp(i angle)| over samples, mean over inputs: 1 for angles that never change, 0 for angles all
        around; a histogram over the circle from -180 to 180 degrees; share of saturated angles. None for a
        circuit without inputs.
    """
    inputs = torch.cat([record.inputs.double().flatten(1) for record in calls], dim=1)
    if not inputs.numel():
        return None
    angles = inputs * slopes.repeat(inputs.shape[1] // len(slopes))
    wrapped = torch.remainder(angles + math.pi, 2 * math.pi) - math.pi
    counts = torch.histc(wrapped, _SLOTS, -math.pi, math.pi)
    direction = torch.polar(torch.ones_like(angles), angles).mean(dim=0).abs()
    saturated = None if bound is None else float((inputs.abs() > SATURATED * bound).double().mean())
    return {
        "smallest": float(angles.min()),
        "largest": float(angles.max()),
        "std": float(angles.var(dim=0, correction=0).mean().sqrt()),
        "arcs": float((counts > 0).double().mean()),
        "concentration": float(direction.mean()),
        "histogram": (counts / counts.sum()).tolist(),
        "bound": bound,
        "saturated": saturated,
    }


def angle_bound(model: nn.Module, name: str) -> float | None:
    """Return the largest angle that the encoding in front of a layer can give; None if it has no bound.

    Known are the package's own encodings: tanh times `angle_scale` (bottlenecks on a grid, gates of skips),
    and tanh times `latent_scale` in front of a classifier.
    """
    modules = dict(model.named_modules())
    parts = name.split(".")
    for length in range(len(parts) - 1, -1, -1):
        parent = modules[".".join(parts[:length])]
        scale = getattr(parent, "angle_scale", None)
        if isinstance(scale, int | float):
            return float(scale)
        for child in parent.children():
            if isinstance(child, LatentAngles):
                return float(child.scale) if child.bounded else None
    return None


def gradients(folder: Path, layer: str) -> dict[str, Any] | None:
    """Return the gradient norms of a layer during training, first epoch, last epoch and mean over epochs.

    Returns:
        For `weights` and `inputs`; None of runs that did not record them.
    """
    try:
        with (folder / METRICS).open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    except OSError:
        return None
    found: dict[str, Any] = {}
    for name, column in (
        ("weights", f"{GRADIENT_WEIGHTS} {layer}"),
        ("inputs", f"{GRADIENT_INPUTS} {layer}"),
    ):
        values = [float(row[column]) for row in rows if row.get(column)]
        if values:
            found[name] = {"first": values[0], "last": values[-1], "mean": sum(values) / len(values)}
    return found or None
