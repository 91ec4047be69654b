"""The small U-Net of the QuFeX experiments (arXiv 2501.13165), around any bottleneck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor, nn

from qhybrid.config import StrictModel
from qhybrid.engines.base import Engine
from qhybrid.errors import ConfigError
from qhybrid.models.bottlenecks import BottleneckOptions, build_bottleneck
from qhybrid.models.encoder import PretrainedEncoder
from qhybrid.models.encoder_keys import EncoderOptions
from qhybrid.models.skips import SkipOptions, apply_skip, build_skips, check_cut

Initialization = Literal["glorot", "he", "torch"]


class QuUNetKeys(StrictModel):
    """Keys of every model that is built on the small U-Net.

    Attributes:
        in_channels: Channels of the image.
        num_classes: Classes to tell apart; 1 gives one logit, for binary segmentation with a sigmoid.
        image_size: Height and width of images in pixels, multiples of 2^len(widths).
        widths: Channels of the encoder's blocks; the decoder mirrors them.
        batch_norm: Normalise after each convolution of a block; the authors' model does not.
        initialization: `glorot` (uniform, biases 0) is what the authors' framework does; `he` is its variant
            for ReLU; `torch` leaves PyTorch's own.
        skips: Circuits on the skip connections; none by default.
        cut_skips: Levels whose skip connection is left out, as in the other U-Nets.
        encoder: A pretrained backbone in place of the encoder's blocks; none by default.
    """

    in_channels: int = Field(ge=1)
    num_classes: int = Field(ge=1)
    image_size: tuple[int, int]
    widths: tuple[int, ...] = Field((8, 16, 32, 16, 8), min_length=1)
    batch_norm: bool = False
    initialization: Initialization = "glorot"
    skips: SkipOptions | None = None
    cut_skips: tuple[int, ...] | None = None
    encoder: EncoderOptions | None = None

    @model_validator(mode="after")
    def _sizes_fit(self) -> QuUNetKeys:
        if min(self.widths) < 1:
            raise ValueError("`widths` must be at least 1 each")
        factor = self.downsampling
        if any(size < factor or size % factor for size in self.image_size):
            raise ValueError(
                f"`image_size` must be multiples of {factor} (2^{len(self.widths)}, from the number of "
                f"`widths`), but is {self.image_size[0]} x {self.image_size[1]}"
            )
        if self.skips is not None:
            self.skips.contents(len(self.widths))
        check_cut(self.cut_skips, self.skips, len(self.widths))
        if self.encoder is not None:
            self.encoder.check_levels(len(self.widths) + 1)
            self.encoder.check_bands(self.in_channels)
        return self

    @model_serializer(mode="wrap")
    def _used_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unused = {
            key for key in ("skips", "cut_skips", "bottleneck", "encoder") if getattr(self, key, None) is None
        }
        return {key: value for key, value in dump(self).items() if key not in unused}

    @property
    def downsampling(self) -> int:
        """Pixels of the image along one pixel of the bottleneck."""
        return int(2 ** len(self.widths))

    @property
    def bottleneck_size(self) -> tuple[int, int]:
        """Height and width of the feature map at the bottleneck."""
        return self.image_size[0] // self.downsampling, self.image_size[1] // self.downsampling

    @property
    def at_bottleneck(self) -> BottleneckOptions:
        """What stands at the bottleneck."""
        return BottleneckOptions()


class QuUNetOptions(QuUNetKeys):
    """Keys of `qu_unet`.

    Attributes:
        bottleneck: What stands at the bottleneck; the U-Net's own convolution (`conv`) by default.
    """

    bottleneck: BottleneckOptions | None = None

    @model_validator(mode="after")
    def _patches_fit(self) -> QuUNetOptions:
        self.at_bottleneck.check_size(*self.bottleneck_size)
        return self

    @property
    def at_bottleneck(self) -> BottleneckOptions:
        """What stands at the bottleneck."""
        return self.bottleneck or BottleneckOptions()


class ConvBlock(nn.Sequential):
    """Two 3x3 convolutions, each with ReLU."""

    def __init__(self, inputs: int, outputs: int, batch_norm: bool) -> None:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers.append(nn.Conv2d(channels, outputs, 3, padding=1))
            layers += [nn.BatchNorm2d(outputs)] if batch_norm else []
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class UpBlock(nn.Module):
    """3x3 transposed convolution with stride 2, concatenation with the skip where there is one, ConvBlock."""

    def __init__(self, inputs: int, outputs: int, batch_norm: bool, skip: bool = True) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1)
        self.mix = ConvBlock(2 * outputs if skip else outputs, outputs, batch_norm)

    def forward(self, deep: Tensor, skip: Tensor | None) -> Tensor:
        """Map deep (B, inputs, h, w) and skip (B, outputs, 2h, 2w) to (B, outputs, 2h, 2w)."""
        parts = [self.up(deep)] if skip is None else [self.up(deep), skip]
        result: Tensor = self.mix(torch.cat(parts, dim=1))
        return result


class QuUNet(nn.Module):
    """Encoder blocks with 2x2 max pooling, a bottleneck, mirrored decoder blocks, 1x1 convolution.

    Attributes:
        bottleneck: Map from (B, widths[-1], h, w) to (B, bottleneck_channels, h, w).
        skips: Gates of the skip connections by level.
        any_size: Whether images of other sizes than in training are accepted.
        size_multiple: What height and width of images must be multiples of.
    """

    def __init__(
        self,
        options: QuUNetKeys,
        bottleneck: nn.Module,
        bottleneck_channels: int,
        skips: nn.ModuleDict | None = None,
    ) -> None:
        """Build the network around `bottleneck`."""
        super().__init__()
        widths = options.widths
        inputs = (options.in_channels, *widths[:-1])
        self._downsampling = options.downsampling
        self.any_size = bool(getattr(bottleneck, "any_size", True))
        rows, columns = getattr(bottleneck, "size_multiple", (1, 1))
        self.size_multiple = (options.downsampling * rows, options.downsampling * columns)
        if options.encoder is None:
            self.encoder: nn.Module = nn.ModuleList(
                ConvBlock(before, after, options.batch_norm)
                for before, after in zip(inputs, widths, strict=True)
            )
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = bottleneck
        deeper = (bottleneck_channels, *reversed(widths[1:]))
        self._cut = frozenset(options.cut_skips or ())
        self.decoder = nn.ModuleList(
            UpBlock(before, widths[level], options.batch_norm, level not in self._cut)
            for before, level in zip(deeper, reversed(range(len(widths))), strict=True)
        )
        self.head = nn.Conv2d(widths[0], options.num_classes, 1)
        initialize(self, options.initialization)
        # After the initialisation, which is the encoder's and decoder's: gates start near the identity, and
        # pretrained weights stay.
        if options.encoder is not None:
            self.encoder = PretrainedEncoder(options.encoder, options.in_channels, (*widths, widths[-1]))
        self.skips = nn.ModuleDict() if skips is None else skips

    def forward(self, image: Tensor) -> Tensor:
        """Map an image (B, C, H, W) to logits (B, K, H, W).

        Raises:
            ConfigError: If H or W is not a multiple of 2^len(widths).
        """
        height, width = image.shape[-2:]
        if height % self._downsampling or width % self._downsampling:
            raise ConfigError(
                f"Height and width must be multiples of {self._downsampling}, but are {height} x {width}."
            )
        *levels, features = self._encoded(image)
        skips = [
            None if level in self._cut else apply_skip(self.skips, level, skip)
            for level, skip in enumerate(levels)
        ]
        features = self.bottleneck(features)
        for block in self.decoder:
            features = block(features, skips.pop())
        logits: Tensor = self.head(features)
        return logits

    def _encoded(self, image: Tensor) -> list[Tensor]:
        """Return the feature maps of all levels, that at full resolution first, the bottleneck's last."""
        if not isinstance(self.encoder, nn.ModuleList):
            encoded: list[Tensor] = self.encoder(image)
            return encoded
        features, levels = image, []
        for block in self.encoder:
            levels.append(block(features))
            features = self.pool(levels[-1])
        return [*levels, features]


def initialize(module: nn.Module, initialization: Initialization) -> None:
    """Draw the initial weights of all convolutions and dense layers; see `QuUNetOptions.initialization`."""
    if initialization == "torch":
        return
    draw: Callable[[Tensor], Tensor] = (
        nn.init.xavier_uniform_ if initialization == "glorot" else nn.init.kaiming_uniform_
    )
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def build_qu_unet(options: QuUNetKeys, engine: Engine | None = None) -> QuUNet:
    """Build the small U-Net of a model's keys.

    Where they say nothing of the bottleneck, it is the authors' one 3x3 convolution to twice the last width.
    """
    last = options.widths[-1]

    def conv() -> tuple[nn.Module, int]:
        return nn.Sequential(nn.Conv2d(last, 2 * last, 3, padding=1), nn.ReLU(inplace=True)), 2 * last

    bottleneck, channels = build_bottleneck(
        options.at_bottleneck, last, options.bottleneck_size, engine, conv
    )
    return QuUNet(options, bottleneck, channels, build_skips(options.skips, options.widths, engine))
