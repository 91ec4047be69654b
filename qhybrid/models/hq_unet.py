"""HQ-UNet (arXiv 2604.27206): a U-Net whose deepest block is a 16-qubit circuit; and its classical twins."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from qhybrid.circuits import build_circuit
from qhybrid.engines.base import Engine
from qhybrid.layers import GridBottleneck, QuantumLayer, SeparableFilter
from qhybrid.models.unet import DOWNSAMPLING, UNet, UNetOptions

FEATURES_OF_TWIN = 3


class _GridOptions(UNetOptions):
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


class TwinOptions(_GridOptions):
    """Keys of `hq_unet_twin`.

    Attributes:
        core: What replaces the circuit: `separable` is a recurrent filter with the same inputs, outputs and
            number of weights (8); `identity` hands the inputs on.
    """

    core: Literal["separable", "identity"] = "separable"


def build_hq_unet(options: HQUNetOptions, engine: Engine | None) -> UNet:
    """Build HQ-UNet on an engine (the exact one if None)."""
    spec = build_circuit(
        "hq_unet_qcnn",
        grid=options.grid,
        pair_order=options.pair_order,
        encoding=options.encoding,
        readout=options.readout,
        reps=options.reps,
    )
    layer = QuantumLayer(spec, engine)
    layer.weight.requires_grad_(not options.frozen)
    return _with_core(options, layer, spec.num_observables, len(options.encoding))


def build_hq_unet_twin(options: TwinOptions) -> UNet:
    """Build HQ-UNet with a classical core in place of the circuit."""
    cells = options.grid**2
    if options.core == "identity":
        return _with_core(options, nn.Identity(), cells * FEATURES_OF_TWIN, FEATURES_OF_TWIN)
    return _with_core(options, SeparableFilter(options.grid), 2 * cells, FEATURES_OF_TWIN)


def _with_core(options: _GridOptions, core: nn.Module, outputs: int, cell_features: int) -> UNet:
    bottleneck = GridBottleneck(
        options.widths[4],
        core,
        outputs,
        grid=options.grid,
        cell_features=cell_features,
        angle_scale=options.angle_scale,
        post_q=options.post_q,
        map_size=options.patch_size // DOWNSAMPLING,
    )
    return UNet(options, bottleneck)
