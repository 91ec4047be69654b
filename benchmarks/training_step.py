"""Seconds of one training step of HQ-UNet and of its classical twins, interleaved in one run.

    python benchmarks/training_step.py [--turns 40] [--widths 24 48 96 192 384] [--precision 32-true]

A step is forward pass, loss, backward pass, gradient clipping and AdamW, on random 128 x 128 patches, batch
16. The models take turns with four steps each, of which the first is not counted (it pays for the memory that
the model before it gave back), so that a machine whose speed drifts slows all of them alike. A model's time
of a turn is the median of its counted steps. Two ratios to the U-Net with its deepest block are printed: the
median of the ratios turn by turn, and the ratio of the medians over all turns; each with its 95 % interval,
for which whole turns are drawn anew (bootstrap), and the first one with its quartiles.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from qhybrid.config import LossConfig, TrainingConfig
from qhybrid.layers import quantum_layers
from qhybrid.models import build_model
from qhybrid.training.losses import CrossEntropyDice
from qhybrid.training.optimizer import build_optimizer

BASELINE = "unet (deepest block)"
MODELS = {
    BASELINE: {"name": "unet"},
    "hq_unet": {"name": "hq_unet"},
    "hq_unet_twin separable": {"name": "hq_unet_twin"},
    "hq_unet_twin identity": {"name": "hq_unet_twin", "core": "identity"},
}
COUNTED = 3
DRAWS = 2000


class Stepper:
    """One model with its optimiser."""

    def __init__(self, config: dict, arguments: argparse.Namespace) -> None:
        torch.manual_seed(0)
        shape = {"in_channels": 3, "num_classes": 5, "patch_size": 128, "widths": arguments.widths}
        self.model = build_model({**config, **shape}).to(memory_format=torch.channels_last)
        self.loss = CrossEntropyDice(LossConfig(), torch.ones(5))
        self.optimizer, _ = build_optimizer(self.model, TrainingConfig(), 1000)
        self.mixed = arguments.precision == "bf16-mixed"

    def step(self, image: torch.Tensor, mask: torch.Tensor) -> float:
        """Return the seconds of one training step."""
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.mixed):
            logits = self.model(image)
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(logits, mask).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return time.perf_counter() - start


def median_ratio(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return the median of the ratios turn by turn, over the last axis."""
    return np.median(ours / theirs, axis=-1)


def ratio_of_medians(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return the ratio of the medians over all turns, over the last axis."""
    return np.median(ours, axis=-1) / np.median(theirs, axis=-1)


def with_interval(
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], ours: np.ndarray, theirs: np.ndarray
) -> str:
    """Return a statistic with its 95 % bootstrap interval over turns, as text."""
    draws = np.random.default_rng(0).integers(len(ours), size=(DRAWS, len(ours)))
    low, high = np.quantile(statistic(ours[draws], theirs[draws]), [0.025, 0.975])
    return f"{statistic(ours, theirs):.3f} [{low:.3f}, {high:.3f}]"


def measure(steppers: dict[str, Stepper], batch: int, turns: int) -> dict[str, np.ndarray]:
    """Return each model's seconds a step, turn by turn; each turn has a random order of models."""
    image = torch.randn(batch, 3, 128, 128).contiguous(memory_format=torch.channels_last)
    mask = torch.randint(0, 5, (batch, 128, 128))
    times: dict[str, list[float]] = {name: [] for name in steppers}
    orders = np.random.default_rng(0)
    for turn in range(turns + 1):
        for name in orders.permutation(list(steppers)).tolist():
            seconds = [steppers[name].step(image, mask) for _ in range(1 + COUNTED)][1:]
            if turn:
                times[name].append(statistics.median(seconds))
    return {name: np.array(seconds) for name, seconds in times.items()}


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--widths", type=int, nargs=5, default=[24, 48, 96, 192, 384])
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="besides the U-Net")
    arguments = parser.parse_args()
    chosen = [name for name in MODELS if name == BASELINE or name in arguments.models]
    steppers = {name: Stepper(MODELS[name], arguments) for name in chosen}
    times = measure(steppers, arguments.batch, arguments.turns)
    print(
        f"batch {arguments.batch}, 128 x 128, widths {arguments.widths}, {arguments.precision}, "
        f"{torch.get_num_threads()} threads, {arguments.turns} turns"
    )
    print(
        f"{'model':24s} {'median s':>8s}   {'median of ratios':22s}   {'its quartiles':14s}   "
        f"{'ratio of medians':22s}   parameters (in circuits)"
    )
    for name, seconds in times.items():
        low, high = np.quantile(seconds / times[BASELINE], [0.25, 0.75])
        parameters = sum(parameter.numel() for parameter in steppers[name].model.parameters())
        angles = sum(layer.weight.numel() for layer in quantum_layers(steppers[name].model).values())
        print(
            f"{name:24s} {np.median(seconds):8.4f}   "
            f"{with_interval(median_ratio, seconds, times[BASELINE]):22s}   {low:.3f} to {high:.3f}   "
            f"{with_interval(ratio_of_medians, seconds, times[BASELINE]):22s}   {parameters:,d} ({angles})"
        )


if __name__ == "__main__":
    main()
