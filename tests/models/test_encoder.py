"""Pretrained encoders: what they compute against `transformers` itself, what is trained, what a run keeps."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch.nn import functional as F

from qhybrid.config import Recipe, TrainingConfig, validated
from qhybrid.errors import ConfigError
from qhybrid.experiments.sweeps.training import recipe_key
from qhybrid.models import build_model, kept_model, resolve_model, with_values
from qhybrid.training import load_run, train
from qhybrid.training.optimizer import parameter_groups
from qhybrid.workspace import data_root

transformers = pytest.importorskip("transformers")

VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
KINDS = {
    "dinov2": (VIT, (1, 1, 2, 2, 3), 14),
    "vit": ({**VIT, "intermediate_size": 32}, (1, 1, 2, 2, 3), 14),
    "resnet": ({**STAGES, "embedding_size": 8, "layer_type": "basic"}, (1, 1, 1, 2, 3), 32),
    "convnext": (STAGES, (1, 1, 1, 2, 3), 32),
    "swin": (
        {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "image_size": 32, "window_size": 4},
        None,
        None,
    ),
}
"""Tiny configurations, the hidden state that each of the five scales is made of, and the largest stride."""


def save_tiny(folder, kind="dinov2", seed=0):
    torch.manual_seed(seed)
    model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **KINDS[kind][0]))
    # Of its own drawing the last norm is the identity but for a shift and scale of zero and one.
    for norm in (part for part in model.modules() if isinstance(part, torch.nn.LayerNorm)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.uniform_(norm.bias, -0.5, 0.5)
    model.save_pretrained(folder)
    return model.eval()


@pytest.fixture
def tiny(tmp_path):
    return save_tiny(tmp_path / "tiny"), str(tmp_path / "tiny")


def section(weights, bands=3, **encoder):
    return {
        "name": "hq_unet",
        "in_channels": bands,
        "num_classes": 3,
        "patch_size": 32,
        "widths": [4, 4, 4, 6, 6],
        "grid": 2,
        "encoder": {"weights": weights, **encoder},
    }


def encoder_of(weights, bands=3, **encoder):
    torch.manual_seed(0)
    return build_model(section(weights, bands, **encoder)).encoder.eval()


@pytest.mark.shared_data
def test_feature_maps_are_those_of_dinov2s_own_backbone(shared_data):
    """The real ViT-S/14: Dinov2Backbone reshapes and normalises intermediate layers by itself."""
    reference = transformers.Dinov2Backbone.from_pretrained(
        str(shared_data / "vit_small"), out_indices=[2, 7, 12], dtype=torch.float32
    ).eval()
    encoder = encoder_of(str(shared_data / "vit_small"))
    image = torch.randn(2, 3, 70, 98)
    with torch.no_grad():
        states, expected = encoder._states(image), reference(image).feature_maps
    for layer, one in zip((2, 7, 12), expected, strict=True):
        torch.testing.assert_close(states[layer], one, rtol=1e-4, atol=1e-4)
    assert (encoder.layers, encoder.multiple) == ((2, 5, 7, 10, 12), 14)


@pytest.mark.shared_data
@pytest.mark.parametrize("bands", [1, 4, 13])
def test_a_grey_image_gives_the_same_in_any_number_of_bands(shared_data, bands):
    """Equal bands through inflated filters are what the original makes of grey, to rounding."""
    grey = torch.randn(1, 1, 56, 56)
    few = encoder_of(str(shared_data / "vit_small"))
    many = encoder_of(str(shared_data / "vit_small"), bands)
    with torch.no_grad():
        expected = few._states(grey.repeat(1, 3, 1, 1))
        found = many._states(grey.repeat(1, bands, 1, 1))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_named_colours_keep_their_filters(tiny):
    model, weights = tiny
    image = torch.randn(1, 3, 28, 42)
    swapped = encoder_of(weights, rgb=[3, 2, 1])
    with torch.no_grad():
        expected = model(image).last_hidden_state[:, 1:]
        found = swapped._states(image.flip(1))[-1].flatten(2).transpose(1, 2)
        torch.testing.assert_close(found, expected)
    old = model.embeddings.patch_embeddings.projection.weight
    new = encoder_of(weights, 5, rgb=[4, 2, 1]).backbone.embeddings.patch_embeddings.projection.weight
    torch.testing.assert_close(new.sum(1), old.sum(1))
    torch.testing.assert_close(new[:, [3, 1, 0]], old * 3 / 5)
    torch.testing.assert_close(new[:, 2], old.mean(1) * 3 / 5)


def test_values_from_zero_to_one_are_normalised_as_imagenet_was(tiny):
    model, weights = tiny
    image = torch.rand(1, 3, 28, 28)
    mean, std = ([[[v]] for v in values] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    encoder = encoder_of(weights, values="zero_to_one")
    with torch.no_grad():
        expected = model((image - torch.tensor(mean)) / torch.tensor(std)).last_hidden_state[:, 1:]
        found = encoder._states(encoder._normalised(image))[-1].flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("scale", "side"), [(1.0, 42), (2.0, 70)])
def test_sides_that_are_no_multiple_of_the_patch_are_resized(tiny, scale, side):
    model, weights = tiny
    image = torch.randn(1, 3, 32, 32)
    encoder = encoder_of(weights, scale=scale)
    with torch.no_grad():
        resized = F.interpolate(image, (side, side), mode="bilinear", align_corners=False)
        expected = model(resized).last_hidden_state[:, 1:]
        found = encoder._states(image)[-1]
    assert found.shape[2:] == (side // 14, side // 14)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_reach_all_scales(tmp_path, kind):
    save_tiny(tmp_path, kind)
    model = build_model({**section(str(tmp_path), 4), "post_q": "grid"})
    _, layers, multiple = KINDS[kind]
    if layers is not None:
        assert (model.encoder.layers, model.encoder.multiple) == (layers, multiple)
    shapes = [tuple(one.shape) for one in model.encoder(torch.randn(2, 4, 48, 32))]
    assert shapes == [(2, w, 48 >> i, 32 >> i) for i, w in enumerate((4, 4, 4, 6, 6))]
    assert model(torch.randn(2, 4, 48, 32)).shape == (2, 3, 48, 32)


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("way", ["inflate", "map"])
@pytest.mark.parametrize("bands", [1, 3, 4, 13])
def test_gradients_reach_adapter_and_neck_but_no_frozen_backbone(tiny, bands, way, freeze):
    _, weights = tiny
    torch.manual_seed(0)
    model = build_model(section(weights, bands, adapter=way, freeze=freeze))
    before = {name: value.clone() for name, value in model.encoder.backbone.state_dict().items()}
    model(torch.randn(2, bands, 32, 32)).square().sum().backward()
    torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
    moved = {
        name
        for name, value in model.encoder.backbone.state_dict().items()
        if not torch.equal(value, before[name])
    }
    first = "embeddings.patch_embeddings.projection.weight"
    if freeze:
        assert moved == ({first} if way == "inflate" and bands != 3 else set())
    else:
        assert set(before) - moved == {"embeddings.mask_token"}
    if way == "map":
        assert model.encoder.adapter.weight.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for p in model.encoder.neck.parameters())
    assert all(p.grad.abs().sum() > 0 for p in model.encoder.stem.parameters())


def test_norms_of_a_frozen_backbone_keep_their_statistics(tmp_path):
    save_tiny(tmp_path, "resnet")
    model = build_model(section(str(tmp_path))).train()
    before = {name: value.clone() for name, value in model.encoder.backbone.named_buffers()}
    model(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(value, before[name]) for name, value in model.encoder.backbone.named_buffers())


def test_a_trained_encoder_has_a_rate_of_its_own(tiny):
    _, weights = tiny
    config = TrainingConfig(learning_rate=0.01)
    model = build_model(section(weights, freeze=False, learning_rate_factor=0.2))
    groups = parameter_groups(model, config)
    assert [group["lr"] for group in groups] == [0.01, 0.01, 0.01, 0.002, 0.002]
    assert [group["weight_decay"] for group in groups] == [0.01, 0, 0, 0.01, 0]
    listed = [id(p) for group in groups for p in group["params"]]
    assert sorted(listed) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert len(parameter_groups(build_model(section(weights)), config)) == 3


def test_small_unets_take_an_encoder_too(tiny):
    _, weights = tiny
    keys = {"in_channels": 1, "num_classes": 1, "image_size": [24, 32], "widths": [3, 4], "variant": "4_1"}
    model = build_model({"name": "qu_net", **keys, "encoder": {"weights": weights}})
    assert model(torch.rand(2, 1, 24, 32)).shape == (2, 1, 24, 32)
    reference = transformers.AutoModel.from_pretrained(weights)
    kept = model.encoder.backbone.encoder.layer[0].norm1.weight
    assert torch.equal(kept, reference.encoder.layer[0].norm1.weight)


def test_a_run_is_rebuilt_without_the_files_of_its_encoder(tmp_path, tiny_data, tiny_content):
    save_tiny(tmp_path / "vit")
    content = tiny_content(epochs=1)
    content["model"]["encoder"] = {"weights": str(tmp_path / "vit")}
    run = train(validated(Recipe, content, "test"), tiny_data, tmp_path / "run")
    image = torch.randn(1, 2, 16, 16)
    before = load_run(run)
    with torch.no_grad():
        expected = before.model(image)
    shutil.rmtree(tmp_path / "vit")
    again = load_run(run)
    with torch.no_grad():
        assert torch.equal(again.model(image), expected)
    kept = json.loads((run / "best" / "meta.json").read_text())["model"]["encoder"]
    assert "weights" not in kept
    assert kept["source"] == str(tmp_path / "vit")
    assert kept["config"]["model_type"] == "dinov2"
    assert len(kept["sha256"]) == 64
    content["model"]["encoder"] = {**kept, "values": "standardised"}
    with pytest.raises(ConfigError, match="would begin with random ones. Fix: `weights: "):
        train(validated(Recipe, content, "test"), tiny_data, tmp_path / "again")


def test_weights_lie_below_the_data_root_of_a_run(tmp_path, tiny_data, tiny_content, monkeypatch):
    monkeypatch.setenv("QHYBRID_DATA", str(tmp_path / "elsewhere"))
    root = shutil.copytree(tiny_data, tmp_path / "root")
    save_tiny(root / "backbones" / "vit")
    content = tiny_content(epochs=1)
    content["model"]["encoder"] = {"weights": "backbones/vit"}
    run = train(validated(Recipe, content, "test"), root, tmp_path / "run")
    kept = json.loads((run / "best" / "meta.json").read_text())["model"]["encoder"]
    assert kept["source"] == "backbones/vit"
    # What one call was told is forgotten after it.
    assert data_root() == tmp_path / "elsewhere"


def test_an_interrupted_run_goes_on_without_the_files_of_its_encoder(tmp_path, tiny_data, tiny_content):
    save_tiny(tmp_path / "vit")
    content = tiny_content(epochs=2)
    content["model"]["encoder"] = {"weights": str(tmp_path / "vit"), "freeze": False}
    recipe = validated(Recipe, content, "test")
    whole = train(recipe, tiny_data, tmp_path / "whole")

    from qhybrid.training.callbacks import RunKeeper

    def stop(self, trainer, module):
        keep(self, trainer, module)
        raise KeyboardInterrupt

    keep = RunKeeper.on_train_epoch_end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunKeeper, "on_train_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tiny_data, tmp_path / "cut")
    shutil.rmtree(tmp_path / "vit")
    train(recipe.model_copy(), tiny_data, tmp_path / "cut", resume=True)
    first, second = (load_run(folder, "last").model.state_dict() for folder in (whole, tmp_path / "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_changed_weights_are_refused_and_train_a_sweeps_run_again(tmp_path, tiny_content):
    save_tiny(tmp_path)
    resolved = resolve_model(section(str(tmp_path)))
    content = tiny_content()
    content["model"]["encoder"] = {"weights": str(tmp_path)}
    key = recipe_key(validated(Recipe, content, "test"))
    save_tiny(tmp_path, seed=1)
    with pytest.raises(ConfigError, match="must have the hash `sha256`.*they have changed. Fix"):
        resolve_model(resolved)
    assert recipe_key(validated(Recipe, content, "test")) != key


def test_weights_that_lack_tensors_are_refused(tmp_path):
    model = save_tiny(tmp_path)
    state = model.state_dict()
    del state["encoder.layer.1.norm1.weight"]
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ConfigError, match=r"lack 1 tensor.*encoder.layer.1.norm1.weight"):
        build_model(section(str(tmp_path)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": [0, 1]}, "encoder.layers` must hold 5 numbers.*holds 2"),
        ({"layers": [0, 1, 1, 2, 4]}, r"must be from 0 to 3.*\[0, 1, 1, 2, 4\]"),
        ({"rgb": [1, 2, 4]}, "encoder.rgb` must be band numbers from 1 to 3"),
        ({"rgb": [1, 1, 2]}, "three different band numbers"),
        ({"weights": "no/such/folder_or_model"}, "working directory or below .*the hub gives none"),
        ({"frezze": True}, "Did you mean `freeze`"),
        ({"weights": None, "config": {"model_type": "dinov22"}, "freeze": False}, "Did you mean `dinov2`"),
        ({"weights": None, "config": {"model_type": "vit"}}, "`freeze` must be false"),
        ({"weights": None}, "give `weights`, or `config`"),
    ],
)
def test_bad_values(tiny, change, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match=message):
        build_model(section(**{"weights": tiny[1], **change}))


def test_models_that_are_no_backbones_of_images(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    content = {"model_type": "bert", **sizes, "vocab_size": 20}
    with pytest.raises(ConfigError, match="must name a backbone|begins with a convolution"):
        build_model(section(None, config=content, freeze=False))
    masked = {"model_type": "vit_mae", **sizes, "image_size": 32, "patch_size": 8, "mask_ratio": 0.75}
    with pytest.raises(ConfigError, match="must name a backbone"):
        build_model(section(None, config=masked, freeze=False))


def test_folders_below_the_data_root_are_found_and_models_without_encoder_keep_their_keys(
    tmp_path, monkeypatch
):
    save_tiny(tmp_path / "vit")
    monkeypatch.setenv("QHYBRID_DATA", str(tmp_path))
    assert resolve_model(section("vit"))["encoder"]["config"]["patch_size"] == 14
    plain = resolve_model({k: v for k, v in section("vit").items() if k != "encoder"})
    assert "encoder" not in plain
    assert kept_model(plain) == plain


def test_the_data_set_says_what_images_hold(tiny_content):
    content = tiny_content()
    content["model"]["encoder"] = {"weights": "x"}
    filled = with_values(content["model"], "zero_to_one")
    assert filled["encoder"] == {"weights": "x", "values": "zero_to_one"}
    assert with_values(filled, "zero_to_one") == filled
    with pytest.raises(ConfigError, match="values` must be `standardised`.*is `zero_to_one`"):
        with_values(filled, "standardised")
    assert with_values({"name": "unet"}, "standardised") == {"name": "unet"}
    content["model"]["encoder"] = "x"
    assert with_values(content["model"], "zero_to_one") == filled


def test_missing_weights_are_found_before_data_are_read(tmp_path, tiny_content, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    content = tiny_content()
    content["model"]["encoder"] = "vit_smal"
    with pytest.raises(ConfigError, match="there is no vit_smal in the working directory"):
        train(validated(Recipe, content, "test"), tmp_path / "no_data_here", tmp_path / "run")


def test_a_text_alone_is_the_weights(tiny):
    whole = section(tiny[1])
    assert resolve_model({**whole, "encoder": tiny[1]}) == resolve_model(whole)
