"""HQF-Net: identity at zero angles, mixture and router by hand, experts switched off, arms, recipe keys."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tiny_vits import TINY
from torch import nn

from qhybrid.errors import ConfigError
from qhybrid.layers import ExpertBottleneck, Router, all_experts, quantum_layers, routers
from qhybrid.layers.experts import entropy
from qhybrid.models import build_model, resolve_model
from qhybrid.models.bottlenecks import BottleneckOptions

BASE = {"in_channels": 3, "num_classes": 4, "patch_size": 32, "widths": [4, 4, 6, 6, 8]}
SMALL = [{"name": f"hqf_{kind}", "arguments": {"grid": 2}} for kind in ("local", "global", "directional")]
HQF = {"name": "hqf_net", **BASE, "qmoe": {"circuit": SMALL}}
EXPERTS = ["hqf_local", "hqf_global", "hqf_directional"]
VIT = {"backbone": "random", "config": TINY, "dim": 4, "heads": 2, "points": 2}


def with_zero_angles(model):
    """Set all angles of circuits and of gates to zero."""
    with torch.no_grad():
        for layer in quantum_layers(model).values():
            layer.weight.zero_()
        for name, parameter in model.named_parameters():
            if name.rpartition(".")[2] in ("gate_angle", "gate_angles"):
                parameter.zero_()
    return model


def with_statistics(model, images):
    """Give the batch norms of a new model the statistics of images, as training does."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
    with torch.no_grad():
        model.train()(images)
    return model


def skeleton_of(model, **keys):
    """Return the U-Net without quantum parts that has the same weights."""
    plain = build_model({"name": "unet", **BASE, "bottleneck": "identity", **keys})
    own = plain.state_dict()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name in own})
    return plain


class TestIdentity:
    @pytest.mark.parametrize("training", [False, True])
    def test_zero_angles_give_the_logits_of_the_classical_skeleton(self, training):
        torch.manual_seed(0)
        images = torch.rand(3, 3, 32, 32)
        model = with_statistics(build_model({"name": "hqf_net", **BASE}), images)
        plain = skeleton_of(model)
        changed = (model.train(training)(images) - plain.train(training)(images)).abs().max()
        zero = with_zero_angles(model).train(training)(images)
        torch.testing.assert_close(zero, plain.train(training)(images), atol=1e-6, rtol=0)
        assert changed > 1e-4

    @pytest.mark.parametrize("key", ["qskip", "qmoe"])
    def test_each_part_alone(self, key):
        torch.manual_seed(1)
        images = torch.rand(3, 3, 32, 32)
        model = with_statistics(build_model({**HQF, key: "none"}), images)
        assert all(("skips" in name) == (key == "qmoe") for name in quantum_layers(model))
        plain = skeleton_of(model).eval()(images)
        assert (model.eval()(images) - plain).abs().max() > 1e-5
        torch.testing.assert_close(with_zero_angles(model)(images), plain, atol=1e-6, rtol=0)

    def test_both_parts_left_out_is_the_skeleton(self):
        model = build_model({"name": "hqf_net", **BASE, "qskip": "none", "qmoe": "none"})
        plain = build_model({"name": "unet", **BASE, "bottleneck": "identity"})
        assert list(model.state_dict()) == list(plain.state_dict())
        assert not quantum_layers(model)

    def test_with_a_frozen_vit_too(self):
        """Zero angles and offsets: the guided skeleton; since gates start near zero, the plain one too."""
        torch.manual_seed(0)
        images, maps = torch.rand(3, 3, 32, 32), torch.randn(3, 2, 16, 3, 3).half()
        model = with_zero_angles(build_model({**HQF, "guidance": VIT}))
        model = with_statistics(model, images).eval()
        assert not any(one.offsets.weight.any() for one in model.guidance.fusions.values())
        guided, plain = skeleton_of(model, guidance=VIT).eval(), skeleton_of(model).eval()
        logits = model(images, maps)
        torch.testing.assert_close(logits, guided(images, maps), atol=1e-6, rtol=0)
        torch.testing.assert_close(logits, plain(images), atol=1e-6, rtol=0)
        with torch.no_grad():
            for one in model.guidance.fusions.values():
                one.gate.fill_(0.5)
        assert (model(images, maps) - logits).abs().max() > 1e-4

    @pytest.mark.parametrize("guided", [False, True])
    def test_one_backward_pass_reaches_every_parameter_and_every_angle(self, guided):
        torch.manual_seed(0)
        model = build_model({"name": "hqf_net", **BASE, **({"guidance": VIT} if guided else {})})
        maps = [torch.randn(3, 2, 16, 3, 3).half()] if guided else []
        logits = model(torch.rand(3, 3, 32, 32), *maps)
        (logits * torch.randn_like(logits)).sum().backward()
        assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        for layer in quantum_layers(model).values():
            assert layer.weight.grad.abs().min() > 1e-9


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_gates_in_bf16_are_near_those_in_single_precision(order):
    torch.manual_seed(0)
    gate = build_model({**HQF, "qmoe": "none", "qskip": {"levels": [0]}}).skips["0"]
    with torch.no_grad():
        gate.gate_angle.fill_(1.0)
        gate.reduce.weight.mul_(5)
    skip = (1 + torch.randn(2, 4, 24, 40)).bfloat16().to(memory_format=order).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = gate(skip)
    assert found.dtype == torch.bfloat16
    exact = skip.detach().float().requires_grad_()
    torch.testing.assert_close(found.float(), gate(exact), rtol=0.02, atol=0.02)
    found.float().square().sum().backward()
    gate(exact).square().sum().backward()
    torch.testing.assert_close(skip.grad.float(), exact.grad, rtol=0.05, atol=0.05)


class TestMixture:
    def test_equals_the_formula(self):
        torch.manual_seed(0)
        experts = {"a": nn.Linear(12, 5), "b": nn.Tanh()}
        experts["b"] = nn.Sequential(nn.Linear(12, 5), nn.Tanh())
        mixture = ExpertBottleneck(6, experts, 5, grid=2)
        with torch.no_grad():
            mixture.gate_angles.copy_(torch.tensor([0.4, -1.1]))
        features = torch.randn(3, 6, 4, 4)
        angles = mixture.angles(features)
        logits = features.mean((2, 3)) @ mixture.router.linear.weight.T + mixture.router.linear.bias
        p = logits.exp() / logits.exp().sum(1, keepdim=True)
        mixed = p[:, :1] * math.sin(0.4) * experts["a"](angles)
        mixed = mixed + p[:, 1:] * math.sin(-1.1) * experts["b"](angles)
        cells = (mixed @ mixture.expand.weight.T).reshape(3, 6, 2, 2)
        large = nn.functional.interpolate(cells, (4, 4), mode="bilinear", align_corners=False)
        torch.testing.assert_close(mixture(features), features + large)

    def test_top_k_keeps_the_largest(self):
        router = Router(4, ("a", "b", "c"), top_k=2)
        probabilities = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]])
        assert router.chosen(probabilities).tolist() == [[1, 0, 1], [0, 1, 1]]
        features = torch.randn(5, 4, 3, 3)
        soft = router.linear(features.mean((2, 3))).softmax(1)
        kept = router(features)
        assert ((kept == 0).sum(1) == 1).all()
        torch.testing.assert_close(kept.sum(1), 1 - soft.min(1).values)

    def test_a_mixture_can_be_copied_between_a_step_and_its_loss(self):
        mixture = ExpertBottleneck(6, {"a": nn.Linear(12, 5), "b": nn.Linear(12, 5)}, 5, grid=2).train()
        features = torch.randn(3, 6, 4, 4)
        before = mixture(features)
        again = copy.deepcopy(mixture)
        assert again.router.take() is None
        assert mixture.router.take() is not None
        assert torch.equal(again(features), before)

    def test_top_one_still_trains_the_router(self):
        torch.manual_seed(0)
        model = build_model({**HQF, "qmoe": {"circuit": SMALL, "top_k": 1}})
        model(torch.rand(3, 3, 32, 32)).square().sum().backward()
        assert model.bottleneck.router.linear.weight.grad.abs().max() > 0

    @pytest.mark.parametrize("top_k", [1, 2])
    def test_top_k_executes_chosen_experts_alone_with_the_same_values_and_gradients(self, top_k):
        torch.manual_seed(3)
        experts = {name: nn.Sequential(nn.Linear(12, 5), nn.Tanh()) for name in "abc"}
        mixture = ExpertBottleneck(6, experts, 5, grid=2, top_k=top_k)
        with torch.no_grad():
            mixture.router.linear.bias[2] = -9  # nobody chooses the last one first
        rows = dict.fromkeys("abc", 0)
        for name, expert in experts.items():
            expert.register_forward_hook(
                lambda _, given, __, name=name: rows.update({name: rows[name] + len(given[0])})
            )
        features = torch.randn(7, 6, 4, 4)

        def run():
            mixture.zero_grad()
            given = features.clone().requires_grad_()
            said = mixture(given)
            (said * torch.linspace(-1, 1, said.numel()).reshape(said.shape)).sum().backward()
            return said.detach(), given.grad, {n: p.grad.clone() for n, p in mixture.named_parameters()}

        said, back, gradients = run()
        assert sum(rows.values()) == 7 * top_k
        assert rows["c"] < 7
        with all_experts(nn.Sequential(mixture)):
            every = run()
        assert sum(rows.values()) == 7 * top_k + 21
        assert mixture.sparse
        torch.testing.assert_close(said, every[0])
        torch.testing.assert_close(back, every[1])
        assert gradients.keys() == every[2].keys()
        for name, gradient in every[2].items():
            torch.testing.assert_close(gradients[name], gradient, msg=name)

    def test_a_circuit_that_no_image_chooses_has_a_gradient_of_zeros(self):
        torch.manual_seed(0)
        model = build_model({**HQF, "qmoe": {"circuit": SMALL, "top_k": 1}})
        with torch.no_grad():
            model.bottleneck.router.linear.weight.zero_()
            model.bottleneck.router.linear.bias.copy_(torch.tensor([5.0, 0, 0]))
        model(torch.rand(2, 3, 32, 32)).square().sum().backward()
        gradients = [layer.weight.grad for layer in model.bottleneck.core.values()]
        assert gradients[0].any()
        assert [bool(one.any()) for one in gradients[1:]] == [False, False]

    def test_imbalance_by_hand(self):
        soft, hard = Router(2, ("a", "b")), Router(2, ("a", "b"), top_k=1)
        p = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]])
        assert float(soft.imbalance(p)) == pytest.approx(2 * (0.6**2 + 0.4**2) - 1)
        assert soft.load(p).tolist() == pytest.approx([0.6, 0.4])
        assert hard.load(p).tolist() == pytest.approx([2 / 3, 1 / 3])
        assert float(hard.imbalance(p)) == pytest.approx(2 * (2 / 3 * 0.6 + 1 / 3 * 0.4) - 1)
        assert float(soft.imbalance(torch.full((4, 2), 0.5))) == pytest.approx(0)
        assert float(soft.imbalance(torch.tensor([[1.0, 0.0]]))) == pytest.approx(1)

    def test_entropy_by_hand(self):
        assert float(entropy(torch.full((2, 3), 1 / 3))) == pytest.approx(1)
        assert float(entropy(torch.tensor([[1.0, 0.0, 0.0]]))) == pytest.approx(0)
        p = torch.tensor([[0.9, 0.1]])
        assert float(entropy(p)) == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2))
        assert float(entropy(torch.ones(3, 1))) == 0

    def test_probabilities_are_taken_once_and_in_training_alone(self):
        model = build_model(HQF)
        (router,) = routers(model).values()
        model(torch.rand(2, 3, 32, 32))
        taken = router.take()
        assert taken.shape == (2, 3)
        assert taken.sum(1).tolist() == pytest.approx([1, 1])
        assert router.take() is None
        model.eval()(torch.rand(2, 3, 32, 32))
        assert router.take() is None
        copy.deepcopy(model)


class TestExpertsAreSwitchedOff:
    def test_off(self):
        model = build_model({**HQF, "qmoe": {"circuit": SMALL, "off": ["hqf_global"]}})
        assert [n for n in quantum_layers(model) if "core.hqf" in n] == [
            "bottleneck.core.hqf_local",
            "bottleneck.core.hqf_directional",
        ]
        model(torch.rand(2, 3, 32, 32)).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in model.parameters())

    def test_one_expert_has_no_router_to_train(self):
        model = build_model({**HQF, "qmoe": {"circuit": SMALL, "off": EXPERTS[1:]}})
        model(torch.rand(2, 3, 32, 32)).square().sum().backward()
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        assert all(p.grad.any() for p in trained.values())
        assert not any("router" in name for name in trained)

    def test_a_removed_expert_equals_a_mixture_whose_gate_is_shut(self):
        torch.manual_seed(0)
        model = build_model(HQF).eval()
        removed = copy.deepcopy(model)
        removed.bottleneck.remove("hqf_global")
        assert removed.bottleneck.router.names == ("hqf_local", "hqf_directional")
        with torch.no_grad():
            model.bottleneck.gate_angles[1] = 0.0
            model.bottleneck.router.linear.bias[1] = -1e9
        images = torch.rand(2, 3, 32, 32)
        torch.testing.assert_close(removed(images), model(images), atol=1e-6, rtol=0)

    def test_equal_experts_have_their_own_names(self):
        section = {"circuit": [SMALL[0], SMALL[0], SMALL[1]], "interface": "experts"}
        model = build_model({"name": "unet", **BASE, "bottleneck": section})
        assert model.bottleneck.router.names == ("hqf_local", "hqf_local_2", "hqf_global")

    @pytest.mark.parametrize(
        ("circuits", "names"),
        [(("ring_2", "ring"), ("ring_2", "ring_3")), (("keys", "keys"), ("keys_1", "keys_2"))],
    )
    def test_no_expert_is_lost_by_its_name(self, circuits, names):
        content = BottleneckOptions.model_validate({"circuit": SMALL[0]}).contents[0]
        section = {"circuit": [{**content, "name": name} for name in circuits], "interface": "experts"}
        model = build_model({"name": "unet", **BASE, "bottleneck": section})
        assert (tuple(model.bottleneck.core), model.bottleneck.router.names) == (names, names)


class TestArms:
    @pytest.mark.parametrize("arm", ["identity", "zero", "frozen", "twin", "mlp", "no_entanglement"])
    def test_every_layer_takes_every_arm(self, arm):
        names = list(quantum_layers(build_model(HQF)))
        model = build_model({**HQF, "replace": dict.fromkeys(names, arm)})
        model(torch.rand(2, 3, 32, 32)).square().sum().backward()
        left = quantum_layers(model)
        assert set(left) == (set(names) if arm in ("frozen", "no_entanglement") else set())
        assert arm != "frozen" or not any(layer.weight.requires_grad for layer in left.values())

    def test_zero_and_removed_are_the_skeleton(self):
        names = list(quantum_layers(build_model(HQF)))
        images = torch.rand(2, 3, 32, 32)
        for arm in ("zero", "removed"):
            model = build_model({**HQF, "replace": dict.fromkeys(names, arm)}).eval()
            plain = skeleton_of(model).eval()
            torch.testing.assert_close(model(images), plain(images), atol=1e-6, rtol=0)

    def test_one_expert_removed(self):
        model = build_model({**HQF, "replace": {"bottleneck.core.hqf_local": "removed"}})
        assert model.bottleneck.router.names == ("hqf_global", "hqf_directional")
        assert model.replaced == {"bottleneck.core.hqf_local": "mixture without this expert"}

    def test_twins_have_as_many_weights(self):
        model = build_model(HQF)
        counts = {name: layer.weight.numel() for name, layer in quantum_layers(model).items()}
        twin = build_model({**HQF, "replace": dict.fromkeys(counts, "twin")})
        found = {name: sum(p.numel() for p in twin.get_submodule(name).parameters()) for name in counts}
        assert found == counts


class TestOtherModels:
    def test_experts_and_gate_angles_in_any_unet(self):
        qmoe = {"circuit": SMALL, "interface": "experts"}
        skips = {"circuit": "hqf_qskip", "levels": [0], "gate_angle": 0.2}
        images = {"in_channels": 3, "num_classes": 1, "image_size": [24, 32], "widths": [3, 4]}
        for config in (
            {"name": "unet", **BASE, "bottleneck": qmoe, "skips": skips},
            {"name": "qu_unet", **images, "bottleneck": qmoe, "skips": skips},
        ):
            model = build_model(config)
            assert isinstance(model.bottleneck, ExpertBottleneck)
            assert float(model.skips["0"].gate_angle.detach()) == pytest.approx(0.2)
            assert build_model(model.config).config == model.config

    def test_the_parts_of_hqf_net_are_those_of_unet(self):
        torch.manual_seed(0)
        own = build_model(HQF).eval()
        qskip = {"circuit": "hqf_qskip", "gate_angle": 0.1}
        qmoe = {"circuit": SMALL, "interface": "experts"}
        parts = build_model({"name": "unet", **BASE, "bottleneck": qmoe, "skips": qskip}).eval()
        parts.load_state_dict(own.state_dict())
        images = torch.rand(2, 3, 32, 32)
        assert torch.equal(own(images), parts(images))


def test_levels_can_be_chosen_and_any_size_passes():
    model = build_model({**HQF, "qskip": {"levels": [1, 3]}}).eval()
    assert [n for n in quantum_layers(model) if "skips" in n] == ["skips.1.core", "skips.3.core"]
    assert model.any_size
    assert model(torch.rand(1, 3, 48, 64)).shape == (1, 4, 48, 64)


def test_keys_of_other_parts_stay_out_of_what_runs_keep():
    plain = resolve_model({"name": "unet", **BASE, "skips": {"circuit": "hqf_qskip"}})
    assert "gate_angle" not in plain["skips"]
    hq_unet = resolve_model({"name": "unet", **BASE, "bottleneck": {"circuit": "hq_unet_qcnn"}})["bottleneck"]
    assert not {"top_k", "balance", "off", "gate_angle"} & hq_unet.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"skips": {"circuit": "hqf_qskip"}}, "`skips` of this model is called `qskip`"),
        ({"qskip": {"levels": [4]}}, r"`skips.levels` must be from 0 to 3"),
        ({"cut_skips": [0]}, "leaves out level 0"),
        ({"qmoe": {"circuit": SMALL, "top_k": 4}}, "`top_k` is 4, but there are 3 experts"),
        ({"qmoe": {"circuit": SMALL, "off": ["local"]}}, "`off` names local, but the experts are hqf_local"),
        ({"qmoe": {"circuit": SMALL, "off": EXPERTS}}, "`off` leaves no expert"),
        ({"qmoe": {"circuit": [SMALL[0], "hqf_local"]}}, "equally many inputs"),
        ({"qmoe": {"circuit": SMALL, "patch": [2, 2]}}, "`interface: experts` has no key `patch`"),
        ({"qmoe": {"name": "identity", "top_k": 1}}, "has no key `top_k`"),
        ({"qmoe": {"circuit": SMALL, "balance": -1}}, "balance"),
        ({"qskip": "all"}, "qskip"),
        ({"qmoe": {"topk": 1}}, r"^[^\n]*key `qmoe.topk` is unknown. Did you mean `top_k`\?$"),
    ],
)
def test_bad_keys(change, message):
    with pytest.raises(ConfigError, match=message):
        resolve_model({**HQF, **change})
