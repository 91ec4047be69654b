"""Classical U-Nets that HQF-Net (arXiv 2604.06715) is compared with: UNet++, pyramid pooling, DIResUNet.

UNet++ (Zhou et al., arXiv 1807.10165) is MONAI's. That paper's text is not at hand: which pyramid pooling it
used is not known, and DIResUNet (Priyanka et al., Applied Intelligence 2022: inception blocks with residuals,
dense global spatial pyramid pooling) is our reconstruction.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import (
    Field,
    field_validator,
    model_validator,
)
from torch import Tensor, nn
from torch.nn import functional as F

from qhybrid.engines.base import Engine
from qhybrid.errors import ConfigError, optional_import
from qhybrid.models.skips import build_skips
from qhybrid.models.unet import DOWNSAMPLING, FiveLevels, UNet, UNetKeys

_BRANCHES = 4


class PlusPlusOptions(FiveLevels):
    """Keys of `unet_plus_plus`: those of every network of five levels."""


class UNetPlusPlus(nn.Module):
    """MONAI's UNet++ with batch norms, one head, without deep supervision.

    Attributes:
        net: MONAI's network.
        any_size: Images of other sizes than in training are accepted.
        size_multiple: What height and width of images must be multiples of.
    """

    any_size = True
    size_multiple = (DOWNSAMPLING, DOWNSAMPLING)

    def __init__(self, options: PlusPlusOptions, engine: Engine | None = None) -> None:
        """Build the network.

        Args:
            options: The model's keys.
            engine: Not used: there are no circuits.

        Raises:
            MissingDependencyError: If MONAI is not installed.
        """
        super().__init__()
        nets = optional_import("monai.networks.nets.basic_unetplusplus", "unetpp")
        self.net: Any = nets.BasicUNetPlusPlus(
            spatial_dims=2,
            in_channels=options.in_channels,
            out_channels=options.num_classes,
            features=(*options.widths, options.widths[0]),
            norm=("batch", {}),
            bias=False,  # a batch norm follows each convolution
        )
        for number in range(1, 4):  # heads of deep supervision, which nothing reads here
            setattr(self.net, f"final_conv_0_{number}", nn.Identity())

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, C, H, W) to logits (B, K, H, W).

        Raises:
            ConfigError: If H or W is not a multiple of 16.
        """
        if image.shape[-2] % DOWNSAMPLING or image.shape[-1] % DOWNSAMPLING:
            raise ConfigError(
                f"Height and width must be multiples of {DOWNSAMPLING}, but are {image.shape[-2]} x "
                f"{image.shape[-1]}."
            )
        logits: Tensor = self.net(image)[0]
        return logits


class PyramidOptions(UNetKeys):
    """Keys of `unet_spp`.

    Attributes:
        bins: Cells along one side of each level of the pyramid.
    """

    bins: tuple[int, ...] = Field((1, 2, 3, 6), min_length=1)

    @field_validator("bins")
    @classmethod
    def _bins_are_positive(cls, bins: tuple[int, ...]) -> tuple[int, ...]:
        if min(bins) < 1:
            raise ValueError("bins must be at least 1")
        return bins


class SpatialPyramid(nn.Module):
    """Spatial pyramid pooling as in PSPNet (Zhao et al., arXiv 1612.01105), keeping channels and size.

    Means over 1, 2, 3 and 6 cells a side, each through a 1x1 convolution to a fourth of the channels, resized
    and concatenated with the features; a 3x3 convolution mixes them.
    """

    def __init__(self, channels: int, bins: tuple[int, ...]) -> None:
        super().__init__()
        self.bins = bins
        part = max(1, channels // len(bins))
        self.branches = nn.ModuleList(_conv(channels, part, 1, norm=cells > 1) for cells in bins)
        self.mix = _conv(channels + part * len(bins), channels, 3)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, h, w) to the same shape."""
        parts = [features]
        for cells, branch in zip(self.bins, self.branches, strict=True):
            pooled = branch(F.adaptive_avg_pool2d(features, cells))
            parts.append(F.interpolate(pooled, features.shape[-2:], mode="bilinear", align_corners=False))
        mixed: Tensor = self.mix(torch.cat(parts, dim=1))
        return mixed


class DIResOptions(UNetKeys):
    """Keys of `di_res_unet`.

    Attributes:
        rates: Dilations of the densely connected convolutions at the bottleneck.
    """

    rates: tuple[int, ...] = Field((1, 2, 4), min_length=1)

    @model_validator(mode="after")
    def _has_its_own_encoder(self) -> DIResOptions:
        if self.encoder is not None:
            raise ValueError("`encoder` is for other models: this one is told by its own blocks")
        if min(self.rates) < 1:
            raise ValueError("`rates` must be at least 1")
        return self


class InceptionResidual(nn.Module):
    """Four branches (1x1; 3x3; twice 3x3; pooling), mixed by a 1x1 convolution, plus a 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        part = max(1, outputs // _BRANCHES)
        self.branches = nn.ModuleList(
            [
                _conv(inputs, part, 1),
                nn.Sequential(_conv(inputs, part, 1), _conv(part, part, 3)),
                nn.Sequential(_conv(inputs, part, 1), _conv(part, part, 3), _conv(part, part, 3)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), _conv(inputs, part, 1)),
            ]
        )
        self.mix = nn.Sequential(nn.Conv2d(_BRANCHES * part, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, inputs, h, w) to (B, outputs, h, w)."""
        found = self.mix(torch.cat([branch(features) for branch in self.branches], dim=1))
        return F.relu(found + self.shortcut(features))


class DensePyramid(nn.Module):
    """Dilated convolutions, each of all that came before it, and the mean of all pixels; same shape out."""

    def __init__(self, channels: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        part = max(1, channels // _BRANCHES)
        self.dilated = nn.ModuleList(
            _conv(channels + number * part, part, 3, rate) for number, rate in enumerate(rates)
        )
        self.everywhere = _conv(channels, part, 1, norm=False)
        self.mix = _conv(channels + (len(rates) + 1) * part, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, h, w) to the same shape."""
        parts = [features]
        for layer in self.dilated:
            parts.append(layer(torch.cat(parts, dim=1)))
        mean = self.everywhere(F.adaptive_avg_pool2d(features, 1))
        parts.append(mean.expand(-1, -1, *features.shape[-2:]))
        mixed: Tensor = self.mix(torch.cat(parts, dim=1))
        return mixed


def _conv(inputs: int, outputs: int, side: int, rate: int = 1, norm: bool = True) -> nn.Sequential:
    """Return convolution, batch norm and ReLU; without norm (of a single pixel) with a bias instead."""
    padding = rate * (side // 2)
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, side, padding=padding, dilation=rate, bias=not norm)
    ]
    layers += [nn.BatchNorm2d(outputs)] if norm else []
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def build_pyramid_unet(options: PyramidOptions, engine: Engine | None = None) -> UNet:
    """Build the U-Net whose deepest block is spatial pyramid pooling."""
    widths = options.widths
    skips = build_skips(options.skips, widths[:4], engine)
    return UNet(options, SpatialPyramid(widths[4], options.bins), skips=skips)


def build_di_res_unet(options: DIResOptions, engine: Engine | None = None) -> UNet:
    """Build the U-Net of inception blocks with residuals."""
    widths = options.widths
    skips = build_skips(options.skips, widths[:4], engine)
    net = UNet(options, DensePyramid(widths[4], options.rates), skips=skips)
    net.stem = InceptionResidual(options.in_channels, widths[0])
    net.down = nn.ModuleList(
        nn.Sequential(nn.MaxPool2d(2), InceptionResidual(widths[i], widths[i + 1])) for i in range(4)
    )
    cut = options.cut_skips or ()
    for level, up in zip(reversed(range(4)), net.up, strict=True):
        inputs = widths[level] * (1 if level in cut else 2)
        up.mix = InceptionResidual(inputs, widths[level])
    return net
