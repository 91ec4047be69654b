"""The guidance of a U-Net: a frozen ViT, what it gets to see, and the fusion of its token maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from qhybrid.data.contract_bands import has_names, named_places
from qhybrid.data.statistics import BandStatistics
from qhybrid.errors import ConfigError
from qhybrid.guidance.fusion import Concatenation, DeformableCrossAttention
from qhybrid.guidance.keys import GuidanceOptions
from qhybrid.guidance.vit import FrozenViT

_RGB = ("red", "green", "blue")
_LARGEST_8_BIT = 255.0


class Guidance(nn.Module):
    """Fuses token maps of a frozen ViT into features of a U-Net.

    What the ViT gets is linear in the standardised image that the U-Net gets: `image[bands] * gain + shift`.
    Until `see` is called it is the standardised image itself.

    Attributes:
        options: The section `guidance`, complete.
        vit: The frozen ViT; none of its weights is a parameter here.
        fusions: By level, as text.
    """

    bands: Tensor
    gain: Tensor
    shift: Tensor

    def __init__(self, options: GuidanceOptions, widths: Sequence[int], in_channels: int) -> None:
        """Build the guidance.

        Args:
            options: The section `guidance`.
            widths: Channels of the U-Net's levels, that at full resolution first.
            in_channels: Bands of the images.

        Raises:
            ConfigError: If a level or a band does not exist.
        """
        super().__init__()
        options.check_levels(len(widths))
        options.check_bands(in_channels)
        self.options = options
        self.vit = FrozenViT(options)
        count = options.image_channels
        numbers = [band for band in options.bands or () if isinstance(band, int)]
        known = [number - 1 for number in numbers] if len(numbers) == count else None
        places = known or [min(place, in_channels - 1) for place in range(count)]
        self.register_buffer("bands", torch.tensor(places))
        self.register_buffer("gain", torch.ones(count))
        self.register_buffer("shift", torch.zeros(count))
        self.fusions = nn.ModuleDict(
            {str(level): _fusion(options, widths[level]) for level in options.levels}
        )

    def see(self, statistics: BandStatistics) -> None:
        """Set what the ViT gets, from the training split; a run keeps it with its weights.

        Raises:
            ConfigError: If it is not known which bands are meant.
        """
        options = self.options
        places = band_places(options, statistics)
        self.bands.copy_(torch.tensor(places))
        # Those of weights that a training starts from belong to another split, perhaps to other values.
        self.gain.fill_(1.0)
        self.shift.zero_()
        if options.values == "standardised":
            return
        contract = statistics.contract
        described = contract.bands if contract is not None else ()
        factor = (contract.options.scale if contract is not None else None) or 1.0  # of what the files hold
        normalised = zip(places, options.mean or (), options.std or (), strict=True)
        for at, (place, mean, std) in enumerate(normalised):
            low, high = statistics.low[place], statistics.high[place]
            dtype = described[place].dtype if described else None
            if options.values == "range" and dtype == "uint8":
                low, high = 0.0, _LARGEST_8_BIT * factor
            extent = (high - low) or 1.0
            # x in [0, 1] of the raw value z * deviation + mean of the standardised one.
            self.gain[at] = statistics.std[place] / extent / std
            self.shift[at] = ((statistics.mean[place] - low) / extent - mean) / std

    def input_of(self, image: Tensor) -> Tensor:
        """Return what the ViT gets of standardised images (..., C, H, W)."""
        return seen(image, self.bands, self.gain, self.shift)

    def maps_of(self, image: Tensor) -> Tensor:
        """Return token maps of standardised images (B, C, H, W), each as one tile: (B, L, C', h, w)."""
        return self.vit.maps(self.input_of(image.detach().float()))

    def fuse(self, level_features: list[Tensor], token_maps: list[Tensor]) -> list[Tensor]:
        """Return the features of all levels, those of the chosen levels fused with the token maps.

        Args:
            level_features: (B, widths[i], H / 2^i, W / 2^i), that at full resolution first.
            token_maps: One a layer, (B, token_channels, h, w).
        """
        if len(token_maps) != self.options.maps:
            raise ConfigError(
                f"Argument `token_maps` must be {self.options.maps}, one a layer of `guidance.layers`, but "
                f"are {len(token_maps)}."
            )
        return [
            self.fusions[str(level)](features, token_maps) if str(level) in self.fusions else features
            for level, features in enumerate(level_features)
        ]

    def forward(self, level_features: list[Tensor], image: Tensor, token_maps: Tensor | None) -> list[Tensor]:
        """Fuse token maps (B, L, C', h, w), or those of the image itself where none are given."""
        maps = self.maps_of(image) if token_maps is None else token_maps
        return self.fuse(level_features, list(maps.unbind(1)))


def guidance_in(model: nn.Module) -> Guidance | None:
    """Return the guidance of a model; None without a frozen ViT."""
    found = getattr(model, "guidance", None)
    return found if isinstance(found, Guidance) else None


def find_vit_below(model: nn.Module, data_root: Path) -> None:
    """Look the frozen ViT of a model up below this data root; nothing happens without one."""
    if (guidance := guidance_in(model)) is not None:
        guidance.vit.root = data_root


def seen(image: Tensor, bands: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Return `image[bands] * gain + shift` of standardised images (..., C, H, W)."""
    chosen = image.index_select(-3, bands.to(image.device))
    return chosen * gain.to(image)[:, None, None] + shift.to(image)[:, None, None]


def bytes_seen(guidance: Guidance, statistics: BandStatistics) -> tuple[Tensor, Tensor] | None:
    """Return gain and shift, each (C, 1, 1), from bytes to what the ViT gets: the same for all statistics.

    Returns:
        None where the ViT does not get bytes divided by 255, but what statistics say.
    """
    options, places = guidance.options, guidance.bands.tolist()
    mean, std = (torch.tensor(one, dtype=torch.float64) for one in (options.mean or (), options.std or ()))
    center, deviation = (
        torch.tensor(one, dtype=torch.float64)[places] for one in (statistics.mean, statistics.std)
    )
    if options.values != "range" or not bool((deviation > 0).all()):
        return None
    gain, shift = 1 / (_LARGEST_8_BIT * std), -mean / std
    as_seen = guidance.gain.double().cpu(), guidance.shift.double().cpu()
    same = torch.allclose(as_seen[0], deviation * gain, rtol=1e-5) and torch.allclose(
        as_seen[1], center * gain + shift, rtol=1e-5, atol=1e-5
    )
    return (gain.float()[:, None, None], shift.float()[:, None, None]) if same else None


def _fusion(options: GuidanceOptions, channels: int) -> nn.Module:
    assert options.dim is not None  # filled in with the section
    if options.fusion == "concat":
        return Concatenation(channels, options.token_channels, options.maps, options.dim)
    return DeformableCrossAttention(
        channels, options.token_channels, options.maps, options.dim, options.heads, options.points
    )


def band_places(options: GuidanceOptions, statistics: BandStatistics) -> list[int]:
    """Return which of the model's bands the ViT gets, from 0.

    Raises:
        ConfigError: If a name is unknown, or nothing tells which bands are meant.
    """
    count, bands = options.image_channels, len(statistics.bands)
    described = statistics.contract.bands if statistics.contract is not None else ()
    wanted = options.bands
    if wanted is None:
        colours = count == len(_RGB) and bool(described)
        found = named_places(_RGB, described) if colours else None
        if found is None and colours and bands == count and has_names(described):
            raise ConfigError(
                "Key `guidance.bands` is needed: the ViT takes red, green and blue, but the model's bands "
                f"are called {_names(described)}. Fix: give the numbers of red, green and blue among them, "
                "in this order; [1, 2, 3] takes the bands as they come."
            )
        if found is None and bands != count:
            raise ConfigError(
                f"Key `guidance.bands` is needed: the ViT takes {count} bands, but the model has {bands}, "
                f"called {_names(described)}. Fix: name them in the ViT's order (red, green, blue), or give "
                "their numbers among the model's bands, from 1."
            )
        return [place - 1 for place in found] if found else list(range(count))
    options.check_bands(bands)
    places = []
    for band in wanted:
        named = (band,) if isinstance(band, int) else named_places((band,), described)
        if named is None:
            raise ConfigError(
                f"Key `guidance.bands` names `{band}`, but the model's bands are called {_names(described)}. "
                "Fix: take one of these names, or the number among the model's bands, from 1."
            )
        places.append(int(named[0]) - 1)
    return places


def _names(described: Sequence[object]) -> str:
    return ", ".join(str(getattr(band, "shown", band)) for band in described) or "nothing"


def build_guidance(
    options: GuidanceOptions | None, widths: Sequence[int], in_channels: int
) -> Guidance | None:
    """Return the guidance of a U-Net; None where there is no ViT (`backbone: none`)."""
    return Guidance(options, widths, in_channels) if options is not None and options.used else None
