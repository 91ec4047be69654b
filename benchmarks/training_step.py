"""Seconds of one training step of HQ-UNet and of its classical twins, interleaved in one run.

    python benchmarks/training_step.py [--turns 12] [--widths 24 48 96 192 384] [--precision 32-true]

A step is forward pass, loss, backward pass, gradient clipping and AdamW, on random 128 x 128 patches, batch
16. The models take turns with four steps each, of which the first is not counted (it pays for the memory that
the model before it gave back), so that a machine whose speed drifts slows all of them alike. The table gives
medians, and the ratio is the median of the ratios, turn by turn, to the U-Net with its deepest block.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from qhybrid.config import LossConfig, TrainingConfig
from qhybrid.layers import quantum_layers
from qhybrid.models import build_model
from qhybrid.training.losses import CrossEntropyDice
from qhybrid.training.optimizer import build_optimizer

MODELS = {
    "unet (deepest block)": {"name": "unet"},
    "hq_unet": {"name": "hq_unet"},
    "hq_unet_twin separable": {"name": "hq_unet_twin"},
    "hq_unet_twin identity": {"name": "hq_unet_twin", "core": "identity"},
}


COUNTED = 3


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


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--widths", type=int, nargs=5, default=[24, 48, 96, 192, 384])
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    arguments = parser.parse_args()
    steppers = {name: Stepper(config, arguments) for name, config in MODELS.items()}
    image = torch.randn(arguments.batch, 3, 128, 128).contiguous(memory_format=torch.channels_last)
    mask = torch.randint(0, 5, (arguments.batch, 128, 128))
    times: dict[str, list[float]] = {name: [] for name in steppers}
    for round_number in range(arguments.turns + 1):
        names = list(steppers)
        first = round_number % len(names)
        for name in names[first:] + names[:first]:
            seconds = [steppers[name].step(image, mask) for _ in range(1 + COUNTED)][1:]
            if round_number:
                times[name].append(statistics.median(seconds))
    baseline = times["unet (deepest block)"]
    print(
        f"batch {arguments.batch}, 128 x 128, widths {arguments.widths}, {arguments.precision}, "
        f"{torch.get_num_threads()} threads, median of {arguments.turns} turns"
    )
    for name, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(seconds, baseline))
        parameters = sum(parameter.numel() for parameter in steppers[name].model.parameters())
        angles = sum(layer.weight.numel() for layer in quantum_layers(steppers[name].model).values())
        print(
            f"{name:24s} {statistics.median(seconds):8.4f} s   ratio to unet {ratio:6.3f}   "
            f"{parameters:9,d} parameters, {angles} in circuits"
        )


if __name__ == "__main__":
    main()
