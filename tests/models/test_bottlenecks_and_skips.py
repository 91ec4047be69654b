"""Any circuit as a bottleneck or on skip connections: interfaces from its inputs, values, errors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qhybrid.circuits import build_circuit
from qhybrid.errors import ConfigError
from qhybrid.layers import GridBottleneck, QuantumLayer, quantum_layers
from qhybrid.models import SkipGate, build_model, resolve_model
from qhybrid.models.circuit_part import cells_of


def circuit(builder, **arguments):
    return {"name": builder, "builder": builder, "arguments": arguments, "observables": None}


FOUR = circuit("hq_unet_qcnn", grid=2)
FILTERS = [circuit(f"qufex_filter{number}", num_qubits=4) for number in (1, 2)]
SCENE = {"in_channels": 2, "num_classes": 3, "patch_size": 32, "widths": [2, 2, 3, 3, 4]}
MASK = {"in_channels": 3, "num_classes": 1, "image_size": [24, 32], "widths": [3, 4]}


def same_network(first, second, images):
    """Give one model the weights of another, and compare what they say."""
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(first.eval()(images), second.eval()(images), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("named", "parts"),
    [
        (
            {"name": "hq_unet", "grid": 2, "angle_scale": 1.5, **SCENE},
            {"name": "unet", "bottleneck": {"circuit": FOUR, "angle_scale": 1.5}, **SCENE},
        ),
        (
            {"name": "hq_unet_twin", "grid": 2, "post_q": "grid", **SCENE},
            {"name": "unet", "bottleneck": {"name": "separable", "grid": 2, "post_q": "grid"}, **SCENE},
        ),
        (
            {"name": "hq_unet_twin", "core": "identity", "grid": 2, **SCENE},
            {"name": "unet", "bottleneck": {"name": "identity", "grid": [2, 2]}, **SCENE},
        ),
        ({"name": "unet", **SCENE}, {"name": "unet", "bottleneck": "conv", **SCENE}),
        (
            {"name": "qu_net", "variant": "4_2", **MASK},
            {"name": "qu_unet", "bottleneck": {"circuit": FILTERS}, **MASK},
        ),
        (
            {"name": "qu_net", **MASK},
            {"name": "qu_unet", "bottleneck": {"circuit": FILTERS[0], "patch": [2, 2]}, **MASK},
        ),
        (
            {"name": "qu_net_twin", "filters": 2, **MASK},
            {"name": "qu_unet", "bottleneck": {"name": "pairwise", "filters": 2}, **MASK},
        ),
    ],
)
def test_named_models_are_choices_of_parts(named, parts):
    images = torch.rand(2, named["in_channels"], *named.get("image_size", [32, 32]))
    same_network(build_model(named), build_model(parts), images)


class TestInterfacesFollowFromTheCircuit:
    @pytest.mark.parametrize(
        ("spec", "grid", "features", "expected"),
        [
            (("hq_unet_qcnn", {"grid": 2}), None, None, ((2, 2), 3)),  # one cell a qubit
            (("qufex_filter1", {"num_qubits": 8}), None, None, ((2, 4), 1)),
            (("qufex_filter1", {"num_qubits": 5}), None, None, ((1, 5), 1)),
            (("hq_unet_qcnn", {"grid": 2}), (2, 3), None, ((2, 3), 2)),
            (("hq_unet_qcnn", {"grid": 2}), None, 2, ((2, 3), 2)),
            (("hq_unet_qcnn", {"grid": 2}), (1, 12), 1, ((1, 12), 1)),
        ],
    )
    def test_cells(self, spec, grid, features, expected):
        assert cells_of(build_circuit(spec[0], **spec[1]), grid, features) == expected

    @pytest.mark.parametrize(("grid", "features"), [((2, 4), None), (None, 5), ((2, 2), 2), ((4, 4), None)])
    def test_cells_that_cannot_be(self, grid, features):
        with pytest.raises(ValueError, match=r"has 12 inputs, but `grid` .*product is 12"):
            cells_of(build_circuit("hq_unet_qcnn", grid=2), grid, features)

    def test_outputs_are_the_observables(self):
        three = {**FOUR, "observables": ["Z0", "X1 X2", "0.5 * Z3"]}
        model = build_model({"name": "unet", "bottleneck": {"circuit": three}, **SCENE})
        assert model.bottleneck.expand.in_features == 3
        assert model.bottleneck.reduce.out_channels == 3

    def test_patches_of_a_circuit(self):
        six = circuit("qufex_filter1", num_qubits=6)
        config = {
            "name": "qu_unet",
            "bottleneck": {"circuit": six, "maps": 1},
            **MASK,
            "image_size": [24, 36],
        }
        resolved = resolve_model(config)["bottleneck"]
        assert (resolved["patch"], resolved["maps"], resolved["filters"]) == ([2, 3], 1, 1)

    def test_copies_have_their_own_weights(self):
        model = build_model({"name": "qu_unet", "bottleneck": {"circuit": FILTERS[0], "filters": 2}, **MASK})
        first, second = quantum_layers(model).values()
        assert not torch.equal(first.weight, second.weight)
        assert model.decoder[0].up.in_channels == 2 * 4

    def test_frozen(self):
        model = build_model({"name": "unet", "bottleneck": {"circuit": FOUR, "frozen": True}, **SCENE})
        assert not model.bottleneck.core.weight.requires_grad

    def test_cells_need_not_be_square(self):
        bottleneck = GridBottleneck(3, nn.Identity(), 6, grid=(2, 3), cell_features=1, map_size=(4, 6))
        features = torch.randn(2, 3, 4, 6)
        pooled = features.reshape(2, 3, 2, 2, 3, 2).mean((3, 5))
        cells = torch.tanh(
            torch.einsum("fc,bcrs->bfrs", bottleneck.reduce.weight[:, :, 0, 0], pooled)
            + bottleneck.reduce.bias
        )
        torch.testing.assert_close(bottleneck.angles(features), cells.flatten(1))
        assert bottleneck(features).shape == features.shape


def test_bottlenecks_without_an_interface():
    features = torch.randn(1, 4, 2, 2)
    identity = build_model({"name": "unet", "bottleneck": "identity", **SCENE}).bottleneck
    zero = build_model({"name": "unet", "bottleneck": {"name": "zero"}, **SCENE}).bottleneck
    assert torch.equal(identity(features), features)
    assert torch.equal(zero(features), torch.zeros_like(features))


@pytest.mark.parametrize(
    ("bottleneck", "message"),
    [
        ({"circuit": FOUR, "name": "conv"}, "either `circuit` or `name`, but not both"),
        ({"circuit": "hq_unet"}, r"key `bottleneck.circuit`: Circuit 'hq_unet' is unknown"),
        ({"circuit": 3}, r"must be a circuit: its name, a definition file, .* but is 3 \(given: 3\)\.$"),
        ({"circuit": [FOUR, "four"]}, "'four' is unknown"),
        ({"circuit": []}, "must name at least one circuit"),
        ({"circuit": FOUR, "gird": 2}, r"`bottleneck.gird` is unknown. Did you mean `grid`"),
        ({"circuit": FOUR, "patch": [2, 2]}, r"one input and one observable for each of the 4 values"),
        ({"circuit": FOUR, "interface": "grid", "patch": [2, 2]}, "`interface: grid` has no key `patch`"),
        ({"circuit": FILTERS, "interface": "grid"}, "several circuits .* `interface: patches`"),
        ({"circuit": FILTERS, "filters": 3}, "`filters` is 3, but `circuit` lists 2"),
        ({"circuit": FOUR, "grid": [0, 2]}, "`grid` must be at least 1 x 1"),
        ({"circuit": FILTERS[0], "patch": [4, 1], "interface": "patches"}, "Patches of 4 x 1 must tile"),
        ({"name": "conv", "patch": [2, 2]}, "`name: conv` without `interface` has no key `patch`"),
        ({"name": "conv", "interface": "grid"}, "`interface: grid` is not possible with `name: conv`"),
        ({"name": "separable", "grid": [2, 3]}, "takes a square `grid`"),
        ({"name": "identity", "frozen": True}, "`frozen` is for circuits"),
        ("convv", "conv"),
    ],
)
def test_bottlenecks_that_cannot_be(bottleneck, message):
    with pytest.raises(ConfigError, match=message):
        resolve_model({"name": "unet", "bottleneck": bottleneck, **SCENE})


class TestSkips:
    def gate(self):
        torch.manual_seed(0)
        return SkipGate(3, QuantumLayer(build_circuit("hq_unet_qcnn", grid=2)), 12, 8, angle_scale=2.0)

    def test_values_by_hand(self):
        gate, skip = self.gate(), torch.randn(2, 3, 4, 6)
        angles = 2 * torch.tanh(skip.mean((2, 3)) @ gate.reduce.weight.T + gate.reduce.bias)
        factor = 1 + torch.tanh(gate.core(angles) @ gate.gate.weight.T + gate.gate.bias)
        torch.testing.assert_close(gate(skip), torch.einsum("bc,bchw->bchw", factor, skip))

    def test_zero_gates_are_the_identity_and_new_ones_are_near_it(self):
        gate, skip = self.gate(), torch.randn(2, 3, 4, 6)
        assert 0 < (gate(skip) / skip - 1).abs().max() < 0.1
        nn.init.zeros_(gate.gate.weight)
        assert torch.equal(gate(skip), skip)

    @pytest.mark.parametrize("base", [{"name": "unet", **SCENE}, {"name": "qu_unet", **MASK}])
    def test_a_network_with_zero_gates_is_the_network_without(self, base):
        plain, gated = build_model(base).eval(), build_model({**base, "skips": {"circuit": FOUR}}).eval()
        missing = gated.load_state_dict(plain.state_dict(), strict=False).missing_keys
        assert {key.split(".")[0] for key in missing} == {"skips"}
        for gate in gated.skips.values():
            nn.init.zeros_(gate.gate.weight)
        images = torch.rand(2, base["in_channels"], 32, 32)
        assert torch.equal(plain(images), gated(images))

    def test_levels_and_circuits(self):
        skips = {"circuit": [FOUR, FILTERS[0]], "levels": [0, 3]}
        model = build_model({"name": "unet", **SCENE, "skips": skips})
        assert list(quantum_layers(model)) == ["skips.0.core", "skips.3.core"]
        assert [layer.spec.num_inputs for layer in quantum_layers(model).values()] == [12, 4]
        assert [gate.gate.out_features for gate in model.skips.values()] == [2, 3]

    @pytest.mark.parametrize(
        ("skips", "message"),
        [
            ({"circuit": FOUR, "levels": [4]}, r"`skips.levels` must be from 0 to 3, but is \[4\]"),
            ({"circuit": FOUR, "levels": [1, 1]}, "different numbers from 0"),
            ({"circuit": [FOUR, FOUR], "levels": [1]}, "`circuit` lists 2 for 1 `levels`"),
            ({"circuit": [FOUR, FOUR]}, "lists 2 circuits, but there are 4 skip"),
            ({"levels": [1]}, "`skips.circuit` is missing"),
        ],
    )
    def test_errors(self, skips, message):
        with pytest.raises(ConfigError, match=message):
            resolve_model({"name": "unet", **SCENE, "skips": skips})


class TestCutSkips:
    """Skip connections that are left out: what is below them passes the bottleneck alone."""

    @pytest.mark.parametrize(("name", "content", "levels"), [("unet", SCENE, 4), ("qu_unet", MASK, 2)])
    def test_without_any_skip_only_the_bottleneck_knows_the_image(self, name, content, levels):
        images = torch.rand(2, content["in_channels"], *content.get("image_size", [32, 32]))
        keys = {"name": name, "bottleneck": "zero", **content, "widths": [8] * len(content["widths"])}
        for cut, depends in (
            (list(range(levels)), False),
            ([levels - 1], True),
        ):
            model = build_model({**keys, "cut_skips": cut}).eval()
            with torch.no_grad():
                first, second = model(images)
            assert bool((first != second).any()) == depends

    @pytest.mark.parametrize(("name", "content"), [("hq_unet", {"grid": 2, **SCENE}), ("qu_unet", MASK)])
    def test_is_part_of_the_keys_only_when_used(self, name, content):
        assert "cut_skips" not in resolve_model({"name": name, **content})
        assert resolve_model({"name": name, **content, "cut_skips": [1]})["cut_skips"] == [1]

    @pytest.mark.parametrize("cut", [[], [4], [-1], [0, 0]])
    def test_levels_that_do_not_exist(self, cut):
        with pytest.raises(ConfigError, match=r"cut_skips.*from 0 to 3"):
            build_model({"name": "unet", **SCENE, "cut_skips": cut})

    def test_a_level_with_a_circuit(self):
        keys = {"name": "unet", **SCENE, "skips": {"circuit": FOUR, "levels": [3]}}
        build_model({**keys, "cut_skips": [0]})
        with pytest.raises(ConfigError, match="leaves out level 3"):
            build_model({**keys, "cut_skips": [3]})
