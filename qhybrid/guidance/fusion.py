"""Fusion of a frozen ViT's token maps with a U-Net's features: deformable cross-attention, concatenation.

DMCAF is named by HQF-Net (arXiv 2604.06715), whose text and code are not at hand: this is our reconstruction,
after the deformable attention of Zhu et al. (arXiv 2010.04159).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_START = 1e-7
"""Of the gates: logits at the start are those without the ViT, and yet all weights have a gradient."""
_KEY = 0.5
"""Standard deviation of the keys of sampling points: without them points at one place would stay together."""


class DeformableCrossAttention(nn.Module):
    """Features of one level ask the token maps at learned places.

    y = x + g * P(sum_{m, p} a_mp v_m(r + d_mp))
    a = softmax over (m, p) of q . (k_m(r + d_mp) + e_mp) / sqrt(D)

    for each head, with the query q and the offsets d (in tokens, zero at first) linear in the normalised
    features at r, keys k_m and values v_m linear in the normalised tokens of map m, interpolated between
    tokens, e_mp a learned key of each sampling point, and g a gate for each channel, at first nearly zero.
    """

    def __init__(
        self, channels: int, token_channels: int, maps: int, dim: int, heads: int = 4, points: int = 4
    ) -> None:
        """Build the attention.

        Args:
            channels: Channels of the level's features.
            token_channels: Channels of a token.
            maps: Token maps.
            dim: Channels of all heads together, a multiple of `heads`.
            heads: Heads.
            points: Sampling points of each head in each map.
        """
        super().__init__()
        self.heads, self.points, self.maps = heads, points, maps
        self.norm = nn.GroupNorm(1, channels)
        self.query = nn.Conv2d(channels, dim, 1)
        self.offsets = nn.Conv2d(channels, heads * maps * points * 2, 1)
        # A bias of keys would change all scores of a query alike.
        self.keys = nn.ModuleList(nn.Conv2d(token_channels, dim, 1, bias=False) for _ in range(maps))
        self.values = nn.ModuleList(nn.Conv2d(token_channels, dim, 1) for _ in range(maps))
        self.point_keys = nn.Parameter(_KEY * torch.randn(heads, maps * points, dim // heads))
        self.project = nn.Conv2d(dim, channels, 1)
        self.gate = nn.Parameter(torch.full((channels,), _START))
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, token_maps: list[Tensor]) -> Tensor:
        """Map features (B, channels, h, w) and maps (B, token_channels, h_m, w_m) to new features."""
        batch, _, height, width = features.shape
        normed = self.norm(features)
        # Places need more than the eight bits of bf16, and products of two number types are slow.
        query = _single(self.query(normed)).reshape(batch * self.heads, -1, height * width)
        offsets = _single(self.offsets(normed)).reshape(
            batch * self.heads, self.maps, self.points, 2, height, width
        )
        # Of each map (B * heads, D, points, h * w) keys and values: the largest tensors here, never copied.
        sampled = [
            self._sampled(number, tokens, offsets[:, number], query.dtype).chunk(2, dim=1)
            for number, tokens in enumerate(token_maps)
        ]
        scores = torch.cat([(query[:, :, None] * keys).sum(dim=1) for keys, _ in sampled], dim=1)
        scores = (scores + self._of_points(query)) * query.shape[1] ** -0.5
        weights = scores.softmax(dim=1).chunk(self.maps, dim=1)
        parts = [(weight[:, None] * values).sum(dim=2) for weight, (_, values) in zip(weights, sampled)]
        mixed = torch.stack(parts).sum(dim=0)
        answer = self.project(mixed.reshape(batch, -1, height, width))
        fused: Tensor = features + self.gate[:, None, None] * answer
        return fused

    def _of_points(self, query: Tensor) -> Tensor:
        """Return q . e of all sampling points, shape (B * heads, maps * points, h * w)."""
        rows, _, places = query.shape
        by_head = query.reshape(rows // self.heads, self.heads, -1, places)
        return torch.einsum("bhdn,hpd->bhpn", by_head, self.point_keys.to(query.dtype)).flatten(0, 1)

    def _sampled(self, number: int, tokens: Tensor, offsets: Tensor, dtype: torch.dtype) -> Tensor:
        """Return keys and values of one map at the places, shape (B * heads, 2 D, points, h * w)."""
        (rows, columns), (height, width) = tokens.shape[-2:], offsets.shape[-2:]
        normed = F.layer_norm(tokens.to(dtype).movedim(1, -1), tokens.shape[1:2]).movedim(-1, 1)
        parts = self.keys[number](normed), self.values[number](normed)
        both = [_single(part).reshape(len(offsets), -1, rows, columns) for part in parts]
        # Of grid_sample: -1 and 1 are the outer borders of the map, so a token is 2 / columns wide.
        unit = offsets.new_tensor([2 / columns, 2 / rows])[:, None, None]
        places = (offsets * unit + _centres(height, width, offsets)).flatten(3)
        return F.grid_sample(
            torch.cat(both, dim=1), places.movedim(2, 3), padding_mode="border", align_corners=False
        )


class Concatenation(nn.Module):
    """Features and token maps side by side: the plain way to give a U-Net what a frozen ViT sees.

    The maps of all layers are reduced to `dim` channels, resized to the level, concatenated and mixed by a
    1x1 convolution.
    """

    def __init__(self, channels: int, token_channels: int, maps: int, dim: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(
            nn.Conv2d(maps * token_channels, dim, 1, bias=False), nn.BatchNorm2d(dim), nn.ReLU(inplace=True)
        )
        self.mix = nn.Sequential(
            nn.Conv2d(channels + dim, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor, token_maps: list[Tensor]) -> Tensor:
        """Map features (B, channels, h, w) and maps of one size to features of the same shape."""
        # Maps come in half precision, which autocast on a processor cannot concatenate.
        tokens = self.reduce(torch.cat([one.to(features.dtype) for one in token_maps], dim=1))
        tokens = F.interpolate(tokens, features.shape[-2:], mode="bilinear", align_corners=False)
        mixed: Tensor = self.mix(torch.cat([features, tokens.to(features.dtype)], dim=1))
        return mixed


def _single(values: Tensor) -> Tensor:
    """Return values in single precision at least."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _centres(height: int, width: int, like: Tensor) -> Tensor:
    """Return x and y of all pixels' centres, shape (2, h, w); the borders of the map are at -1 and 1."""
    rows = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) * (2 / height) - 1
    columns = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) * (2 / width) - 1
    return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])
