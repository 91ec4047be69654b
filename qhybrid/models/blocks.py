"""Building blocks of the U-Nets: depthwise-separable convolutions, Down and Up."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SeparableConv(nn.Sequential):
    """Depthwise 3x3 convolution, pointwise 1x1 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class DoubleConv(nn.Sequential):
    """Two depthwise-separable convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(SeparableConv(inputs, outputs), SeparableConv(outputs, outputs))


class Stem(nn.Sequential):
    """First block at full resolution: a plain 3x3 convolution that mixes all bands, then a separable one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            SeparableConv(outputs, outputs),
        )


class Down(nn.Sequential):
    """Max pooling by 2, then a DoubleConv."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(nn.MaxPool2d(2), DoubleConv(inputs, outputs))


class Up(nn.Module):
    """Transposed convolution by 2, concatenation with the skip where there is one, DoubleConv."""

    def __init__(self, inputs: int, skip: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        self.mix = DoubleConv(outputs + skip, outputs)

    def forward(self, deep: Tensor, skip: Tensor | None) -> Tensor:
        """Map deep (B, inputs, h, w) and skip (B, skip, 2h, 2w) to (B, outputs, 2h, 2w)."""
        parts = [self.up(deep)] if skip is None else [skip, self.up(deep)]
        result: Tensor = self.mix(torch.cat(parts, dim=1))
        return result
