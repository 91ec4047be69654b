"""Images labelled by the sign of a known circuit's output, and a run that is right by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import SparsePauliOp, Statevector

from qhybrid.circuits import CIRCUITS, CircuitSpec, register_circuit
from qhybrid.config import Recipe, StrictModel
from qhybrid.data import register_dataset
from qhybrid.data.datasets import DATASETS
from qhybrid.data.images import ImageArrays, ImageDataset
from qhybrid.models import build_model, resolve_model
from qhybrid.training.images.run import ImageMeta
from qhybrid.training.run_folder import FORMAT, save_weights, write_recipe

ANGLES = (0.9, -1.7, 0.6, 1.2)
"""Weights of the known circuit."""
COUNTS = {"train": 60, "test": 80}


def ring() -> CircuitSpec:
    """Four rotations by the data, a ring of controlled rotations, Z of one qubit."""
    x, w = ParameterVector("x", 4), ParameterVector("w", 4)
    circuit = QuantumCircuit(4)
    for qubit in range(4):
        circuit.ry(x[qubit], qubit)
    for qubit in range(4):
        circuit.crx(w[qubit], qubit, (qubit + 1) % 4)
    return CircuitSpec.from_circuit(circuit, list(x), list(w), [SparsePauliOp("IIIZ")], "known_ring")


def ring_value(pixels: np.ndarray) -> float:
    """The output by Qiskit's statevector, of angles pi times the pixels."""
    spec = ring()
    values = dict(zip(spec.input_params, math.pi * pixels)) | dict(zip(spec.weight_params, ANGLES))
    state = Statevector(spec.circuit.assign_parameters(values))
    return float(state.expectation_value(spec.observables[0]).real)


class KnownOptions(StrictModel):
    validation: float = 0.0
    threshold: float = 0.0


class KnownImages(ImageDataset):
    """2 x 2 images; the class says whether the known circuit's output is below a threshold."""

    name = "known_circuit"
    description = "labels of a known circuit"
    Options = KnownOptions
    task = "classification"
    source = licence = layout = "made by the test"
    class_names = ("above", "below")
    image_shape = (1, 2, 2)

    def _load(self, split):
        rng = np.random.default_rng(len(split))
        images = rng.uniform(0, 1, (COUNTS[split], 1, 2, 2)).astype(np.float32)
        below = [int(ring_value(image.ravel()) < self.options.threshold) for image in images]
        return ImageArrays(
            torch.from_numpy(images), torch.tensor(below), tuple(f"{split}-{n}" for n in range(len(images)))
        )


@pytest.fixture
def known_things():
    """The circuit and the data set, known by name."""
    with CIRCUITS.restored(), DATASETS.restored():
        register_circuit("known_ring", ring, "a known circuit")
        register_dataset(KnownImages)
        yield


@pytest.fixture
def known_run(known_things, tmp_path):
    """Write a run that is right by its circuit, or, with `weight` 0, one that does not look at it.

    The logits are linear in the output: `weight` times it, plus a bias. Pixels are scaled before the circuit.
    """

    def make(folder="known", weight=5.0, bias=0.0, scale=1.0, threshold=0.0):
        model = {
            "name": "hybrid_cnn",
            "channels": [],
            "head": {"circuit": "known_ring", "logits": "linear", "latent_scale": math.pi},
        }
        data = {"dataset": "known_circuit", "options": {"threshold": threshold}}
        recipe = Recipe.model_validate({"name": "known", "data": data, "model": model})
        section = resolve_model({**model, "in_channels": 1, "num_classes": 2, "image_size": [2, 2]})
        network = build_model(section)
        state = network.state_dict()
        (dense,) = [name for name in state if name.startswith("head.network") and name.endswith("weight")]
        state[dense] = scale * torch.eye(4)
        state[dense.replace("weight", "bias")] = torch.zeros(4)
        state["head.classifier.circuit.weight"] = torch.tensor(ANGLES)
        state["head.classifier.linear.weight"] = torch.tensor([[weight], [-weight]])
        state["head.classifier.linear.bias"] = torch.tensor([bias, -bias])
        network.load_state_dict(state)
        meta = ImageMeta(
            format=FORMAT,
            kind="images",
            task="classification",
            model=section,
            class_names=KnownImages.class_names,
            in_channels=1,
            image_size=(2, 2),
            epoch=1,
            step=1,
            metrics={},
            qhybrid="0",
        )
        root = tmp_path / folder
        write_recipe(root, recipe)
        save_weights(root, "best", network, meta)
        return root

    return make
