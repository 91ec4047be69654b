"""HQF-Net (arXiv 2604.06715), our reconstruction: a U-Net with quantum skip connections and quantum experts.

The paper's abstract is all that is known: guidance of a frozen ViT, quantum skip connections (QSkip), and a
quantum bottleneck with a mixture of local, global and directional experts (QMoE). Circuits, gates, widths and
settings are our choices; see docs/hqf_net.md.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from qhybrid.models.bottlenecks import BottleneckOptions
from qhybrid.models.circuit_part import named_circuit
from qhybrid.models.skips import SkipOptions
from qhybrid.models.unet import UNetKeys

EXPERTS = tuple(named_circuit(name) for name in ("hqf_local", "hqf_global", "hqf_directional"))
SKIP = named_circuit("hqf_qskip")
"""Those of the package: what a recipe does not name is decided by no file of the workspace."""
SKIP_ANGLE = 0.1
"""Initial gate angle of a quantum skip connection, radians."""


def _qskip() -> SkipOptions:
    return SkipOptions.model_validate({"circuit": SKIP, "gate_angle": SKIP_ANGLE})


def _qmoe() -> BottleneckOptions:
    return BottleneckOptions.model_validate({"circuit": list(EXPERTS), "interface": "experts"})


class HQFNetOptions(UNetKeys):
    """Keys of `hqf_net`, our reconstruction of HQF-Net.

    Attributes:
        qskip: Circuits on the skip connections, with the keys of `skips`; `none` leaves them out. By default
            `hqf_qskip` on all levels, each with a gate angle.
        qmoe: What stands at the bottleneck, with the keys of `bottleneck` of model `unet`; `none` is the
            identity. By default the experts `hqf_local`, `hqf_global` and `hqf_directional`.
    """

    qskip: SkipOptions | Literal["none"] = Field(default_factory=_qskip)
    qmoe: BottleneckOptions | Literal["none"] = Field(default_factory=_qmoe)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_parts(cls, content: Any) -> Any:
        """Complete sections that leave the circuits to the model."""
        if not isinstance(content, dict):
            return content
        found = dict(content)
        if isinstance(found.get("qskip"), dict):
            found["qskip"] = {"circuit": SKIP, "gate_angle": SKIP_ANGLE, **found["qskip"]}
        moe = found.get("qmoe")
        if isinstance(moe, dict) and "name" not in moe:
            moe = {"circuit": list(EXPERTS), **moe}
            # Several circuits are experts here; in the other models they are filters on patches.
            found["qmoe"] = (
                {"interface": "experts", **moe} if isinstance(moe["circuit"], list | tuple) else moe
            )
        return found

    @model_validator(mode="after")
    def _parts_fit(self) -> HQFNetOptions:
        if self.skips is not None:
            raise ValueError("`skips` of this model is called `qskip`. Fix: rename the key")
        options = self.at_skips
        if options is not None:
            options.contents(len(self.widths) - 1)
        self.at_bottleneck.check_size(*self.map_size)
        return self

    @property
    def at_bottleneck(self) -> BottleneckOptions:
        """What stands at the bottleneck."""
        if isinstance(self.qmoe, BottleneckOptions):
            return self.qmoe
        return BottleneckOptions(name="identity")

    @property
    def at_skips(self) -> SkipOptions | None:
        """What stands on the skip connections."""
        return self.qskip if isinstance(self.qskip, SkipOptions) else None
