"""Feature maps to rows of circuit inputs and back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from qhybrid.errors import ConfigError


@dataclass(frozen=True)
class PatchLayout:
    """Non-overlapping patches of `height` x `width` pixels through `maps` neighbouring channels.

    A patch is flattened by row, column, channel, the channel fastest.

    Attributes:
        height: Rows of a patch.
        width: Columns of a patch.
        maps: Channels of a patch.
    """

    height: int
    width: int
    maps: int = 1

    def __post_init__(self) -> None:
        """Check that a patch has pixels and maps."""
        if min(self.height, self.width, self.maps) < 1:
            raise ConfigError(
                f"A patch must have at least 1 pixel each way and 1 map, but is {self.height} x {self.width} "
                f"through {self.maps}."
            )

    @property
    def size(self) -> int:
        """Values of one patch."""
        return self.height * self.width * self.maps

    def check(self, height: int, width: int) -> None:
        """Check that patches tile a feature map.

        Raises:
            ConfigError: If they do not; the message carries the numbers.
        """
        if height % self.height or width % self.width:
            raise ConfigError(
                f"Patches of {self.height} x {self.width} must tile the feature map, but it is {height} x "
                f"{width}. Fix: choose a `patch` whose height divides {height} and whose width divides "
                f"{width}, or another image size."
            )

    def groups(self, channels: int) -> int:
        """Return the number of groups of channels; the last one may be filled up with zeros."""
        return math.ceil(channels / self.maps)

    def rows(self, features: Tensor) -> Tensor:
        """Cut features (B, C, h, w) into rows (B * patches, size), ordered by sample, group, row, column.

        Where `maps` does not divide C, maps of zeros are appended. (The authors' 12_1_3 has groups of 3 out
        of 8 maps; how they fill the last group is not known.)

        Raises:
            ConfigError: If patches do not tile the features.
        """
        batch, channels, height, width = features.shape
        self.check(height, width)
        missing = self.groups(channels) * self.maps - channels
        if missing:
            features = F.pad(features, (0, 0, 0, 0, 0, missing))
        split = features.reshape(
            batch,
            self.groups(channels),
            self.maps,
            height // self.height,
            self.height,
            width // self.width,
            self.width,
        )
        return split.permute(0, 1, 3, 5, 4, 6, 2).reshape(-1, self.size)

    def stitch(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """Put rows of `rows()` back into features of shape (B, C, h, w); appended maps are dropped."""
        batch, channels, height, width = shape
        split = rows.reshape(
            batch,
            self.groups(channels),
            height // self.height,
            width // self.width,
            self.height,
            self.width,
            self.maps,
        )
        filled = self.groups(channels) * self.maps
        return split.permute(0, 1, 6, 2, 4, 3, 5).reshape(batch, filled, height, width)[:, :channels]
