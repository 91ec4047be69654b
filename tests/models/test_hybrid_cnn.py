"""Classifiers of parts: the named ones are choices of them, and logits from observables by hand."""

from __future__ import annotations

import pytest
import torch
from turned_circuit import builder_with

from qhybrid.circuits import CIRCUITS, build_circuit, register_circuit
from qhybrid.errors import ConfigError
from qhybrid.layers import cached_features, quantum_layers
from qhybrid.models import build_model, resolve_model

BASE = {"in_channels": 1, "num_classes": 2, "image_size": [12, 10], "channels": [3, 4]}


def circuit(builder, **arguments):
    return {"name": builder, "builder": builder, "arguments": arguments, "observables": None}


FILTER = {"circuit": circuit("qcq_filter", layers=2, seed=3)}
FOUR = circuit("qufex_filter1", num_qubits=4)


def parts(**keys):
    return build_model({"name": "hybrid_cnn", **BASE, **keys})


@pytest.mark.parametrize(
    ("named", "keys"),
    [
        ({"name": "cnn"}, {}),
        ({"name": "qccnn", "filter_layers": 2, "filter_seed": 3}, {"filter": FILTER}),
        (
            {
                "name": "qcq_cnn",
                "filter_layers": 2,
                "filter_seed": 3,
                "reps": 1,
                "latent": "tanh",
                "logit_scale": 2.0,
            },
            {
                "filter": FILTER,
                "head": {"circuit": circuit("qcq_classifier", reps=1), "latent": "tanh", "logit_scale": 2.0},
            },
        ),
        (
            {"name": "qcq_cnn_twin", "filter_layers": 2, "filter_seed": 3, "reps": 1},
            {"filter": FILTER, "head": {"name": "layered", "reps": 1}},
        ),
    ],
)
def test_named_classifiers_are_choices_of_parts(named, keys):
    first, second = build_model({**BASE, **named}), parts(**keys)
    second.load_state_dict(first.state_dict())
    images = torch.rand(3, 1, 12, 10)
    assert torch.equal(first.eval()(images), second.eval()(images))


def test_without_convolutions_it_is_dense():
    first = build_model(
        {"name": "mlp", "hidden": [5], **{key: BASE[key] for key in BASE if key != "channels"}}
    )
    second = parts(channels=[], hidden=[5])
    second.load_state_dict(first.state_dict())
    images = torch.rand(3, 1, 12, 10)
    assert torch.equal(first(images), second(images))


class TestHeads:
    def test_one_logit_an_observable(self):
        model = parts(num_classes=4, head={"circuit": FOUR, "logit_scale": 3.0})
        head, images = model.head, torch.rand(2, 1, 12, 10)
        torch.nn.init.uniform_(head.classifier.bias)
        angles = head.network(images)
        assert angles.shape == (2, 4)
        expected = 3 * (head.classifier.circuit(angles) + head.classifier.bias)
        torch.testing.assert_close(model(images), expected)

    def test_a_dense_layer_where_observables_and_classes_differ(self):
        model = parts(num_classes=3, head={"circuit": FOUR, "latent": "tanh", "latent_scale": 2.0})
        head, images = model.head, torch.rand(2, 1, 12, 10)
        values = head.classifier.circuit(2 * torch.tanh(head.network(images)))
        expected = values @ head.classifier.linear.weight.T + head.classifier.linear.bias
        torch.testing.assert_close(model(images), expected)

    @pytest.mark.parametrize(
        ("head", "classes", "logits"),
        [
            ({"circuit": circuit("qcq_classifier")}, 2, "margin"),
            ({"circuit": circuit("qcq_classifier")}, 3, "linear"),
            ({"circuit": FOUR}, 4, "direct"),
            ({"circuit": FOUR, "logits": "linear"}, 4, "linear"),
        ],
    )
    def test_logits_are_decided_once(self, head, classes, logits):
        resolved = resolve_model({"name": "hybrid_cnn", **BASE, "num_classes": classes, "head": head})
        assert resolved["head"]["logits"] == logits
        assert resolve_model(resolved) == resolved

    def test_dense_is_the_default(self):
        resolved = resolve_model({"name": "hybrid_cnn", **BASE})
        assert resolved["head"] == {"name": "dense"}
        assert resolved["filter"] is None
        assert resolve_model({**resolved, "head": "dense"}) == resolved

    def test_frozen_circuit(self):
        assert not parts(head={"circuit": FOUR, "frozen": True}).head.classifier.circuit.weight.requires_grad


def test_any_circuit_is_a_fixed_filter(tmp_path):
    six = circuit("qufex_filter2", num_qubits=6)
    model = parts(filter={"circuit": six, "stride": 3}, channels=[3])
    layer, images = model.quanvolution, torch.rand(2, 1, 12, 10)
    assert layer.patch == (2, 3)
    assert not layer.filter.weight.requires_grad
    assert layer.filter.spec.fingerprint == build_circuit("qufex_filter2", num_qubits=6).fingerprint
    first = layer.filter(images[:, 0, 3:5, 6:9].reshape(2, 6))
    torch.testing.assert_close(model.fixed_features(images)[:, :, 1, 2], first)
    assert torch.equal(cached_features(layer, images, tmp_path), model.fixed_features(images))
    assert list(quantum_layers(model)) == ["quanvolution.filter"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"head": {"circuit": FOUR, "name": "dense"}}, "either `circuit` or `name`"),
        ({"head": {"latent": "tanh"}}, "a dense head has no key `latent`"),
        (
            {"head": {"circuit": FOUR, "logits": "margin"}},
            "`logits: margin` is not possible with 4 obs",
        ),
        ({"head": {"circuit": FOUR, "reps": 2}}, "`reps` is for `name: layered`"),
        (
            {"head": {"circuit": FOUR, "logits": "linear", "logit_scale": 2.0}},
            "has no scale",
        ),
        ({"head": {"name": "layered", "frozen": True}}, "`frozen` is for circuits"),
        ({"head": "dens"}, "dense"),
        (
            {"filter": {"circuit": FOUR, "patch": [2, 3]}},
            "each pixel of the 2 x 3 `patch`, but has 4",
        ),
        ({"filter": {"circuit": FOUR, "patch": [1, 4], "stide": 1}}, "Did you mean `stride`"),
        (
            {"filter": {"circuit": circuit("qufex_filter1", num_qubits=11)}},
            "at most the image, 12 x 10",
        ),
    ],
)
def test_errors(keys, message):
    with pytest.raises(ConfigError, match=message):
        resolve_model({"name": "hybrid_cnn", **BASE, **keys})


def test_a_builder_that_takes_the_place_of_another_is_used():
    """As in a notebook, whose cell registers a changed circuit under its old name."""

    section = {"name": "hybrid_cnn", "head": {"circuit": "turned"}}
    decided = {"in_channels": 1, "num_classes": 2, "image_size": [8, 8]}
    with CIRCUITS.restored():
        for gate in ("rx", "rz"):
            register_circuit("turned", builder_with(gate), replace=True)
            model = build_model(resolve_model({**section, **decided}))
            assert gate in quantum_layers(model)["head.classifier.circuit"].spec.circuit.count_ops()
