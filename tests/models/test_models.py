"""One tester over every model of the registry, and what is special about HQ-UNet and its twins."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_model
from torch import nn

from qhybrid.engines import make_engine
from qhybrid.errors import ConfigError
from qhybrid.layers import QuantumLayer, quantum_layers
from qhybrid.models import build_model, list_models, resolve_model, use_engine

SMALL = {"in_channels": 4, "num_classes": 3, "patch_size": 32, "widths": [4, 4, 6, 6, 8]}
CONFIGS = {
    "unet": {"name": "unet", **SMALL},
    "hq_unet": {"name": "hq_unet", "grid": 2, **SMALL},
    "hq_unet any size": {"name": "hq_unet", "grid": 2, "post_q": "grid", **SMALL},
    "hq_unet_twin": {"name": "hq_unet_twin", "grid": 2, **SMALL},
    "hq_unet_twin identity": {"name": "hq_unet_twin", "core": "identity", "grid": 2, **SMALL},
}


def test_every_model_of_the_registry_is_tested():
    assert {config["name"] for config in CONFIGS.values()} == set(list_models())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
class TestEveryModel:
    def test_parameters_exist_before_the_first_forward_pass(self, config):
        model = build_model(config)
        before = {name: id(parameter) for name, parameter in model.named_parameters()}
        model(torch.randn(2, 4, 32, 32))
        assert {name: id(parameter) for name, parameter in model.named_parameters()} == before

    def test_every_parameter_gets_a_gradient(self, config):
        torch.manual_seed(0)
        model = build_model(config)
        model(torch.randn(2, 4, 32, 32)).square().sum().backward()
        without = [
            name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
        ]
        assert not without

    @pytest.mark.parametrize("batch", [1, 3])
    def test_logits_have_the_size_of_the_image(self, config, batch):
        model = build_model(config).eval()
        logits = model(torch.randn(batch, 4, 32, 32))
        assert logits.shape == (batch, 3, 32, 32)
        assert logits.dtype == torch.float32

    def test_rebuilt_from_its_config_and_weights(self, config, tmp_path):
        model = build_model(config).eval()
        save_model(model, str(tmp_path / "weights.safetensors"))
        again = build_model(json.loads(json.dumps(model.config))).eval()
        again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
        image = torch.randn(2, 4, 32, 32)
        assert torch.equal(model(image), again(image))

    def test_same_output_on_aer(self, config):
        torch.manual_seed(0)
        model = build_model(config).eval()
        image = torch.randn(2, 4, 32, 32)
        exact = model(image)
        if not quantum_layers(model):
            with pytest.raises(ConfigError, match="no quantum layers"):
                use_engine(model, make_engine("aer", method="statevector"))
            return
        use_engine(model, make_engine("aer", method="statevector"))
        torch.testing.assert_close(model(image), exact, atol=1e-4, rtol=1e-4)

    def test_wrong_image_size(self, config):
        with pytest.raises(ConfigError, match="multiples of 16"):
            build_model(config)(torch.randn(1, 4, 30, 32))

    def test_unknown_key(self, config):
        with pytest.raises(ConfigError, match="widhts.*Did you mean `widths`"):
            build_model({**config, "widhts": [1, 2, 3, 4, 5]})


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
        ({"name": "unett"}, "model 'unett' is unknown. Known models: hq_unet"),
        ({"patch_size": 100}, "multiple of 16"),
        ({"widths": [1, 2, 3]}, "widths"),
        ({"num_classes": 1}, "num_classes"),
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
