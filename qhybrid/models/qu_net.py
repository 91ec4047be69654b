"""Qu-Net (arXiv 2501.13165), a small U-Net with QuFeX circuits at its bottleneck; and its twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from qhybrid.circuits import build_circuit
from qhybrid.circuits.qufex import FEWEST_QUBITS
from qhybrid.engines.base import Engine
from qhybrid.layers import PairwiseFilter, QuantumLayer, QuFeXBottleneck
from qhybrid.layers.patches import PatchLayout
from qhybrid.models.qu_net_variants import parse_variant
from qhybrid.models.qu_unet import QuUNet, QuUNetOptions


class PatchOptions(QuUNetOptions):
    """Keys of the patches at the bottleneck.

    Attributes:
        variant: A name from the paper, its code or its logs (`12_1`, `8_2_2`, `12-2-1`) in place of the next
            three keys.
        patch: Height and width of a patch, in pixels of the bottleneck's feature map.
        maps: Feature maps that share a patch; patch height x width x maps is the number of qubits.
        filters: 1 (filter 1) or 2 (filters 1 and 2, which doubles the channels behind the bottleneck).
    """

    variant: str | None = None
    patch: tuple[int, int] = (2, 2)
    maps: int = Field(1, ge=1)
    filters: int = Field(1, ge=1, le=2)

    @model_validator(mode="before")
    @classmethod
    def _spell_out_variant(cls, keys: Any) -> Any:
        if not isinstance(keys, Mapping) or not isinstance(keys.get("variant"), str):
            return keys
        named = parse_variant(keys["variant"]).model_dump()
        for key, value in named.items():
            given = keys.get(key, value)
            if (tuple(given) if isinstance(given, list) else given) != value:
                raise ValueError(f"`variant` {keys['variant']} means `{key}` {value}, but {key} is {given}")
        return {**keys, **named}

    @model_validator(mode="after")
    def _patches_fit(self) -> PatchOptions:
        if min(self.patch) < 1:
            raise ValueError(f"`patch` must be at least 1 x 1, but is {self.patch[0]} x {self.patch[1]}")
        if self.layout.size < FEWEST_QUBITS:
            raise ValueError(
                f"a filter has at least {FEWEST_QUBITS} qubits, but `patch` {self.patch[0]} x "
                f"{self.patch[1]} with `maps` {self.maps} gives {self.layout.size}"
            )
        self.layout.check(*self.bottleneck_size)
        return self

    @property
    def layout(self) -> PatchLayout:
        """How patches are cut."""
        return PatchLayout(self.patch[0], self.patch[1], self.maps)


class QuNetOptions(PatchOptions):
    """Keys of `qu_net`.

    Attributes:
        observables: Pauli letters that filter 1 and filter 2 read from every qubit; the authors' are Z and X,
            a third-party port reads Z from both.
        frozen: Keep the circuits at their random initial angles (an ablation).
    """

    observables: str = Field("ZX", pattern="^[XYZ]{2}$")
    frozen: bool = False


class QuNetTwinOptions(PatchOptions):
    """Keys of `qu_net_twin`.

    Attributes:
        core: What replaces a circuit: `pairwise` has the same pairs and as many weights (4); `zero` leaves
            the residual path alone.
    """

    core: Literal["pairwise", "zero"] = "pairwise"


class ZeroFilter(nn.Module):
    """The filter that adds nothing."""

    def forward(self, rows: Tensor) -> Tensor:
        """Return zeros of the shape of `rows`."""
        return torch.zeros_like(rows)


def build_qu_net(options: QuNetOptions, engine: Engine | None) -> QuUNet:
    """Build Qu-Net on an engine (the exact one if None)."""
    layers = []
    for number in range(options.filters):
        spec = build_circuit(
            f"qufex_filter{number + 1}",
            num_qubits=options.layout.size,
            observable=options.observables[number],
        )
        layer = QuantumLayer(spec, engine)
        layer.weight.requires_grad_(not options.frozen)
        layers.append(layer)
    return _with_filters(options, layers)


def build_qu_net_twin(options: QuNetTwinOptions) -> QuUNet:
    """Build Qu-Net with classical filters in place of its circuits."""
    filters = [
        PairwiseFilter(options.layout.size) if options.core == "pairwise" else ZeroFilter()
        for _ in range(options.filters)
    ]
    return _with_filters(options, filters)


def _with_filters(options: PatchOptions, filters: list[Any]) -> QuUNet:
    bottleneck = QuFeXBottleneck(filters, options.patch, options.maps)
    return QuUNet(options, bottleneck, options.widths[-1] * options.filters)
