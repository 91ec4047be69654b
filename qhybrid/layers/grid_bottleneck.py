"""Bottleneck that squeezes a feature map through values on a small grid of cells (HQ-UNet: one cell a qubit).

Pre-Q: adaptive average pooling to a grid of cells, 1x1 convolution to the features of a cell, tanh.
Core: any map from (B, cells * features), cell-major, to (B, n_out): a QuantumLayer or a classical twin.
Post-Q: a linear layer back to a feature map.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from qhybrid.errors import ConfigError


class GridBottleneck(nn.Module):
    """Pre-Q, core and post-Q of HQ-UNet (arXiv 2604.27206, section III-B).

    Attributes:
        core: The circuit, or what stands in its place.
        any_size: Whether feature maps of any height and width are accepted.
    """

    def __init__(
        self,
        channels: int,
        core: nn.Module,
        core_outputs: int,
        *,
        grid: int | tuple[int, int] = 4,
        cell_features: int = 3,
        angle_scale: float = 1.0,
        post_q: Literal["full", "grid"] = "full",
        map_size: int | tuple[int, int] = 8,
    ) -> None:
        """Build the bottleneck.

        Args:
            channels: Channels of the incoming and of the outgoing feature map.
            core: Map from (B, cells * cell_features) to (B, core_outputs).
            core_outputs: Number of values the core returns.
            grid: Rows and columns of cells, or one number for both.
            cell_features: Features of one cell.
            angle_scale: Factor from the tanh output to the core's input (radians for a circuit).
            post_q: `full` (the paper's) maps to the whole feature map and fixes the input size; `grid` maps
                to channels x rows x columns and resizes bilinearly, for any size.
            map_size: Height and width of the feature map, or one number for both; used by `full`.
        """
        super().__init__()
        self.grid = (grid, grid) if isinstance(grid, int) else grid
        self.angle_scale = angle_scale
        self.map_size = (map_size, map_size) if isinstance(map_size, int) else map_size
        self.any_size = post_q == "grid"
        self.pool = nn.AdaptiveAvgPool2d(self.grid)
        self.reduce = nn.Conv2d(channels, cell_features, 1)
        self.core = core
        self._made = self.grid if self.any_size else self.map_size
        self.expand = nn.Linear(core_outputs, channels * self._made[0] * self._made[1])

    def angles(self, features: Tensor) -> Tensor:
        """Return the core's input, cell-major: shape (B, cells * cell_features), up to +-angle_scale."""
        cells: Tensor = self.reduce(self.pool(features)).float().tanh() * self.angle_scale
        return cells.flatten(2).transpose(1, 2).flatten(1)

    def check_size(self, features: Tensor) -> None:
        """Check that a feature map (B, channels, h, w) has the size that `post_q: full` was built for.

        Raises:
            ConfigError: If it has another one.
        """
        size = (features.shape[-2], features.shape[-1])
        if not self.any_size and size != self.map_size:
            raise ConfigError(
                f"With `post_q: full` the bottleneck takes {self.map_size[0]} x {self.map_size[1]} feature "
                f"maps, but got {size[0]} x {size[1]}. Fix: use images or windows of the training size, or "
                "train with `post_q: grid`."
            )

    def feature_map(self, values: Tensor, like: Tensor) -> Tensor:
        """Return the post-Q map of a core's values (B, n_out), of the shape and type of features `like`."""
        expanded: Tensor = self.expand(values)
        result = expanded.reshape(len(expanded), -1, *self._made)
        if self.any_size:
            result = F.interpolate(result, size=like.shape[-2:], mode="bilinear", align_corners=False)
        return result.to(like.dtype)

    def forward(self, features: Tensor) -> Tensor:
        """Map features of shape (B, channels, h, w) to the same shape.

        Raises:
            ConfigError: If `post_q` is `full` and h, w differ from the size it was built for.
        """
        self.check_size(features)
        return self.feature_map(self.core(self.angles(features)), features)
