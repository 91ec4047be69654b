"""One tester over every model of the registry, and what is special about HQ-UNet and its twins."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_model
from torch import nn

from qhybrid.config import TrainingConfig
from qhybrid.engines import make_engine
from qhybrid.errors import ConfigError
from qhybrid.layers import QuantumLayer, quantum_layers
from qhybrid.models import MODELS, build_model, check_task, list_models, resolve_model, use_engine
from qhybrid.training.optimizer import build_optimizer

SCENE = {"in_channels": 4, "num_classes": 3, "patch_size": 32, "widths": [4, 4, 6, 6, 8]}
MASK = {"in_channels": 3, "num_classes": 1, "image_size": [24, 32], "widths": [3, 4]}
CLASS = {"in_channels": 1, "num_classes": 2, "image_size": [12, 10], "channels": [3, 4]}
FLAT = {"in_channels": 2, "num_classes": 3, "image_size": [6, 8]}
GRID_OF_2 = {"name": "four", "builder": "hq_unet_qcnn", "arguments": {"grid": 2}, "observables": None}
FOUR = {"name": "f", "builder": "qufex_filter1", "arguments": {"num_qubits": 4}, "observables": None}
ONE_VALUE = {"name": "one", "builder": "qcq_classifier", "arguments": {}, "observables": None}
VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
VIT_BESIDE = {"backbone": "random", "config": VIT, "dim": 4, "heads": 2, "points": 2}
CONFIGS = {
    "unet": {"name": "unet", **SCENE},
    "hq_unet": {"name": "hq_unet", "grid": 2, **SCENE},
    "hq_unet any size": {"name": "hq_unet", "grid": 2, "post_q": "grid", **SCENE},
    "hq_unet_twin": {"name": "hq_unet_twin", "grid": 2, **SCENE},
    "hq_unet_twin identity": {"name": "hq_unet_twin", "core": "identity", "grid": 2, **SCENE},
    "qu_unet": {"name": "qu_unet", **MASK},
    "qu_net 4_1": {"name": "qu_net", "variant": "4_1", **MASK},
    "qu_net two filters of 6": {"name": "qu_net", "variant": "6_2", **MASK},
    "qu_net mixed, 3 classes": {"name": "qu_net", "variant": "8_2_2", **MASK, "num_classes": 3},
    "qu_net_twin": {"name": "qu_net_twin", "variant": "4_2", **MASK},
    "qu_net_twin zero": {"name": "qu_net_twin", "core": "zero", **MASK, "batch_norm": True},
    "unet, any circuit behind a grid": {"name": "unet", **SCENE, "bottleneck": {"circuit": GRID_OF_2}},
    "unet, two circuits on patches": {
        "name": "unet",
        **SCENE,
        "bottleneck": {"circuit": [FOUR, FOUR], "interface": "patches"},
    },
    "unet, circuits on skips": {"name": "unet", **SCENE, "skips": {"circuit": FOUR, "levels": [1, 3]}},
    "unet without bottleneck": {"name": "unet", **SCENE, "bottleneck": "identity"},
    "hq_unet, circuit on a skip": {
        "name": "hq_unet",
        "grid": 2,
        **SCENE,
        "skips": {"circuit": FOUR, "levels": [0]},
    },
    "unet, images that are not square": {
        "name": "unet",
        **{key: value for key, value in SCENE.items() if key != "patch_size"},
        "image_size": [32, 48],
        "num_classes": 1,
        "bottleneck": {"circuit": GRID_OF_2},
    },
    "hq_unet, encoder of another library": {
        "name": "hq_unet",
        "grid": 2,
        **SCENE,
        "encoder": {"config": VIT, "freeze": False},
    },
    "unet_vit_concat": {"name": "unet_vit_concat", **SCENE, "guidance": {**VIT_BESIDE, "dim": 4}},
    "unet, deformable attention to a frozen ViT": {"name": "unet", **SCENE, "guidance": VIT_BESIDE},
    "hq_unet, no ViT": {"name": "hq_unet", "grid": 2, **SCENE, "guidance": "none"},
    "unet_plus_plus": {"name": "unet_plus_plus", **SCENE},
    "unet_spp": {"name": "unet_spp", **SCENE},
    "di_res_unet": {"name": "di_res_unet", **SCENE},
    "qu_unet, circuit and skips": {
        "name": "qu_unet",
        **MASK,
        "bottleneck": {"circuit": GRID_OF_2, "post_q": "grid"},
        "skips": {"circuit": FOUR},
    },
    "hqf_net": {
        "name": "hqf_net",
        **SCENE,
        "qskip": {"levels": [1, 3]},
        "qmoe": {
            "circuit": [{**GRID_OF_2, "name": f"e{k}", "builder": f"hqf_{k}"} for k in ("local", "global")]
        },
    },
    "hybrid_cnn": {"name": "hybrid_cnn", **CLASS},
    "hybrid_cnn, filter and circuit": {
        "name": "hybrid_cnn",
        **CLASS,
        "num_classes": 3,
        "filter": {"circuit": FOUR},
        "head": {"circuit": FOUR, "latent": "tanh"},
    },
    "hybrid_cnn, one logit an observable": {
        "name": "hybrid_cnn",
        **CLASS,
        "num_classes": 4,
        "channels": [],
        "head": {"circuit": FOUR, "trainable_scale": True},
    },
    "mlp": {"name": "mlp", "hidden": [5], **FLAT},
    "cnn": {"name": "cnn", **CLASS, "dropout": 0.1, "num_classes": 4},
    "quanvo_mlp": {"name": "quanvo_mlp", **FLAT},
    "qccnn": {"name": "qccnn", **CLASS, "filter": "random_layers", "batch_norm": True},
    "qcq_cnn": {"name": "qcq_cnn", **CLASS},
    "qcq_cnn scaled": {"name": "qcq_cnn", **CLASS, "latent": "tanh", "trainable_scale": True, "reps": 1},
    "qcq_cnn_twin": {"name": "qcq_cnn_twin", **CLASS},
    "qcnn": {"name": "qcnn", "in_channels": 2, "num_classes": 2, "image_size": [8, 8], "grid": [2, 2]},
}

IDLE_ANGLES = {"qcq_cnn": {"head.classifier.circuit": [-1]}}
"""Rotations of a qubit that is not read, after the last gate that could have moved them to one that is."""


def images_for(config, batch):
    """Return images with pixels in [0, 1] of the size that a model was built for."""
    size = config.get("image_size") or [config["patch_size"]] * 2
    return torch.rand(batch, config["in_channels"], *size)


def shape_of_logits(config, batch):
    """Return (B, K, H, W) for segmentation and (B, K) for classification."""
    pixels = images_for(config, 0).shape[2:] if "segmentation" in MODELS.get(config["name"]).tasks else ()
    return (batch, config["num_classes"], *pixels)


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def test_every_model_of_the_registry_is_tested():
    assert {config["name"] for config in CONFIGS.values()} == set(list_models())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
class TestEveryModel:
    def test_parameters_exist_before_the_first_forward_pass(self, config):
        model = build_model(config)
        before = {name: id(parameter) for name, parameter in model.named_parameters()}
        model(images_for(config, 2))
        assert {name: id(parameter) for name, parameter in model.named_parameters()} == before

    def test_every_parameter_is_in_the_optimiser_and_moves(self, config):
        torch.manual_seed(1)
        model = build_model(config)
        optimizer, _ = build_optimizer(model, TrainingConfig(weight_decay=0.0), total_steps=10)
        inside = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert inside == {id(parameter) for parameter in trained(model).values()}
        before = {name: parameter.detach().clone() for name, parameter in trained(model).items()}
        logits = model(images_for(config, 4))
        (logits - torch.randn_like(logits)).square().sum().backward()
        optimizer.step()
        assert not [
            name for name, parameter in trained(model).items() if torch.equal(parameter, before[name])
        ]

    def test_every_parameter_gets_a_gradient(self, config):
        torch.manual_seed(1)
        model = build_model(config)
        model(images_for(config, 4)).square().sum().backward()
        assert not [
            name for name, p in trained(model).items() if p.grad is None or not p.grad.abs().sum() > 0
        ]

    def test_every_angle_gets_a_gradient(self, config):
        torch.manual_seed(1)
        model = build_model(config)
        logits = model(images_for(config, 4))
        (logits * torch.randn_like(logits)).sum().backward()
        angles = {name: q.weight for name, q in quantum_layers(model).items() if q.weight.requires_grad}
        idle = {
            name: [place - len(weight) for place in (weight.grad.abs() < 1e-9).nonzero().flatten()]
            for name, weight in angles.items()
        }
        assert {name: places for name, places in idle.items() if places} == IDLE_ANGLES.get(
            config["name"], {}
        )

    @pytest.mark.parametrize("batch", [1, 3])
    def test_shape_and_dtype_of_logits(self, config, batch):
        model = build_model(config).eval()
        logits = model(images_for(config, batch))
        assert logits.shape == shape_of_logits(config, batch)
        assert logits.dtype == torch.float32

    def test_its_task_is_what_its_logits_say(self, config):
        task = "segmentation" if build_model(config)(images_for(config, 2)).ndim == 4 else "classification"
        check_task(config["name"], task, "x")
        assert task in MODELS.get(config["name"]).tasks
        other = {"segmentation": "classification", "classification": "segmentation"}[task]
        with pytest.raises(
            ConfigError, match=f"must be a model for {other}, .*is one for {task}. Fix: choose"
        ):
            check_task(config["name"], other, "x")

    def test_samples_do_not_depend_on_their_batch(self, config):
        model = build_model(config).eval()
        images = images_for(config, 3)
        alone = torch.cat([model(image[None]) for image in images])
        torch.testing.assert_close(model(images), alone, atol=1e-5, rtol=1e-4)

    def test_rebuilt_from_its_config_and_weights(self, config, tmp_path):
        model = build_model(config).eval()
        save_model(model, str(tmp_path / "weights.safetensors"))
        again = build_model(json.loads(json.dumps(model.config))).eval()
        again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        image = images_for(config, 2)
        assert torch.equal(model(image), again(image))

    def test_same_output_on_aer(self, config):
        torch.manual_seed(0)
        model = build_model(config).eval()
        image = images_for(config, 2)
        exact = model(image)
        if not quantum_layers(model):
            with pytest.raises(ConfigError, match="no quantum layers"):
                use_engine(model, make_engine("aer", method="statevector"))
            return
        use_engine(model, make_engine("aer", method="statevector"))
        with torch.no_grad():
            torch.testing.assert_close(model(image), exact, atol=1e-4, rtol=1e-4)

    def test_wrong_image_size(self, config):
        height, width = images_for(config, 0).shape[2:]
        with pytest.raises(ConfigError, match=r"multiples of (16|4)|must have shape \(batch, "):
            build_model(config)(torch.rand(1, config["in_channels"], height - 1, width))

    def test_unknown_key(self, config):
        with pytest.raises(ConfigError, match=r"num_clases` is unknown\. Did you mean `num_classes`"):
            build_model({**config, "num_clases": 3})

    @pytest.mark.gpu
    def test_same_output_on_cuda(self, config):
        torch.manual_seed(0)
        model = build_model(config).eval()
        image = images_for(config, 3)
        expected = model(image)
        model = model.cuda()
        if quantum_layers(model):
            use_engine(model, make_engine("exact", device="cuda"))
        found = model(image.cuda())
        assert found.is_cuda
        torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-3)
        found.square().sum().backward()
        assert all(parameter.grad is not None for parameter in trained(model).values())


def test_hq_unet_has_the_papers_bottleneck():
    model = build_model({"name": "hq_unet", "in_channels": 3, "num_classes": 5})
    layer = model.bottleneck.core
    assert isinstance(layer, QuantumLayer)
    assert (layer.spec.num_qubits, layer.spec.num_inputs, layer.spec.num_weights) == (16, 48, 8)
    assert layer.spec.num_observables == 32
    assert model.bottleneck.expand.in_features == 32
    assert model.bottleneck.expand.out_features == 256 * 8 * 8
    assert len(model.down) == len(model.up) == 4
    assert isinstance(model.up[0].up, nn.ConvTranspose2d)


def test_any_size_is_what_the_bottleneck_allows():
    assert build_model(CONFIGS["unet"]).any_size
    assert not build_model(CONFIGS["hq_unet"]).any_size
    other = build_model(CONFIGS["hq_unet any size"]).eval()
    assert other.any_size
    assert other(torch.randn(1, 4, 48, 64)).shape == (1, 3, 48, 64)


def test_matched_twin_has_as_many_weights_as_the_circuit():
    quantum = build_model({"name": "hq_unet", "in_channels": 3, "num_classes": 5})
    twin = build_model({"name": "hq_unet_twin", "in_channels": 3, "num_classes": 5})
    count = [sum(parameter.numel() for parameter in model.parameters()) for model in (quantum, twin)]
    assert count[0] == count[1]


def test_frozen_circuit_is_not_trained():
    model = build_model({**CONFIGS["hq_unet"], "frozen": True})
    assert not model.bottleneck.core.weight.requires_grad
    model(torch.randn(1, 4, 32, 32)).sum().backward()
    assert model.bottleneck.core.weight.grad is None
    assert model.down[3][1][0][0].weight.grad is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "unett"}, "model 'unett' is unknown. Known models: cnn, .*hq_unet.*Did you mean `unet`"),
        ({"name": "hqunet"}, "Did you mean `hq_unet`"),
        ({"patch_size": 100}, "multiple of 16"),
        ({"widths": [1, 2, 3]}, "widths"),
        ({"num_classes": 0}, "num_classes"),
        ({"image_size": [32, 48]}, "either `patch_size` or `image_size`"),
        ({"in_channels": None}, "in_channels"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(ConfigError, match=message):
        resolve_model({**CONFIGS["unet"], **change})


def test_use_engine_names_layers():
    model = build_model(CONFIGS["hq_unet"])
    aer = make_engine("aer", method="statevector")
    assert use_engine(model, aer, ["bottleneck.core"]).bottleneck.core.engine is aer
    with pytest.raises(ConfigError, match=r"head.*Quantum layers: bottleneck\.core"):
        use_engine(model, aer, ["head"])
