"""The U-Net that all segmentation models share; they differ in what stands at its bottleneck."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator
from torch import Tensor, nn

from qhybrid.config import StrictModel
from qhybrid.engines.base import Engine
from qhybrid.errors import ConfigError
from qhybrid.guidance import GuidanceOptions, build_guidance
from qhybrid.models.blocks import DoubleConv, Down, Stem, Up
from qhybrid.models.bottlenecks import BottleneckOptions, build_bottleneck
from qhybrid.models.encoder import PretrainedEncoder
from qhybrid.models.encoder_keys import EncoderOptions
from qhybrid.models.skips import SkipOptions, apply_skip, build_skips, check_cut

DOWNSAMPLING = 16
_OPTIONAL = ("image_size", "skips", "cut_skips", "bottleneck", "encoder", "guidance")


class FiveLevels(StrictModel):
    """Keys of every network of five levels, whatever joins them.

    Attributes:
        in_channels: Bands of the image.
        num_classes: Classes to tell apart; 1 gives one logit, for binary segmentation with a sigmoid.
        patch_size: Side of training patches in pixels, a multiple of 16.
        image_size: Height and width of whole images in pixels, multiples of 16, where they are not square; in
            place of `patch_size`.
        widths: Channels of the levels, that at full resolution first.
    """

    in_channels: int = Field(ge=1)
    num_classes: int = Field(ge=1)
    patch_size: int = Field(128, ge=DOWNSAMPLING, multiple_of=DOWNSAMPLING)
    image_size: tuple[int, int] | None = None
    widths: tuple[int, int, int, int, int] = (16, 32, 64, 128, 256)

    @field_validator("widths")
    @classmethod
    def _widths_are_positive(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if min(widths) < 1:
            raise ValueError("widths must be at least 1")
        return widths

    @model_validator(mode="after")
    def _one_size(self) -> FiveLevels:
        if self.image_size is None:
            return self
        if "patch_size" in self.model_fields_set:
            raise ValueError("give either `patch_size` or `image_size`, but not both")
        if any(side < DOWNSAMPLING or side % DOWNSAMPLING for side in self.image_size):
            raise ValueError(
                f"`image_size` must be multiples of {DOWNSAMPLING}, but is {self.image_size[0]} x "
                f"{self.image_size[1]}. Fix: let the data set resize the images, or use `qu_unet` with fewer "
                "`widths`"
            )
        return self

    @model_serializer(mode="wrap")
    def _used_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unused = {key for key in _OPTIONAL if getattr(self, key, None) is None}
        unused |= set() if self.image_size is None else {"patch_size"}
        return {key: value for key, value in dump(self).items() if key not in unused}


class UNetKeys(FiveLevels):
    """Keys of every model that is built on the U-Net.

    Attributes:
        skips: Circuits on the skip connections; none by default.
        cut_skips: Levels whose skip connection is left out, 0 being that at full resolution: what is below
            them reaches the output through the bottleneck alone (an ablation).
        encoder: A pretrained backbone in place of stem and Down blocks; none by default.
        guidance: A frozen ViT whose token maps are fused with the encoder's features; none by default.
    """

    skips: SkipOptions | None = None
    cut_skips: tuple[int, ...] | None = None
    encoder: EncoderOptions | None = None
    guidance: GuidanceOptions | None = None

    @model_validator(mode="after")
    def _sizes_fit(self) -> UNetKeys:
        if self.skips is not None:
            self.skips.contents(len(self.widths) - 1)
        check_cut(self.cut_skips, self.at_skips, len(self.widths) - 1)
        if self.encoder is not None:
            self.encoder.check_levels(len(self.widths))
            self.encoder.check_bands(self.in_channels)
        if self.guidance is not None and self.guidance.used:
            self.guidance.check_levels(len(self.widths))
            self.guidance.check_bands(self.in_channels)
        return self

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the feature map at the bottleneck, in training."""
        height, width = self.image_size or (self.patch_size, self.patch_size)
        return height // DOWNSAMPLING, width // DOWNSAMPLING

    @property
    def at_bottleneck(self) -> BottleneckOptions:
        """What stands at the bottleneck."""
        return BottleneckOptions()

    @property
    def at_skips(self) -> SkipOptions | None:
        """What stands on the skip connections."""
        return self.skips


class UNetOptions(UNetKeys):
    """Keys of `unet`.

    Attributes:
        bottleneck: What stands at the bottleneck; the U-Net's own deepest block (`conv`) by default.
    """

    bottleneck: BottleneckOptions | None = None

    @model_validator(mode="after")
    def _patches_fit(self) -> UNetOptions:
        self.at_bottleneck.check_size(*self.map_size)
        return self

    @property
    def at_bottleneck(self) -> BottleneckOptions:
        """What stands at the bottleneck."""
        return self.bottleneck or BottleneckOptions()


class GuidedByConcatenation(UNetOptions):
    """Keys of `unet_vit_concat`: those of `unet`, with a frozen ViT by plain concatenation.

    Attributes:
        guidance: The frozen ViT; its `fusion` is `concat`.
    """

    guidance: GuidanceOptions

    @field_validator("guidance", mode="before")
    @classmethod
    def _concatenated(cls, guidance: Any) -> Any:
        content = {"backbone": guidance} if isinstance(guidance, str) else guidance
        if not isinstance(content, Mapping):
            return content
        if content.get("fusion", "concat") != "concat":
            raise ValueError("`fusion` of this model is `concat`. Fix: leave it out, or take model `unet`")
        return {**content, "fusion": "concat"}


class UNet(nn.Module):
    """Stem, four Down blocks, a bottleneck, four Up blocks, 1x1 convolution.

    A pretrained encoder may stand in place of stem and Down blocks.

    Attributes:
        bottleneck: Map from (B, widths[4], h/16, w/16) to (B, bottleneck_channels, h/16, w/16).
        skips: Gates of the skip connections by level.
        guidance: Frozen ViT and fusion; None without.
        any_size: Whether images of other sizes than in training are accepted.
        size_multiple: What height and width of images must be multiples of.
    """

    def __init__(
        self,
        options: UNetKeys,
        bottleneck: nn.Module,
        bottleneck_channels: int | None = None,
        skips: nn.ModuleDict | None = None,
    ) -> None:
        """Build the network around `bottleneck`, which keeps the number of channels unless it is given."""
        super().__init__()
        widths = options.widths
        self.any_size = bool(getattr(bottleneck, "any_size", True))
        rows, columns = getattr(bottleneck, "size_multiple", (1, 1))
        self.size_multiple = (DOWNSAMPLING * rows, DOWNSAMPLING * columns)
        deep = (*widths[:4], bottleneck_channels or widths[4])
        if options.encoder is None:
            self.stem: nn.Module = Stem(options.in_channels, widths[0])
            self.down = nn.ModuleList(Down(widths[i], widths[i + 1]) for i in range(4))
        else:
            self.encoder = PretrainedEncoder(options.encoder, options.in_channels, widths)
        self.bottleneck = bottleneck
        self._cut = frozenset(options.cut_skips or ())
        self.up = nn.ModuleList(
            Up(deep[i + 1], 0 if i in self._cut else widths[i], widths[i]) for i in reversed(range(4))
        )
        self.head = nn.Conv2d(widths[0], options.num_classes, 1)
        self.skips = nn.ModuleDict() if skips is None else skips
        self.guidance = build_guidance(options.guidance, widths, options.in_channels)

    def forward(self, image: Tensor, token_maps: Tensor | None = None) -> Tensor:
        """Map an image (B, C, H, W) to logits (B, K, H, W).

        Args:
            image: The image.
            token_maps: Those of a frozen ViT over the same ground, (B, L, C', h, w), for a model with
                guidance. Absent: those of the image itself.

        Raises:
            ConfigError: If H or W is not a multiple of 16, or a model without guidance gets token maps.
        """
        if image.shape[-2] % DOWNSAMPLING or image.shape[-1] % DOWNSAMPLING:
            raise ConfigError(
                f"Height and width must be multiples of {DOWNSAMPLING}, but are {image.shape[-2]} x "
                f"{image.shape[-1]}."
            )
        *levels, features = self._guided(self._encoded(image), image, token_maps)
        skips = [
            None if level in self._cut else apply_skip(self.skips, level, skip)
            for level, skip in enumerate(levels)
        ]
        features = self.bottleneck(features)
        for up in self.up:
            features = up(features, skips.pop())
        logits: Tensor = self.head(features)
        return logits

    def _guided(self, features: list[Tensor], image: Tensor, token_maps: Tensor | None) -> list[Tensor]:
        """Return the feature maps fused with what the frozen ViT sees, where there is one."""
        if self.guidance is not None:
            guided: list[Tensor] = self.guidance(features, image, token_maps)
            return guided
        if token_maps is not None:
            raise ConfigError("Argument `token_maps` is for models with `guidance`, but this one has none.")
        return features

    def _encoded(self, image: Tensor) -> list[Tensor]:
        """Return the feature maps of all levels, that at full resolution first, the bottleneck's last."""
        if hasattr(self, "encoder"):
            encoded: list[Tensor] = self.encoder(image)
            return encoded
        features = [self.stem(image)]
        for down in self.down:
            features.append(down(features[-1]))
        return features


def build_unet(options: UNetKeys, engine: Engine | None = None) -> UNet:
    """Build the U-Net of a model's keys: what they say of the bottleneck, or else its deepest DoubleConv."""
    last = options.widths[4]
    bottleneck, channels = build_bottleneck(
        options.at_bottleneck, last, options.map_size, engine, lambda: (DoubleConv(last, last), last)
    )
    return UNet(options, bottleneck, channels, build_skips(options.at_skips, options.widths[:4], engine))
