"""Classical stand-in for the HQ-UNet circuit: same inputs, same outputs, same number of trainable numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SeparableFilter(nn.Module):
    """Row pass and column pass of a recurrent filter with 4 + 4 weights, from 3 to 2 features a cell.

    Each cell starts from the x and z components of the Bloch vector that the circuit's encoding RX(f1) RY(f2)
    RZ(f3) would give it, which is a fixed function with no weights. A pass then runs along each line: with u
    the updated cell before it, z_c <- tanh(a z_c + b u_z), x_c <- tanh(c x_c + d u_x). The output has the
    order of the circuit's read-outs: z of all cells, then x of all cells.
    """

    def __init__(self, grid: int = 4) -> None:
        """Build the filter.

        Args:
            grid: Cells along one side.
        """
        super().__init__()
        self.grid = grid
        self.weight = nn.Parameter(torch.empty(8).uniform_(-1, 1))

    def forward(self, angles: Tensor) -> Tensor:
        """Map angles (B, 3 grid^2), cell-major, to values (B, 2 grid^2)."""
        f1, f2, f3 = angles.reshape(-1, self.grid, self.grid, 3).unbind(-1)
        # Bloch vector of RZ(f3) RY(f2) RX(f1) |0>.
        x, y, z = f1.cos() * f2.sin(), -f1.sin(), f1.cos() * f2.cos()
        cells = torch.stack([z, x * f3.cos() - y * f3.sin()])
        cells = _pass_along_lines(cells, self.weight[:4])
        cells = _pass_along_lines(cells.transpose(2, 3), self.weight[4:]).transpose(2, 3)
        return cells.permute(1, 0, 2, 3).flatten(1)


def _pass_along_lines(cells: Tensor, weights: Tensor) -> Tensor:
    """Run the recurrence along the last dimension of cells (2, B, lines, length)."""
    own = weights[0::2].reshape(2, 1, 1)
    before = weights[1::2].reshape(2, 1, 1)
    updated = [cells[..., 0]]
    for position in range(1, cells.shape[-1]):
        updated.append(torch.tanh(own * cells[..., position] + before * updated[-1]))
    return torch.stack(updated, dim=-1)
