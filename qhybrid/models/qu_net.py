"""Qu-Net (arXiv 2501.13165), a small U-Net with QuFeX circuits at its bottleneck; and its twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from qhybrid.circuits.qufex import FEWEST_QUBITS
from qhybrid.layers.patches import PatchLayout
from qhybrid.models.bottlenecks import BottleneckOptions
from qhybrid.models.circuit_part import named_circuit
from qhybrid.models.qu_net_variants import parse_variant
from qhybrid.models.qu_unet import QuUNetKeys


class PatchOptions(QuUNetKeys):
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

    @property
    def at_bottleneck(self) -> BottleneckOptions:
        """The two filters, or the first one, on patches."""
        circuits = tuple(
            named_circuit(
                f"qufex_filter{number + 1}",
                num_qubits=self.layout.size,
                observable=self.observables[number],
            )
            for number in range(self.filters)
        )
        return BottleneckOptions(
            circuit=circuits, interface="patches", patch=self.patch, maps=self.maps, frozen=self.frozen
        )


class QuNetTwinOptions(PatchOptions):
    """Keys of `qu_net_twin`.

    Attributes:
        core: What replaces a circuit: `pairwise` has the same pairs and as many weights (4); `zero` leaves
            the residual path alone.
    """

    core: Literal["pairwise", "zero"] = "pairwise"

    @property
    def at_bottleneck(self) -> BottleneckOptions:
        """As many classical filters on patches."""
        return BottleneckOptions(
            name=self.core, interface="patches", patch=self.patch, maps=self.maps, filters=self.filters
        )
