"""What circuits/NAME.yaml says is what models have: named ones, circuits of one's own, finished runs."""

from __future__ import annotations

import pytest
import yaml

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
