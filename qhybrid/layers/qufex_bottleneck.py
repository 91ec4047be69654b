"""The bottleneck of Qu-Net (arXiv 2501.13165): circuits on patches through several feature maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import ConfigError
from qhybrid.layers.patches import PatchLayout
from qhybrid.layers.quantum_layer import QuantumLayer


class QuFeXBottleneck(nn.Module):
    """y = concat_f (x + Q_f(x)), with each filter Q_f acting patch by patch.

    Channels are split into groups of `maps`, each group into patches of `patch` pixels, each patch is
    flattened (row, column, channel fastest) to one row of values, and a filter's outputs are put back where
    its inputs came from. All patches of a batch go through a filter in one call.

    Attributes:
        layout: How patches are cut.
        filters: Maps from (N, n) to (N, n), n = layout.size: circuits, or classical stand-ins.
        size_multiple: What height and width of the feature map are multiples of.
    """

    def __init__(self, filters: Sequence[nn.Module], patch: tuple[int, int], maps: int = 1) -> None:
        """Build the bottleneck.

        Args:
            filters: One or more maps from (N, patch[0] * patch[1] * maps) to the same shape.
            patch: Height and width of a patch in pixels of the feature map.
            maps: Channels that are mixed in one patch.

        Raises:
            ConfigError: If a patch is empty, or a circuit has another number of inputs or outputs than it
                has values.
        """
        super().__init__()
        self.layout = PatchLayout(patch[0], patch[1], maps)
        self.filters = nn.ModuleList(filters)
        self.size_multiple = (patch[0], patch[1])
        for core in filters:
            if isinstance(core, QuantumLayer):
                _check_fits(core.spec, self.layout.size)

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, C, h, w) to (B, C * number of filters, h, w).

        Raises:
            ConfigError: If patches do not tile the features.
        """
        rows = self.layout.rows(features)
        rows = rows if rows.dtype in (torch.float32, torch.float64) else rows.float()
        results = [
            features + self.layout.stitch(core(rows), features.shape).to(features.dtype)
            for core in self.filters
        ]
        return torch.cat(results, dim=1)


def _check_fits(spec: CircuitSpec, values: int) -> None:
    if spec.num_inputs != values or spec.num_observables != values:
        raise ConfigError(
            f"Circuit `{spec.name}` must have one input and one observable for each of the {values} "
            f"values of a patch, but has {spec.num_inputs} and {spec.num_observables}."
        )
