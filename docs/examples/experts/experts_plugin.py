"""A model of one's own: a U-Net with two circuits as experts at its bottleneck and circuits on two skips.

A soft router mixes the experts: y = sum_k w_k(x) E_k(x) with w = softmax(linear(mean of x)), for each image.
Experts and skips are named in the recipe, and may be any circuits. No file of qhybrid changes:

    export QHYBRID_PLUGINS=docs/examples/experts/experts_plugin.py
    qhybrid train docs/examples/experts/experts.yaml
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from qhybrid.engines.base import Engine
from qhybrid.models import (
    BottleneckOptions,
    UNet,
    UNetKeys,
    build_bottleneck,
    build_skips,
    register_model,
)

__version__ = "1"


class ExpertsOptions(UNetKeys):
    """Keys of `experts_unet`, beside those of every U-Net.

    Attributes:
        experts: What stands side by side at the bottleneck, each as in `unet`'s key `bottleneck`.
    """

    experts: Annotated[tuple[BottleneckOptions, ...], Field(min_length=2)]


class SoftRouter(nn.Module):
    """y = sum_k w_k(x) E_k(x): a mixture of experts whose weights depend on the image.

    Attributes:
        experts: Maps from (B, C, h, w) to the same shape.
        any_size: Whether feature maps of other sizes than in training are accepted.
    """

    def __init__(self, channels: int, experts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)
        self.gate = nn.Linear(channels, len(experts))
        self.any_size = all(getattr(expert, "any_size", True) for expert in experts)

    def weights(self, features: Tensor) -> Tensor:
        """Return the weight of each expert for each image, shape (B, number of experts)."""
        return torch.softmax(self.gate(features.mean(dim=(2, 3))), dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, h, w) to the same shape."""
        said = torch.stack([expert(features) for expert in self.experts], dim=1)
        return torch.einsum("bk,bkchw->bchw", self.weights(features).to(said.dtype), said)


def build_experts(options: ExpertsOptions, engine: Engine | None) -> UNet:
    """Build the network; all circuits run on `engine`."""
    deep = options.widths[-1]

    def conv() -> tuple[nn.Module, int]:
        return nn.Conv2d(deep, deep, 3, padding=1), deep

    experts = [
        build_bottleneck(section, deep, options.map_size, engine, conv)[0] for section in options.experts
    ]
    skips = build_skips(options.skips, options.widths[:-1], engine)
    return UNet(options, SoftRouter(deep, experts), skips=skips)


register_model(
    "experts_unet",
    ExpertsOptions,
    build_experts,
    "U-Net with experts at the bottleneck, mixed by a soft router",
    "segmentation",
)
