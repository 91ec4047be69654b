"""The exact engine itself, and HQ-UNet's recurrence by hand, as parties of the comparison."""

from __future__ import annotations

import hq_unet_recurrence
import torch
from peer_families import Family
from peer_steps import Step, torch_step

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import ExactEngine


def exact(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> Step:
    """Return a step of the exact engine in single precision, the method its own choice."""
    engine = ExactEngine(noise=family.profile())
    return torch_step(lambda x, w: engine.expectations(spec, x, w), inputs, weights)


def exact_values(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> Step:
    """Return its values alone, against peers without gradients."""
    engine = ExactEngine(noise=family.profile())

    def step() -> list:
        with torch.no_grad():
            return [engine.expectations(spec, inputs, weights).numpy()]

    return step


def recurrence(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> Step:
    """Return a step of the recurrence of HQ-UNet's own circuit."""
    return torch_step(hq_unet_recurrence.expectations, inputs, weights)
