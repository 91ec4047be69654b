"""Weight decay and learning rates go where they belong."""

from __future__ import annotations

import math

import pytest

from qhybrid.config import TrainingConfig
from qhybrid.models import build_model
from qhybrid.training.optimizer import build_optimizer, learning_rate_factor, parameter_groups

MODEL = {
    "name": "hq_unet",
    "grid": 2,
    "in_channels": 1,
    "num_classes": 2,
    "patch_size": 16,
    "widths": [2, 2, 2, 2, 2],
}


def test_every_trainable_parameter_is_in_exactly_one_group():
    model = build_model(MODEL)
    groups = parameter_groups(model, TrainingConfig(quantum_learning_rate=0.5))
    found = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())
    decayed, plain, quantum = groups
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert quantum["params"] == [model.bottleneck.core.weight]
    assert (plain["weight_decay"], quantum["weight_decay"], quantum["lr"]) == (0.0, 0.0, 0.5)


def test_stand_ins_of_circuits_are_not_decayed_either():
    model = build_model({"name": "qcq_cnn_twin", "in_channels": 1, "num_classes": 2, "image_size": [8, 8]})
    decayed, _ = parameter_groups(model, TrainingConfig(weight_decay=0.1))
    inside = {id(parameter) for parameter in decayed["params"]}
    assert not [name for name, p in model.head.classifier.named_parameters() if id(p) in inside]


@pytest.mark.parametrize("arm", ["mlp", "fourier", "twin"])
def test_neither_are_those_of_an_ablation(arm):
    section = {"name": "qcq_cnn", "in_channels": 1, "num_classes": 2, "image_size": [8, 8]}
    model = build_model({**section, "replace": {"head.classifier.circuit": arm}})
    decayed, _ = parameter_groups(model, TrainingConfig(weight_decay=0.1))
    inside = {id(parameter) for parameter in decayed["params"]}
    own = list(model.head.classifier.circuit.parameters())
    assert own
    assert not [parameter for parameter in own if id(parameter) in inside]


def test_frozen_circuit_is_left_out():
    groups = parameter_groups(build_model({**MODEL, "frozen": True}), TrainingConfig())
    assert len(groups) == 2


def test_cosine_schedule():
    config = TrainingConfig(warmup=0.1)
    factors = [learning_rate_factor(step, 100, config) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5 * (1 + math.cos(math.pi * 45 / 90)))
    assert factors[100] == pytest.approx(0, abs=1e-12)
    assert factors[:11] == sorted(factors[:11])


def test_constant_schedule_reaches_the_optimizer():
    config = TrainingConfig(schedule="constant", warmup=0, learning_rate=0.01)
    optimizer, schedule = build_optimizer(build_model(MODEL), config, 10)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    assert {group["lr"] for group in optimizer.param_groups} == {0.01}
