"""What circuits/NAME.yaml says is what models have: named ones, circuits of one's own, finished runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from qiskit.quantum_info import Statevector

from qhybrid.circuits import build_circuit
from qhybrid.errors import ConfigError
from qhybrid.layers import quantum_layers
from qhybrid.models import build_model, resolve_model

SCENE = {"in_channels": 2, "num_classes": 3, "patch_size": 32, "widths": [2, 2, 3, 3, 4]}
MASK = {"in_channels": 3, "num_classes": 1, "image_size": [24, 32], "widths": [3, 4]}
IMAGE = {"in_channels": 1, "num_classes": 2, "image_size": [8, 8]}
HQ_UNET = {"name": "hq_unet", **SCENE}


@pytest.fixture
def define(tmp_path, monkeypatch):
    """Write a definition into the workspace, which is the current folder."""
    monkeypatch.chdir(tmp_path)

    def write(name, builder=None, observables=None, **arguments):
        content = {"builder": builder or name, "arguments": arguments}
        content |= {"observables": observables} if observables else {}
        (tmp_path / "circuits").mkdir(exist_ok=True)
        (tmp_path / "circuits" / f"{name}.yaml").write_text(yaml.safe_dump(content))

    return write


def test_the_definition_decides_what_the_recipe_leaves_open(define):
    define("hq_unet_qcnn", grid=2, reps=5)
    resolved = resolve_model(HQ_UNET)
    assert (resolved["reps"], resolved["grid"], resolved["readout"]) == (5, 2, "ZX")
    (layer,) = quantum_layers(build_model(HQ_UNET)).values()
    assert layer.weight.shape == (5 * 8,)
    assert layer.spec.fingerprint == build_circuit("hq_unet_qcnn", grid=2, reps=5).fingerprint


def test_the_recipe_wins(define):
    define("hq_unet_qcnn", reps=5, grid=2)
    assert resolve_model({**HQ_UNET, "reps": 1})["reps"] == 1


def test_finished_runs_do_not_look_at_the_workspace(define):
    before = resolve_model({**HQ_UNET, "grid": 2})
    define("hq_unet_qcnn", reps=5, observables=["Z0"])
    assert resolve_model(before) == before
    assert quantum_layers(build_model(before))["bottleneck.core"].weight.shape == (8,)


QUANVO, CONV = {"name": "quanvo_mlp", **IMAGE}, {**IMAGE, "channels": [2]}
TWO_FILTERS = {"name": "qu_net", "filters": 2, **MASK}


@pytest.mark.parametrize(
    ("name", "arguments", "model", "expected"),
    [
        ("qcq_filter", {"layers": 3, "seed": 5}, QUANVO, {"filter_layers": 3, "filter_seed": 5}),
        ("qcq_filter", {"num_qubits": 6}, {"name": "qccnn", **CONV}, {"filter_patch": [2, 3]}),
        ("qcq_filter", {"layers": 3}, {"name": "qcq_cnn_twin", **CONV}, {"filter_layers": 3}),
        (
            "qcq_classifier",
            {"reps": 4, "feature_map_reps": 1},
            {"name": "qcq_cnn", **CONV},
            {"reps": 4, "feature_map_reps": 1},
        ),
        (
            "qcnn",
            {"num_qubits": 4, "shared": False},
            {"name": "qcnn", **IMAGE},
            {"grid": [2, 2], "shared": False},
        ),
        ("qufex_filter1", {"observable": "Y"}, TWO_FILTERS, {"observables": "YX"}),
        ("qufex_filter2", {"observable": "Y"}, TWO_FILTERS, {"observables": "ZY"}),
    ],
)
def test_every_named_model(define, name, arguments, model, expected):
    define(name, **arguments)
    resolved = resolve_model(model)
    assert {key: resolved[key] for key in expected} == expected


def test_starter_definitions_change_nothing():
    with_starter = resolve_model(HQ_UNET)
    assert (with_starter["grid"], with_starter["reps"], with_starter["encoding"]) == (4, 1, "xyz")
    assert resolve_model({"name": "qcnn", **IMAGE})["grid"] == [4, 2]
    assert resolve_model({"name": "qu_net", **MASK})["patch"] == [2, 2]


def test_observables_that_only_repeat_the_builders_are_no_fault(define):
    define("hq_unet_qcnn", grid=2, readout="Z", observables=["Z0", "Z1", "Z2", "Z3"])
    assert resolve_model(HQ_UNET)["readout"] == "Z"


@pytest.mark.parametrize(
    ("name", "content", "model", "message"),
    [
        (
            "hq_unet_qcnn",
            {"grid": 2, "observables": ["Z0 Z1"]},
            HQ_UNET,
            r"hq_unet_qcnn.yaml: model `hq_unet` reads .*`observables` says others\. Fix: .*name: unet",
        ),
        (
            "qufex_filter1",
            {"num_qubits": 6},
            {"name": "qu_net", **MASK},
            r"qufex_filter1.yaml: `arguments.num_qubits` is 6, but model `qu_net` decides .*`patch`",
        ),
        (
            "qcq_classifier",
            {"num_qubits": 3},
            {"name": "qcq_cnn", **CONV},
            "`arguments.num_qubits` is 3",
        ),
        ("hq_unet_qcnn", {"reps": -1}, HQ_UNET, "reps"),
    ],
)
def test_what_a_model_cannot_honour(define, name, content, model, message):
    define(name, **content)
    with pytest.raises(ValueError, match=message):
        resolve_model(model)


def test_a_patch_in_the_recipe_decides_the_number_of_qubits(define):
    define("qufex_filter1", num_qubits=6)
    assert resolve_model({"name": "qu_net", "patch": [2, 2], **MASK})["patch"] == [2, 2]


def test_a_circuit_of_ones_own_is_kept_in_full(define, tmp_path):
    define("mine", builder="hq_unet_qcnn", observables=["Z0", "X1 X2"], grid=2, reps=3)
    config = {"name": "unet", **SCENE, "bottleneck": {"circuit": "mine"}, "skips": {"circuit": "mine"}}
    model = build_model(config)
    assert model.bottleneck.core.spec.name == "mine"
    assert model.bottleneck.core.weight.shape == (24,)
    assert model.bottleneck.expand.in_features == 2
    kept = resolve_model(config)
    assert kept["bottleneck"]["circuit"]["arguments"] == {"grid": 2, "reps": 3}
    (tmp_path / "circuits" / "mine.yaml").unlink()
    assert build_model(kept).bottleneck.core.spec.fingerprint == model.bottleneck.core.spec.fingerprint
    assert resolve_model(kept) == kept
    with pytest.raises(ConfigError, match=r"`bottleneck.circuit`: Circuit 'mine' is unknown"):
        resolve_model(config)


def test_arguments_in_a_recipe_replace_those_of_the_definition(define):
    define("mine", builder="hq_unet_qcnn", grid=2, reps=3)
    circuit = {"name": "mine", "arguments": {"reps": 2}}
    kept = resolve_model({"name": "unet", **SCENE, "bottleneck": {"circuit": circuit}})
    content = kept["bottleneck"]["circuit"]
    assert (content["builder"], content["arguments"]["grid"], content["arguments"]["reps"]) == (
        "hq_unet_qcnn",
        2,
        2,
    )
    assert build_model(kept).bottleneck.core.weight.shape == (2 * 8,)
    several = {"circuit": [circuit, {"name": "hq_unet_qcnn", "arguments": {"grid": 3}}], "levels": [0, 1]}
    layers = quantum_layers(build_model({"name": "unet", **SCENE, "skips": several}))
    assert [layer.spec.num_qubits for layer in layers.values()] == [4, 9]


RING = Path(__file__).parents[2] / "docs" / "examples" / "ring"
PARTS = {
    "bottleneck": ({"name": "unet", **SCENE}, "bottleneck.core"),
    "skips": ({"name": "qu_unet", **MASK}, "skips.0.core"),
    "filter": ({"name": "hybrid_cnn", **CONV}, "quanvolution.filter"),
    "head": ({"name": "hybrid_cnn", **CONV}, "head.classifier.circuit"),
}


@pytest.mark.parametrize("part", PARTS)
def test_a_circuit_of_a_file_in_every_part(part, tmp_path, monkeypatch):
    """Layer values are those of Qiskit's Statevector, and the model comes back without the file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circuits").mkdir()
    for file in (RING / "ring4.yaml", RING / "ring4.qasm"):
        shutil.copy(file, tmp_path / "circuits")
    base, name = PARTS[part]
    model = build_model({**base, part: {"circuit": "ring4"}}).eval()
    layer = quantum_layers(model)[name]
    angles = np.random.default_rng(1).uniform(-3, 3, 4)
    by_name = {f"x_{i}": value for i, value in enumerate(angles)}
    by_name |= {f"w_{i}": value for i, value in enumerate(layer.weight.detach().tolist())}
    circuit = layer.spec.circuit
    state = Statevector(circuit.assign_parameters({one: by_name[one.name] for one in circuit.parameters}))
    expected = [2 * state.probabilities([qubit])[0] - 1 for qubit in range(4)]
    values = layer(torch.tensor(angles[None], dtype=torch.float32)).detach().numpy()[0]
    np.testing.assert_allclose(values, expected, atol=1e-5)

    images = torch.rand(2, base["in_channels"], *base.get("image_size", (32, 32)))
    kept, weights, before = json.dumps(model.config), model.state_dict(), model(images)
    shutil.rmtree(tmp_path / "circuits")
    again = build_model(json.loads(kept)).eval()
    again.load_state_dict(weights)
    assert quantum_layers(again)[name].spec.fingerprint == layer.spec.fingerprint
    assert torch.equal(again(images), before)


@pytest.mark.parametrize("part", PARTS)
def test_a_circuits_name_alone_is_answered_with_the_section(part):
    base, _ = PARTS[part]
    with pytest.raises(ConfigError, match=r"`\w+`: must be .*but is 'ring4'\. Fix: `\{circuit: ring4\}`"):
        resolve_model({**base, part: "ring4"})


def test_arguments_for_a_circuit_of_a_file_or_of_a_wrong_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RING, tmp_path / "circuits")
    for arguments, message in (({"reps": 2}, "takes no arguments, but was given reps"), ([2], "key: value")):
        circuit = {"name": "ring4", "arguments": arguments}
        with pytest.raises(ConfigError, match=message):
            resolve_model({"name": "unet", **SCENE, "bottleneck": {"circuit": circuit}})
