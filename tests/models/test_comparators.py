"""The classical comparators: UNet++ against MONAI itself, pooling and dilation against plain sums."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.nn import functional as F

from qhybrid.errors import ConfigError, MissingDependencyError
from qhybrid.models import build_model
from qhybrid.models.comparators import DensePyramid, InceptionResidual, SpatialPyramid

KEYS = {"in_channels": 4, "num_classes": 3, "patch_size": 32, "widths": [4, 4, 6, 6, 8]}


def test_unet_plus_plus_is_monais():
    nets = pytest.importorskip("monai.networks.nets")
    model = build_model({"name": "unet_plus_plus", **KEYS}).eval()
    reference = nets.BasicUNetPlusPlus(2, 4, 3, (4, 4, 6, 6, 8, 4), norm=("batch", {}), bias=False).eval()
    own = {name.removeprefix("net."): value for name, value in model.state_dict().items()}
    missing, unexpected = reference.load_state_dict(own, strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == {f"final_conv_0_{number}" for number in (1, 2, 3)}
    image = torch.randn(2, 4, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(image), reference(image)[0])


def test_a_missing_monai_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "monai", None)
    monkeypatch.setitem(sys.modules, "monai.networks.nets.basic_unetplusplus", None)
    with pytest.raises(MissingDependencyError, match=r"qhybrid\[unetpp\]"):
        build_model({"name": "unet_plus_plus", **KEYS})


def test_pyramid_of_means():
    torch.manual_seed(0)
    layer = SpatialPyramid(4, (1, 2)).eval()
    features = torch.randn(1, 4, 6, 4)
    whole, quarters = layer.branches
    with torch.no_grad():
        mean = whole(features.mean(dim=(2, 3), keepdim=True)).expand(1, 2, 6, 4)
        cells = torch.stack(
            [features[:, :, r : r + 3, c : c + 2].mean(dim=(2, 3)) for r in (0, 3) for c in (0, 2)], dim=-1
        ).reshape(1, 4, 2, 2)
        fine = F.interpolate(quarters(cells), (6, 4), mode="bilinear", align_corners=False)
        expected = layer.mix(torch.cat([features, mean, fine], dim=1))
        torch.testing.assert_close(layer(features), expected)


@pytest.mark.parametrize(("rates", "reach"), [((1,), 1), ((1, 2), 3), ((1, 2, 4), 7)])
def test_dense_dilations_add_up_their_reach(rates, reach):
    """Away from the mean of all pixels, a pixel sees as far as the dilations together."""
    torch.manual_seed(0)
    layer = DensePyramid(4, rates).double().eval()
    for parameter in layer.parameters():  # nothing is cut off by a ReLU then
        torch.nn.init.uniform_(parameter, 0.1, 1)
    for parameter in layer.everywhere.parameters():
        torch.nn.init.zeros_(parameter)
    features = torch.rand(1, 4, 21, 21, dtype=torch.float64, requires_grad=True)
    layer(features)[0, :, 10, 10].sum().backward()
    rows = features.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert 10 - reach <= rows.min() <= rows.max() <= 10 + reach
    assert rows.min() < 10 < rows.max()


def test_inception_block_is_its_branches_and_its_shortcut():
    torch.manual_seed(0)
    block = InceptionResidual(3, 8).eval()
    features = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        parts = [branch(features) for branch in block.branches]
        pooled = F.max_pool2d(features, 3, stride=1, padding=1)
        torch.testing.assert_close(parts[3], block.branches[3][1](pooled))
        assert [part.shape[1] for part in parts] == [2, 2, 2, 2]
        expected = F.relu(block.mix(torch.cat(parts, 1)) + block.shortcut(features))
        torch.testing.assert_close(block(features), expected)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "unet_spp", "bins": [0]}, "bins must be at least 1"),
        ({"name": "di_res_unet", "rates": [0]}, "`rates` must be at least 1"),
        ({"name": "unet_plus_plus", "widths": [0, 1, 1, 1, 1]}, "widths must be at least 1"),
        ({"name": "unet_plus_plus", "patch_size": 20}, "multiple of 16"),
    ],
)
def test_keys_that_cannot_be(keys, message):
    with pytest.raises(ConfigError, match=message):
        build_model({**KEYS, **keys})


def test_skips_may_be_cut_in_both():
    for name in ("unet_spp", "di_res_unet"):
        model = build_model({"name": name, **KEYS, "cut_skips": [0, 2]})
        assert model(torch.randn(2, 4, 32, 32)).shape == (2, 3, 32, 32)
