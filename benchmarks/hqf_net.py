"""Processor time of one training step of HQF-Net beside HQ-UNet at the same widths, interleaved in one run.

    python benchmarks/hqf_net.py [--turns 10] [--widths 32 48 64 128 192] [--batch 16]

A step is forward pass, loss, backward pass, gradient clipping and AdamW on random 128 x 128 patches. The
models take turns; a model's time is the least processor time of its steps, so that other work on the machine
does not count. Goal: HQF-Net at most 1.5 times HQ-UNet. There is no ViT guidance in it.
"""

from __future__ import annotations

import argparse
import time

import torch

from qhybrid.config import LossConfig, TrainingConfig
from qhybrid.models import build_model
from qhybrid.training.losses import CrossEntropyDice
from qhybrid.training.optimizer import build_optimizer
from qhybrid.training.routing import Routing

GOAL = 1.5
MODELS = {
    "hq_unet": {"name": "hq_unet"},
    "hqf_net": {"name": "hqf_net"},
    "hqf_net without QSkip": {"name": "hqf_net", "qskip": "none"},
    "hqf_net without QMoE": {"name": "hqf_net", "qmoe": "none"},
    "skeleton (unet, identity)": {"name": "unet", "bottleneck": "identity"},
}


class Stepper:
    """One model with its optimiser."""

    def __init__(self, config: dict, widths: list[int]) -> None:
        torch.manual_seed(0)
        shape = {"in_channels": 3, "num_classes": 5, "patch_size": 128, "widths": widths}
        self.model = build_model({**config, **shape}).to(memory_format=torch.channels_last)
        self.routing = Routing(self.model)
        self.loss = CrossEntropyDice(LossConfig(), torch.ones(5))
        self.optimizer, _ = build_optimizer(self.model, TrainingConfig(), 1000)

    def step(self, image: torch.Tensor, mask: torch.Tensor) -> float:
        """Return the processor seconds of one training step."""
        start = time.process_time()
        self.optimizer.zero_grad(set_to_none=True)
        self.routing.add(self.loss(self.model(image), mask)).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return time.process_time() - start


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--widths", type=int, nargs=5, default=[32, 48, 64, 128, 192])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    steppers = {name: Stepper(config, arguments.widths) for name, config in MODELS.items()}
    image = torch.randn(arguments.batch, 3, 128, 128).contiguous(memory_format=torch.channels_last)
    mask = torch.randint(0, 5, (arguments.batch, 128, 128))
    times: dict[str, list[float]] = {name: [] for name in steppers}
    for turn in range(arguments.turns + 1):
        for name, stepper in steppers.items():
            seconds = stepper.step(image, mask)
            if turn:  # the first step compiles and allocates
                times[name].append(seconds)
    least = {name: min(found) for name, found in times.items()}
    print(
        f"batch {arguments.batch}, 128 x 128, widths {arguments.widths}, one thread, {arguments.turns} turns"
    )
    for name, seconds in least.items():
        parameters = sum(parameter.numel() for parameter in steppers[name].model.parameters())
        print(f"{name:28s} {seconds:8.4f} s   {seconds / least['hq_unet']:.3f}   {parameters:,d} parameters")
    ratio = least["hqf_net"] / least["hq_unet"]
    print(f"goal {GOAL}: {'met' if ratio <= GOAL else 'missed'} ({ratio:.3f})")


if __name__ == "__main__":
    main()
