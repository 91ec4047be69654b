"""Classical stand-in for a QuFeX filter: same inputs, outputs, pairs and number of trainable numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qhybrid.circuits.qufex import NUM_ANGLES, first_sweep_pairs, second_sweep_pairs


class PairwiseFilter(nn.Module):
    """v_q = cos(pi x_q), then v_second <- tanh(a v_first + b v_second) over the pairs of U1 and of U2.

    cos(pi x_q) is what either QuFeX filter would read right after its encoding. U1 and U2 have two weights
    each, shared by their pairs, so there are four, as the circuit has angles.
    """

    def __init__(self, size: int) -> None:
        """Build the filter.

        Args:
            size: Values of a row, one a qubit of the circuit it stands for; at least 4.
        """
        super().__init__()
        self.weight = nn.Parameter(torch.empty(NUM_ANGLES).uniform_(-1, 1))
        sweeps = [
            (step, pairs)
            for step, both in enumerate((first_sweep_pairs(size), second_sweep_pairs(size)))
            for pairs in both
            if pairs
        ]
        self._steps = [step for step, _ in sweeps]
        for number, (_, pairs) in enumerate(sweeps):
            self.register_buffer(f"pairs_{number}", torch.tensor(pairs).t(), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows (N, size) to the same shape."""
        values = torch.cos(torch.pi * rows)
        for number, step in enumerate(self._steps):
            first, second = self.get_buffer(f"pairs_{number}")
            other, own = self.weight[2 * step], self.weight[2 * step + 1]
            updated = torch.tanh(other * values[:, first] + own * values[:, second])
            values = values.index_copy(1, second, updated)
        return values
