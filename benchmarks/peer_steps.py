"""What a step of a peer is: value and gradient of sum(y^2), handed back as arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

Results = list[np.ndarray]
"""Values (B, n_obs), gradient of the inputs (B, n_in), gradient of the weights (n_w,); or values alone."""
Step = Callable[[], Results]


def torch_step(
    run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], inputs: torch.Tensor, weights: torch.Tensor
) -> Step:
    """Return the step of anything that torch differentiates; `run` gives values of shape (B, n_obs)."""
    inputs = inputs.detach().clone().requires_grad_()
    weights = weights.detach().clone().requires_grad_()

    def step() -> Results:
        inputs.grad = weights.grad = None
        values = run(inputs, weights)
        values.square().sum().backward()
        grads = [torch.zeros_like(t) if t.grad is None else t.grad for t in (inputs, weights)]
        return [part.detach().cpu().numpy() for part in (values, *grads)]

    return step
