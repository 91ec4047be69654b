"""Qu-Net, its U-Net and its twin: parameter counts of the paper's code, names of variants, sizes."""

from __future__ import annotations

import pytest
import torch

from qhybrid.circuits import build_circuit
from qhybrid.errors import ConfigError
from qhybrid.layers import PairwiseFilter, QuantumLayer, quantum_layers
from qhybrid.models import build_model, resolve_model
from qhybrid.models.qu_net_variants import KNOWN, parse_variant

PH2 = {"in_channels": 3, "num_classes": 1, "image_size": [192, 256]}
SMALL = {"in_channels": 3, "num_classes": 1, "image_size": [24, 32], "widths": [3, 4]}

# Name: patch, maps, filters, qubits.
VARIANTS = {
    "4_1": ((2, 2), 1, 1, 4),
    "4_2": ((2, 2), 1, 2, 4),
    "6_1": ((3, 2), 1, 1, 6),
    "6_2": ((3, 2), 1, 2, 6),
    "12_1": ((3, 4), 1, 1, 12),
    "12_2": ((3, 4), 1, 2, 12),
    "8_1_2": ((2, 2), 2, 1, 8),
    "8_2_2": ((2, 2), 2, 2, 8),
    "12_1_3": ((2, 2), 3, 1, 12),
    # The authors' logs: positions first.
    "4_1_2": ((2, 2), 2, 1, 8),
    "4_2_2": ((2, 2), 2, 2, 8),
    "4_1_3": ((2, 2), 3, 1, 12),
    # The paper: qubits, maps, filters.
    "12-2-1": ((3, 2), 2, 1, 12),
    "4-1-1": ((2, 2), 1, 1, 4),
    "8-2-2": ((2, 2), 2, 2, 8),
}


def count(config):
    return sum(parameter.numel() for parameter in build_model({**config, **PH2}).parameters())


def test_known_names_are_listed():
    assert set(KNOWN) <= set(VARIANTS)


class TestParameterCounts:
    """Of the authors' code, for encoder filters 8, 16, 32, 16, 8."""

    def test_unet(self):
        assert count({"name": "qu_unet"}) == 85_889

    @pytest.mark.parametrize("name", VARIANTS)
    def test_qu_net(self, name):
        expected = {1: 84_149, 2: 84_729}[VARIANTS[name][2]]
        assert count({"name": "qu_net", "variant": name}) == expected

    @pytest.mark.parametrize("name", ["4_1", "12_2", "12-2-1"])
    def test_twin_has_as_many_as_the_quantum_model(self, name):
        assert count({"name": "qu_net_twin", "variant": name}) == count({"name": "qu_net", "variant": name})

    def test_twin_without_filters(self):
        assert count({"name": "qu_net_twin", "core": "zero", "variant": "4_1"}) == 84_145


class TestVariants:
    @pytest.mark.parametrize("name", VARIANTS)
    def test_name_stands_for_keys(self, name):
        patch, maps, filters, qubits = VARIANTS[name]
        found = parse_variant(name)
        assert (found.patch, found.maps, found.filters) == (patch, maps, filters)
        model = build_model({"name": "qu_net", "variant": name, **PH2})
        layers = list(quantum_layers(model).values())
        assert [layer.spec.num_qubits for layer in layers] == [qubits] * filters
        explicit = resolve_model({"name": "qu_net", "patch": patch, "maps": maps, "filters": filters, **PH2})
        assert {**model.config, "variant": None} == explicit

    @pytest.mark.parametrize("name", ["4_1", "12-2-1"])
    def test_resolved_keys_resolve_to_themselves(self, name):
        first = resolve_model({"name": "qu_net", "variant": name, **PH2})
        assert resolve_model(first) == first

    def test_keys_may_agree_but_not_contradict(self):
        agree = {"name": "qu_net", "variant": "8_1_2", "maps": 2, "patch": [2, 2], **PH2}
        assert resolve_model(agree)["filters"] == 1
        with pytest.raises(ConfigError, match=r"`variant` 8_1_2 means `maps` 2, but maps is 1"):
            resolve_model({**agree, "maps": 1})

    @pytest.mark.parametrize(
        "name", ["8_1", "5_1", "4_3", "4_0", "12_1_0", "12-5-1", "4-1", "12 2 1", "", "4_1_2_1"]
    )
    def test_unknown_names(self, name):
        with pytest.raises(ConfigError, match="`variant` must be a known name, such as 4_1"):
            resolve_model({"name": "qu_net", "variant": name, **PH2})

    def test_ambiguous_name(self):
        with pytest.raises(ConfigError, match=r"`6_1_2` is ambiguous.*ran 8_1_2. Fix: give `patch`"):
            resolve_model({"name": "qu_net", "variant": "6_1_2", **PH2})

    def test_free_combination(self):
        model = build_model({"name": "qu_net", "patch": [1, 4], "maps": 2, "filters": 2, **SMALL})
        assert [layer.spec.num_qubits for layer in quantum_layers(model).values()] == [8, 8]


class TestBuilding:
    def test_circuits_are_the_two_filters(self):
        model = build_model({"name": "qu_net", "variant": "4_2", **SMALL})
        found = [layer.spec.fingerprint for layer in model.bottleneck.filters]
        names = ("qufex_filter1", "qufex_filter2")
        assert found == [build_circuit(name, num_qubits=4).fingerprint for name in names]

    def test_observables(self):
        model = build_model({"name": "qu_net", "variant": "4_2", "observables": "YZ", **SMALL})
        labels = [layer.spec.observables[0].paulis.to_labels() for layer in model.bottleneck.filters]
        assert labels == [["IIIY"], ["IIIZ"]]

    def test_frozen_circuits_are_not_trained(self):
        model = build_model({"name": "qu_net", "frozen": True, **SMALL})
        assert not model.bottleneck.filters[0].weight.requires_grad

    def test_twin_has_no_circuit(self):
        model = build_model({"name": "qu_net_twin", "variant": "4_2", **SMALL})
        assert all(isinstance(core, PairwiseFilter) for core in model.bottleneck.filters)
        assert not any(isinstance(module, QuantumLayer) for module in model.modules())

    def test_zero_core_is_the_residual_path(self):
        model = build_model({"name": "qu_net_twin", "core": "zero", "filters": 2, **SMALL})
        features = torch.randn(1, 4, 6, 8)
        assert torch.equal(model.bottleneck(features), torch.cat([features, features], 1))

    @pytest.mark.parametrize("initialization", ["glorot", "he", "torch"])
    def test_initial_weights(self, initialization):
        torch.manual_seed(0)
        model = build_model({"name": "qu_unet", "initialization": initialization, **PH2})
        layer = model.encoder[2][2]
        bounds = {
            "glorot": (6 / (2 * 9 * 32)) ** 0.5,
            "he": (6 / (9 * 32)) ** 0.5,
            "torch": (1 / (9 * 32)) ** 0.5,
        }
        assert layer.weight.abs().max().item() == pytest.approx(bounds[initialization], rel=0.01)
        assert (layer.bias == 0).all() == (initialization != "torch")

    def test_one_logit_a_pixel(self):
        assert build_model({"name": "qu_net", **SMALL})(torch.rand(1, 3, 24, 32)).shape == (1, 1, 24, 32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": [190, 256]}, r"`image_size` must be multiples of 32 \(2\^5.*but is 190 x 256"),
        ({"image_size": [0, 256]}, "multiples of 32"),
        ({"image_size": [160, 256], "variant": "12_1"}, r"Patches of 3 x 4 must tile.*5 x 8\. Fix: choose a"),
        ({"patch": [1, 3]}, r"at least 4 qubits, but `patch` 1 x 3 with `maps` 1 gives 3"),
        ({"patch": [0, 3]}, "`patch` must be at least 1 x 1, but is 0 x 3"),
        ({"filters": 3}, "filters"),
        ({"maps": 0}, "maps"),
        ({"observables": "Z"}, "observables"),
        ({"observables": "ZXZ"}, "observables"),
        ({"widths": []}, "widths"),
        ({"widths": [8, 0]}, "`widths` must be at least 1"),
        ({"num_classes": 0}, "num_classes"),
        ({"core": "pairwise"}, "`core` is unknown"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(ConfigError, match=message):
        resolve_model({"name": "qu_net", **PH2, **change})


def test_other_image_sizes():
    model = build_model({"name": "qu_net", **SMALL})
    assert model(torch.rand(1, 3, 16, 8)).shape == (1, 1, 16, 8)
    with pytest.raises(ConfigError, match="multiples of 4, but are 18 x 8"):
        model(torch.rand(1, 3, 18, 8))
    with pytest.raises(ConfigError, match=r"Patches of 2 x 2 must tile the feature map, but it is 3 x 2"):
        model(torch.rand(1, 3, 12, 8))
