"""HQ-UNet (arXiv 2604.27206): a U-Net whose deepest block is a 16-qubit circuit; and its classical twins."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qhybrid.models.bottlenecks import BottleneckOptions
from qhybrid.models.circuit_part import named_circuit
from qhybrid.models.unet import UNetKeys

FEATURES_OF_TWIN = 3


class _GridOptions(UNetKeys):
    """Keys of the pre-Q and post-Q interfaces.

    Attributes:
        grid: Cells along one side of the pooled feature map.
        angle_scale: Factor from the tanh output, in [-1, 1], to the input angle in radians; 1 uses it as it
            is.
        post_q: `full` is the paper's linear layer and fixes the window to `patch_size`; `grid` takes any
            size.
    """

    grid: int = Field(4, ge=1)
    angle_scale: float = Field(1.0, gt=0)
    post_q: Literal["full", "grid"] = "full"


class HQUNetOptions(_GridOptions):
    """Keys of `hq_unet`.

    Attributes:
        pair_order: Order of pairs inside a pass: `chain` or `even_odd`.
        encoding: Rotation axes a cell; the paper's is `xyz`.
        readout: Paulis read from every qubit; the paper's is `ZX`.
        reps: Repetitions of row and column pass; the paper has 1.
        frozen: Keep the circuit at its random initial angles (an ablation).
    """

    pair_order: Literal["chain", "even_odd"] = "chain"
    encoding: str = Field("xyz", pattern="^[xyz]+$")
    readout: str = Field("ZX", pattern="^[XYZ]+$")
    reps: int = Field(1, ge=0)
    frozen: bool = False

    @property
    def at_bottleneck(self) -> BottleneckOptions:
        """The circuit behind a grid of one cell a qubit."""
        return BottleneckOptions(
            circuit=named_circuit(
                "hq_unet_qcnn",
                grid=self.grid,
                pair_order=self.pair_order,
                encoding=self.encoding,
                readout=self.readout,
                reps=self.reps,
            ),
            interface="grid",
            grid=(self.grid, self.grid),
            features=len(self.encoding),
            angle_scale=self.angle_scale,
            post_q=self.post_q,
            frozen=self.frozen,
        )


class TwinOptions(_GridOptions):
    """Keys of `hq_unet_twin`.

    Attributes:
        core: What replaces the circuit: `separable` is a recurrent filter with the same inputs, outputs and
            number of weights (8); `identity` hands the inputs on.
    """

    core: Literal["separable", "identity"] = "separable"

    @property
    def at_bottleneck(self) -> BottleneckOptions:
        """The classical core behind the grid."""
        return BottleneckOptions(
            name=self.core,
            interface="grid",
            grid=(self.grid, self.grid),
            features=FEATURES_OF_TWIN,
            angle_scale=self.angle_scale,
            post_q=self.post_q,
        )
