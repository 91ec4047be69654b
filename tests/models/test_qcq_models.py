"""QCQ-CNN and its baselines: sizes of the paper, fixed features, and the head on an expectation value."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qhybrid.circuits import build_circuit
from qhybrid.engines import make_engine
from qhybrid.errors import ConfigError
from qhybrid.layers import QuantumLayer, cached_features, quantum_layers
from qhybrid.models import build_model, resolve_model
from qhybrid.models.classifier_keys import BinaryOptions
from qhybrid.models.fixed_filter import FixedFilterModel
from qhybrid.models.heads import ExpectationHead

MNIST = {"in_channels": 1, "num_classes": 2, "image_size": [28, 28]}
SMALL = {"in_channels": 1, "num_classes": 2, "image_size": [12, 10], "channels": [3, 4]}
FILTERED = ["quanvo_mlp", "qccnn", "qcq_cnn"]


def small(name, **keys):
    config = {"name": name, **SMALL, **keys}
    if name in ("mlp", "quanvo_mlp", "qcnn"):
        del config["channels"]
    return build_model(config)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # 28 * 28 pixels, or 14 * 14 * 4 features, to 2.
        ("mlp", 784 * 2 + 2),
        ("quanvo_mlp", 784 * 2 + 2),
        # Convolutions 1 (or 4) -> 16 -> 32; dense from 7 * 7 * 32, behind the filter from 3 * 3 * 32.
        ("cnn", (9 + 1) * 16 + (144 + 1) * 32 + 1568 * 2 + 2),
        ("qccnn", (36 + 1) * 16 + (144 + 1) * 32 + 288 * 2 + 2),
        # Six angles and a bias on top.
        ("qcq_cnn", (36 + 1) * 16 + (144 + 1) * 32 + 288 * 2 + 2 + 6 + 1),
        ("qcnn", 51 + 1),
    ],
)
def test_paper_sizes(name, parameters):
    model = build_model({"name": name, **MNIST})
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == parameters


@pytest.mark.parametrize("name", FILTERED)
class TestFixedFilter:
    def test_forward_is_head_of_fixed_features(self, name):
        model = small(name).eval()
        images = torch.rand(3, 1, 12, 10)
        features = model.fixed_features(images)
        assert isinstance(model, FixedFilterModel)
        assert features.shape == (3, 4, 6, 5)
        assert not features.requires_grad
        assert torch.equal(model(images), model.forward_features(features))

    def test_cached_features_are_the_same(self, name, tmp_path):
        model = small(name)
        images = torch.rand(3, 1, 12, 10)
        for _ in range(2):
            found = cached_features(model.quanvolution, images, tmp_path)
            assert torch.equal(found, model.fixed_features(images))

    def test_filter_keys_reach_the_circuit(self, name):
        keys = {"filter_layers": 2, "filter": "random_layers", "filter_seed": 7, "filter_angle_range": [0, 1]}
        found = small(name, **keys, filter_structure_seed=3).quanvolution.filter.spec
        expected = build_circuit(
            "qcq_filter", layers=2, filter="random_layers", seed=7, angle_range=[0, 1], structure_seed=3
        )
        assert found.fingerprint == expected.fingerprint

    def test_larger_patches_and_other_strides(self, name):
        model = small(name, filter_patch=[2, 3], filter_stride=1)
        assert model.fixed_features(torch.rand(1, 1, 12, 10)).shape == (1, 6, 11, 8)
        assert model(torch.rand(2, 1, 12, 10)).shape == (2, 2)

    def test_filter_is_not_trained(self, name):
        model = small(name)
        assert not [key for key, p in model.named_parameters() if "quanvolution" in key and p.requires_grad]

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"filter": "eq11"}, "filter"),
            ({"filter_patch": [13, 1]}, r"`filter_patch` must .* 12 x 10, but is 13 x 1"),
            ({"filter_patch": [0, 1]}, "`filter_patch` must"),
            ({"filter_angle_range": [2, 1]}, r"`filter_angle_range` must .* \(2, 1\)"),
            ({"filter_angle_range": [0, float("inf")]}, "`filter_angle_range.1`: Input should be a finite"),
            ({"filter_stride": 0}, "filter_stride"),
        ],
    )
    def test_errors(self, name, keys, message):
        with pytest.raises(ConfigError, match=message):
            small(name, **keys)


class TestExpectationHead:
    def head(self, **keys):
        options = BinaryOptions(in_channels=1, num_classes=2, image_size=(4, 4), **keys)
        return ExpectationHead(QuantumLayer(build_circuit("qcq_classifier")), options)

    def test_logits_by_hand(self):
        head = self.head(logit_scale=3.0)
        with torch.no_grad():
            head.bias.fill_(0.25)
        angles = torch.randn(5, 2)
        margin = 3 * (head.circuit(angles)[:, 0] + 0.25)
        torch.testing.assert_close(head(angles), torch.stack([margin, -margin], 1))

    def test_bias_is_trained_and_scale_only_if_asked_for(self):
        assert set(dict(self.head().named_parameters())) == {"circuit.weight", "bias"}
        assert set(self.head().state_dict()) == {"circuit.weight", "bias"}
        trainable = self.head(trainable_scale=True)
        assert set(dict(trainable.named_parameters())) == {"circuit.weight", "bias", "scale"}

    def test_up_is_class_0(self):
        head = ExpectationHead(
            QuantumLayer(build_circuit("qcnn", num_qubits=2), initial_weights=torch.zeros(17)),
            BinaryOptions(in_channels=1, num_classes=2, image_size=(2, 2)),
        )
        # All angles 0 and black cells: the state stays |00>, <Z> = 1.
        torch.testing.assert_close(head(torch.zeros(1, 2)), torch.tensor([[1.0, -1.0]]))


class TestQCQCNN:
    @pytest.mark.parametrize(("reps", "angles"), [(1, 4), (2, 6), (3, 8)])
    def test_reps(self, reps, angles):
        layer = small("qcq_cnn", reps=reps).head.classifier.circuit
        assert layer.spec.fingerprint == build_circuit("qcq_classifier", reps=reps).fingerprint
        assert layer.weight.shape == (angles,)

    def test_feature_map_reps(self):
        expected = build_circuit("qcq_classifier", feature_map_reps=1).fingerprint
        assert small("qcq_cnn", feature_map_reps=1).head.classifier.circuit.spec.fingerprint == expected

    def test_latent_angles(self):
        values = torch.tensor([[0.5, -20.0]])
        linear = small("qcq_cnn", latent_scale=2.0).head.angles
        bounded = small("qcq_cnn", latent="tanh", latent_scale=2.0).head.angles
        torch.testing.assert_close(linear(values), 2 * values)
        torch.testing.assert_close(bounded(values), 2 * torch.tanh(values))

    def test_two_quantum_layers_that_take_engines_separately(self):
        from qhybrid.models import use_engine

        model = small("qcq_cnn")
        aer = make_engine("aer")
        use_engine(model, aer, ["head.classifier.circuit"])
        assert list(quantum_layers(model)) == ["quanvolution.filter", "head.classifier.circuit"]
        assert model.head.classifier.circuit.engine is aer
        assert model.quanvolution.filter.engine is not aer


class TestQCNN:
    def test_cells_are_averages(self):
        model = small("qcnn", image_size=[4, 8], grid=[2, 2], in_channels=2)
        images = torch.rand(3, 2, 4, 8)
        cells = images.mean(1).reshape(3, 2, 2, 2, 4).mean((2, 4)).flatten(1)
        torch.testing.assert_close(model(images), model.head(cells))

    def test_keys_reach_the_circuit(self):
        spec = small("qcnn", grid=[1, 4], convolution="n3", shared=False).head.circuit.spec
        expected = build_circuit("qcnn", num_qubits=4, convolution="n3", shared=False)
        assert spec.fingerprint == expected.fingerprint

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"grid": [2, 3]}, r"`grid` must have 2, 4, 8, ... cells, but is 2 x 3"),
            ({"grid": [1, 1]}, "`grid` must have 2, 4"),
            ({"grid": [16, 1]}, r"`grid` 16 x 1 must not be finer than the image"),
        ],
    )
    def test_errors(self, keys, message):
        with pytest.raises(ConfigError, match=message):
            small("qcnn", **keys)


class TestDenseAndConvolutions:
    def test_layers_of_the_cnn(self):
        model = small("cnn", hidden=[7], dropout=0.5, kernel=5, batch_norm=True)
        kinds = [type(m) for m in model[1][:-1]]
        block = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
        assert kinds == block + block
        dense = [type(m) for m in model[1][-1]]
        assert dense == [nn.Flatten, nn.Dropout, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
        assert model[1][0].kernel_size == (5, 5)

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"channels": [2, 2, 2, 2]}, r"Features of 12 x 10 must survive 4 poolings by 2.*Fix: larger"),
            ({"channels": []}, "channels"),
            ({"channels": [0]}, "`channels` must be at least 1"),
            ({"kernel": 2}, "`kernel` must be odd, but is 2"),
            ({"hidden": [0]}, "`hidden` must be at least 1"),
            ({"dropout": 1.0}, "dropout"),
            ({"image_size": [0, 4]}, "`image_size` must be at least 1 x 1"),
            ({"num_classes": 1}, "num_classes"),
        ],
    )
    def test_errors(self, keys, message):
        with pytest.raises(ConfigError, match=message):
            small("cnn", **keys)

    @pytest.mark.parametrize("name", ["qcq_cnn", "qcnn"])
    def test_one_expectation_value_tells_two_classes_apart(self, name):
        with pytest.raises(ConfigError, match="`num_classes` must be 2, since one .* but is 3"):
            resolve_model({"name": name, **MNIST, "num_classes": 3})

    def test_wrong_images_are_named(self):
        with pytest.raises(
            ConfigError, match=r"shape \(batch, 1, 12, 10\), as `in_channels`.*\(2, 3, 12, 10\)"
        ):
            small("cnn")(torch.rand(2, 3, 12, 10))
