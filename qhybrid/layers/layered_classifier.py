"""Classical stand-in for QCQ-CNN's two-qubit classifier: same inputs and output, as many weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayeredClassifier(nn.Module):
    """v = (x_0, x_1); in each layer v <- tanh(w_l * (v_0 + v_1, v_0 - v_1)); the output is v_0.

    Like the circuit's ansatz it alternates one trained number a wire with a fixed step that mixes the two:
    `reps` + 1 layers of two weights each, and an output between -1 and 1. The very last weight does not reach
    the output; neither does the circuit's last angle, a rotation of the qubit that is not read.
    """

    def __init__(self, reps: int) -> None:
        """Build the classifier; `reps` as in the circuit `qcq_classifier`."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(reps + 1, 2).uniform_(0.5, 1.5))

    def forward(self, values: Tensor) -> Tensor:
        """Map values (B, 2) to (B, 1)."""
        for weights in self.weight:
            total, difference = values.sum(dim=1), values[:, 0] - values[:, 1]
            values = torch.tanh(weights * torch.stack([total, difference], dim=1))
        return values[:, :1]
