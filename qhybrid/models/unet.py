"""The U-Net that all segmentation models share; they differ in what stands at its bottleneck."""

from __future__ import annotations

from pydantic import Field, field_validator
from torch import Tensor, nn

from qhybrid.config import StrictModel
from qhybrid.errors import ConfigError
from qhybrid.models.blocks import DoubleConv, Down, Stem, Up

DOWNSAMPLING = 16


class UNetOptions(StrictModel):
    """Keys of `unet`, and of every model built on it.

    Attributes:
        in_channels: Bands of the image.
        num_classes: Classes to tell apart.
        patch_size: Side of training patches in pixels, a multiple of 16.
        widths: Channels after the stem and after each of the four Down blocks.
    """

    in_channels: int = Field(ge=1)
    num_classes: int = Field(ge=2)
    patch_size: int = Field(128, ge=DOWNSAMPLING, multiple_of=DOWNSAMPLING)
    widths: tuple[int, int, int, int, int] = (16, 32, 64, 128, 256)

    @field_validator("widths")
    @classmethod
    def _widths_are_positive(cls, widths: tuple[int, ...]) -> tuple[int, ...]:
        if min(widths) < 1:
            raise ValueError("widths must be at least 1")
        return widths


class UNet(nn.Module):
    """Stem, four Down blocks, a bottleneck that keeps its shape, four Up blocks, 1x1 convolution.

    Attributes:
        bottleneck: Map from (B, widths[4], h/16, w/16) to the same shape.
        any_size: Whether images of any height and width (multiples of 16) are accepted.
    """

    def __init__(self, options: UNetOptions, bottleneck: nn.Module) -> None:
        """Build the network around `bottleneck`."""
        super().__init__()
        widths = options.widths
        self.any_size = bool(getattr(bottleneck, "any_size", True))
        self.stem = Stem(options.in_channels, widths[0])
        self.down = nn.ModuleList(Down(widths[i], widths[i + 1]) for i in range(4))
        self.bottleneck = bottleneck
        self.up = nn.ModuleList(Up(widths[i + 1], widths[i], widths[i]) for i in reversed(range(4)))
        self.head = nn.Conv2d(widths[0], options.num_classes, 1)

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
        features = self.stem(image)
        skips = []
        for down in self.down:
            skips.append(features)
            features = down(features)
        features = self.bottleneck(features)
        for up in self.up:
            features = up(features, skips.pop())
        logits: Tensor = self.head(features)
        return logits


def build_unet(options: UNetOptions) -> UNet:
    """Build the classical U-Net, whose bottleneck is its deepest DoubleConv."""
    return UNet(options, DoubleConv(options.widths[4], options.widths[4]))
