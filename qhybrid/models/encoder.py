"""A pretrained backbone as the encoder of a U-Net: any bands in, one feature map a scale out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qhybrid.errors import ConfigError
from qhybrid.models.backbone import (
    bands_of,
    default_layers,
    explained,
    feature_maps,
    first_convolution,
    inflate_bands,
    last_is_output,
    load_backbone,
    patch_size,
)
from qhybrid.models.blocks import SeparableConv, Stem
from qhybrid.models.encoder_keys import EncoderOptions

# Of the images in [0, 1], red, green, blue: what backbones trained on ImageNet are normalised by.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_PROBE = 32
"""Side of the probe image at least: most convolutional backbones shrink by 32."""


class Projection(nn.Module):
    """From one hidden state to one scale of the U-Net: 1x1 convolution, resizing, separable convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )
        self.smooth = SeparableConv(outputs, outputs)

    def forward(self, state: Tensor, size: tuple[int, int]) -> Tensor:
        """Map a state (B, inputs, h, w) to (B, outputs, *size); channels first, since they are fewer then."""
        resized = F.interpolate(self.mix(state), size, mode="bilinear", align_corners=False)
        result: Tensor = self.smooth(resized)
        return result


class PretrainedEncoder(nn.Module):
    """Images (B, C, H, W) to feature maps (B, widths[i], H / 2^i, W / 2^i), i = 0, 1, ...

    Patch tokens lie on a coarse grid, so the map at full resolution also gets the image itself, through a
    stem as a U-Net has it.

    Attributes:
        backbone: The model of `transformers`.
        multiple: What the sides of images are resized to a multiple of, in front of the backbone.
        layers: Hidden state of each scale.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, options: EncoderOptions, in_channels: int, widths: Sequence[int]) -> None:
        """Build the encoder, with pretrained weights if `options.weights` names them.

        Args:
            options: The section `encoder`, complete.
            in_channels: Bands of the images.
            widths: Channels of the feature map of each scale, that at full resolution first.

        Raises:
            ConfigError: If the backbone does not give feature maps of images, or a key does not fit it.
        """
        super().__init__()
        options.check_levels(len(widths))
        options.check_bands(in_channels)
        self.options = options
        original, missing = load_backbone(options)
        known = bands_of(original)
        self.adapter: nn.Module = nn.Identity()
        self.backbone: Any = original
        if options.adapter == "map":
            self.adapter = _band_map(in_channels, known, options.rgb)
        else:
            self.backbone = inflate_bands(original, in_channels, options.rgb)
        mean, deviation = _normalisation(in_channels, options.rgb)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        self._backbone_bands = known if options.adapter == "map" else in_channels
        channels, self.layers = self._probe(len(widths))
        used = self._train_what_is_used(in_channels != known)
        lost = sorted(missing & used)
        if lost:
            raise ConfigError(
                f"Weights {options.weights} must hold all that the encoder needs, but lack {len(lost)} "
                f"tensor(s), first `{lost[0]}`. Fix: give weights that belong to their config.json."
            )
        self.stem = Stem(in_channels, widths[0])
        self.neck = nn.ModuleList(Projection(channels[i], width) for i, width in enumerate(widths))

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """Switch stem and neck; the backbone stays in evaluation mode (see `EncoderOptions.freeze`)."""
        super().train(mode)
        self.backbone.eval()
        return self

    def slow_parameters(self) -> list[nn.Parameter]:
        """Return the pretrained parameters that are trained, with a learning rate of their own."""
        if self.options.freeze:
            return []
        return [parameter for parameter in self.backbone.parameters() if parameter.requires_grad]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the feature maps of all scales, that at full resolution first."""
        height, width = image.shape[-2:]
        states = self._states(self.adapter(self._normalised(image)))
        features = []
        for level, (layer, project) in enumerate(zip(self.layers, self.neck, strict=True)):
            features.append(project(states[layer], (height >> level, width >> level)))
        features[0] = features[0] + self.stem(image)
        return features

    def _normalised(self, image: Tensor) -> Tensor:
        if self.options.values == "standardised":
            return image
        return (image - self.mean) / self.deviation

    def _states(self, image: Tensor) -> list[Tensor]:
        """Return all hidden states of the backbone as feature maps (B, C, h, w)."""
        rows, columns = (
            max(1, math.ceil(side * self.options.scale / self.multiple - 1e-9)) for side in image.shape[-2:]
        )
        size = rows * self.multiple, columns * self.multiple
        if size != tuple(image.shape[-2:]):
            image = F.interpolate(image, size, mode="bilinear", align_corners=False)
        trained = any(p.requires_grad for p in self.backbone.parameters())
        # Through a frozen backbone gradients are needed for what stands in front of it alone.
        with contextlib.nullcontext() if trained or image.requires_grad else torch.no_grad():
            return feature_maps(self.backbone, image, self._patch, self._tied)

    def _probe(self, levels: int) -> tuple[list[int], tuple[int, ...]]:
        """Find out what the backbone gives: channels and number of the hidden state of each scale."""
        self._patch, self._tied = patch_size(self.backbone), False
        side = math.ceil(_PROBE / self._patch) * self._patch
        image = torch.linspace(-1, 1, self._backbone_bands * 2 * side * side)
        image = image.reshape(1, self._backbone_bands, 2 * side, side)
        self.backbone.eval()
        with torch.no_grad(), explained("turn an image into feature maps", self.options):
            self._tied = last_is_output(self.backbone, image)
            states = feature_maps(self.backbone, image, self._patch, self._tied)
        strides = [2 * side // state.shape[2] for state in states]
        tokens = len(set(strides)) == 1 and strides[0] == self._patch
        self.multiple = self._patch if tokens else max(strides)
        layers = self.options.layers or default_layers(strides, levels, tokens)
        if min(layers) < 0 or max(layers) >= len(states):
            raise ConfigError(
                f"Key `encoder.layers` must be from 0 to {len(states) - 1}, the hidden states of this "
                f"encoder, but is {list(layers)}."
            )
        return [states[layer].shape[1] for layer in layers], tuple(layers)

    def _train_what_is_used(self, adapted: bool) -> set[str]:
        """Say which parameters are trained, and return the names of those that the scales depend on.

        The others (a mask token, a pooler, layers behind the last one used) never get a gradient.
        """
        side = max(self.multiple, _PROBE)
        image = torch.rand(1, self._backbone_bands, side, side, generator=torch.Generator().manual_seed(0))
        self.backbone.requires_grad_(True)
        with torch.enable_grad():
            states = self._states(image.requires_grad_())
            total = torch.stack([states[layer].square().mean() for layer in set(self.layers)]).sum()
            names, parameters = zip(*self.backbone.named_parameters(), strict=True)
            gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        used = {name for name, found in zip(names, gradients, strict=True) if found is not None}
        first = f"{first_convolution(self.backbone)[0]}.weight"
        for name, parameter in self.backbone.named_parameters():
            is_adapter = adapted and self.options.adapter == "inflate" and name == first
            parameter.requires_grad_(name in used and (is_adapter or not self.options.freeze))
        return used


def _band_map(bands: int, known: int, rgb: Sequence[int] | None) -> nn.Conv2d:
    """Return a 1x1 convolution that starts as a choice of bands, or as their mean where none are named."""
    layer = nn.Conv2d(bands, known, 1)
    chosen = rgb or (range(1, known + 1) if bands == known else None)
    weight = torch.full((known, bands), 1 / bands)
    if chosen is not None:
        weight = F.one_hot(torch.tensor(list(chosen)) - 1, bands).float()
    with torch.no_grad():
        layer.weight.copy_(weight[:, :, None, None])
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _normalisation(bands: int, rgb: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    """Return ImageNet's mean and deviation of each band, (C, 1, 1); of unnamed bands that of grey."""
    chosen = rgb or ((1, 2, 3) if bands == 3 else ())
    found = []
    for numbers in (IMAGENET_MEAN, IMAGENET_STD):
        values = torch.full((bands,), sum(numbers) / 3)
        for band, number in zip(chosen, numbers):
            values[band - 1] = number
        found.append(values[:, None, None])
    return found[0], found[1]
