"""Fusion of token maps: deformable attention against a plain loop, gradients, identity at the start."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from qhybrid.errors import ConfigError
from qhybrid.guidance import Concatenation, DeformableCrossAttention
from qhybrid.models import build_model, resolve_model

VIT = {
    "model_type": "dinov2",
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
RANDOM = {"backbone": "random", "config": VIT, "dim": 8, "heads": 2, "points": 2}
UNET = {"name": "unet", "in_channels": 3, "num_classes": 4, "patch_size": 32, "widths": [4, 4, 6, 6, 8]}


def interpolated(values, x, y):
    """Bilinear value of a map (C, h, w) at token coordinates, its edge outside."""
    rows, columns = values.shape[1:]
    x, y = min(max(x, 0.0), columns - 1.0), min(max(y, 0.0), rows - 1.0)
    left, top = min(int(x), columns - 1), min(int(y), rows - 1)
    right, bottom = min(left + 1, columns - 1), min(top + 1, rows - 1)
    a, b = x - left, y - top
    above = (1 - a) * values[:, top, left] + a * values[:, top, right]
    below = (1 - a) * values[:, bottom, left] + a * values[:, bottom, right]
    return (1 - b) * above + b * below


def looped(layer, features, token_maps):
    """What the layer computes, one pixel, head, map and point at a time."""
    batch, _, height, width = features.shape
    normed = layer.norm(features)
    size = layer.query.out_channels // layer.heads
    answer = torch.zeros(batch, layer.query.out_channels, height, width, dtype=features.dtype)
    query, offsets = layer.query(normed), layer.offsets(normed)
    for sample in range(batch):
        keys, values = [], []
        for number, tokens in enumerate(token_maps):
            one = tokens[sample]
            mean, spread = one.mean(dim=0), one.var(dim=0, unbiased=False)
            one = (one - mean) / torch.sqrt(spread + 1e-5)
            keys.append(layer.keys[number](one[None])[0])
            values.append(layer.values[number](one[None])[0])
        for row in range(height):
            for column in range(width):
                for head in range(layer.heads):
                    part = slice(head * size, (head + 1) * size)
                    scores, found = [], []
                    for number, tokens in enumerate(token_maps):
                        rows, columns = tokens.shape[-2:]
                        for point in range(layer.points):
                            place = ((head * layer.maps + number) * layer.points + point) * 2
                            dx, dy = offsets[sample, place : place + 2, row, column].tolist()
                            x = (column + 0.5) / width * columns - 0.5 + dx
                            y = (row + 0.5) / height * rows - 0.5 + dy
                            key = interpolated(keys[number][part], x, y)
                            key = key + layer.point_keys[head, number * layer.points + point]
                            scores.append(query[sample, part, row, column] @ key / math.sqrt(size))
                            found.append(interpolated(values[number][part], x, y))
                    weights = torch.stack(scores).softmax(dim=0)
                    answer[sample, part, row, column] = weights @ torch.stack(found)
    return features + layer.gate[:, None, None] * layer.project(answer)


@pytest.mark.parametrize("moved", [False, True])
def test_deformable_attention_is_the_plain_loop(moved):
    torch.manual_seed(0)
    layer = DeformableCrossAttention(5, 7, maps=2, dim=6, heads=2, points=3).double()
    nn.init.normal_(layer.gate)
    if moved:
        nn.init.normal_(layer.offsets.weight)
        nn.init.normal_(layer.offsets.bias)
    features = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    maps = [torch.randn(2, 7, 4, 2, dtype=torch.float64), torch.randn(2, 7, 3, 5, dtype=torch.float64)]
    with torch.no_grad():
        torch.testing.assert_close(layer(features, maps), looped(layer, features, maps), rtol=1e-9, atol=1e-9)


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    layer = DeformableCrossAttention(2, 3, maps=1, dim=2, heads=1, points=2).double()
    nn.init.normal_(layer.gate)
    nn.init.normal_(layer.offsets.weight, std=0.3)
    nn.init.uniform_(layer.offsets.bias, 0.1, 0.3)  # not on a token, where the derivative jumps
    features = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    maps = torch.randn(1, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, t: layer(x, [t]), (features, maps), atol=1e-6)


def test_constant_tokens_give_one_answer_everywhere():
    """All keys and values are equal then, wherever they are sampled: attention is their mean."""
    torch.manual_seed(0)
    layer = DeformableCrossAttention(4, 6, maps=2, dim=4, heads=2, points=2)
    nn.init.normal_(layer.offsets.weight)
    nn.init.ones_(layer.gate)
    token = torch.randn(6)
    maps = [token[None, :, None, None].expand(1, 6, 3, 3)] * 2
    layer.values[1].load_state_dict(layer.values[0].state_dict())
    features = torch.randn(1, 4, 5, 5)
    value = layer.values[0](F.layer_norm(token, (6,))[None, :, None, None])
    with torch.no_grad():
        torch.testing.assert_close(layer(features, maps) - features, layer.project(value).expand(1, 4, 5, 5))


def test_concatenation_is_resizing_and_mixing():
    torch.manual_seed(0)
    layer = Concatenation(3, 5, maps=2, dim=4).eval()
    features, maps = torch.randn(2, 3, 8, 6), [torch.randn(2, 5, 4, 3), torch.randn(2, 5, 4, 3)]
    with torch.no_grad():
        norm = (1 + 1e-5) ** -0.5  # of a batch norm that has seen nothing
        first, second = layer.reduce[0].weight[:, :, 0, 0], layer.mix[0].weight[:, :, 0, 0]
        reduced = F.relu(norm * torch.einsum("oc,bchw->bohw", first, torch.cat(maps, 1)))
        wide = F.interpolate(reduced, (8, 6), mode="bilinear")
        both = torch.cat([features, wide], dim=1)
        expected = F.relu(norm * torch.einsum("oc,bchw->bohw", second, both))
        torch.testing.assert_close(layer(features, maps), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fusion", ["concat", "dmcaf"])
def test_maps_in_half_precision_under_autocast(fusion):
    """As in a training with `precision: bf16`: near what it is in single precision, with gradients."""
    torch.manual_seed(0)
    model = build_model({**UNET, "guidance": {**RANDOM, "fusion": fusion}})
    image, maps = torch.randn(2, 3, 32, 32), torch.randn(2, 2, 16, 3, 3).half()
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(image, maps)
        logits.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(logits.float(), model(image, maps), rtol=0.1, atol=0.1)


def test_attention_is_the_identity_at_the_start_and_not_after_a_step():
    torch.manual_seed(0)
    guided = build_model({**UNET, "guidance": RANDOM})
    plain = build_model(UNET)
    own = {name: value for name, value in guided.state_dict().items() if not name.startswith("guidance.")}
    plain.load_state_dict(own)
    image, maps = torch.randn(3, 3, 32, 32), 5 * torch.randn(3, 2, 16, 4, 4).half()
    torch.testing.assert_close(guided(image, maps), plain(image), rtol=0, atol=1e-6)
    optimizer = torch.optim.AdamW(guided.parameters(), lr=1e-2)
    guided(image, maps).square().mean().backward()
    names = [name for name, p in guided.named_parameters() if not p.grad.abs().sum() > 0]
    assert names == []
    optimizer.step()
    other = 5 * torch.randn(3, 2, 16, 4, 4).half()
    with torch.no_grad():
        assert (guided(image, maps) - guided(image, other)).abs().max() > 1e-3


def test_token_maps_of_the_image_are_taken_where_none_are_given():
    torch.manual_seed(0)
    model = build_model({**UNET, "guidance": {**RANDOM, "fusion": "concat"}}).eval()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(image), model(image, model.guidance.maps_of(image)))
        assert not torch.equal(model(image), model(image, torch.zeros_like(model.guidance.maps_of(image))))


def test_no_weight_of_the_vit_is_one_of_the_model():
    model = build_model({**UNET, "guidance": RANDOM})
    model(torch.randn(1, 3, 32, 32))
    assert not [name for name in model.state_dict() if "vit" in name]
    assert resolve_model(model.config)["guidance"]["sha256"] == model.guidance.options.sha256


def test_a_model_without_a_vit_is_the_model_it_was():
    torch.manual_seed(1)
    plain = build_model(UNET)
    torch.manual_seed(1)
    none = build_model({**UNET, "guidance": "none"})
    assert plain.config.keys() == {"name", "in_channels", "num_classes", "patch_size", "widths"}
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), none.parameters(), strict=True))
    with pytest.raises(ConfigError, match="is for models with `guidance`"):
        plain(torch.zeros(1, 3, 32, 32), torch.zeros(1, 2, 16, 3, 3))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({**UNET, "guidance": {**RANDOM, "levels": [5]}}, "levels` must be from 0 to 4"),
        ({**UNET, "guidance": {**RANDOM, "bands": [1, 2, 4]}}, "numbers from 1 to 3"),
        (
            {**UNET, "name": "unet_vit_concat", "guidance": {**RANDOM, "fusion": "dmcaf"}},
            "this model is `concat`",
        ),
        ({**UNET, "name": "unet_vit_concat"}, "guidance"),
    ],
)
def test_sections_that_do_not_fit(section, message):
    with pytest.raises(ConfigError, match=message):
        build_model(section)
