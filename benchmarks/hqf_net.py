"""Processor time of one training step of HQF-Net and of its parts beside HQ-UNet, interleaved in one run.

    python benchmarks/hqf_net.py [--turns 10] [--widths 32 48 64 128 192] [--batch 16]

A step is forward pass, loss, backward pass, gradient clipping and AdamW on random 128 x 128 patches. Token
maps are given, as from the cache: 2 layers of 384 channels, as of ViT-S/14. The models take turns; a model's
time is the least processor time of its steps. Other work on the machine makes that longer too, by caches and
clock rates that are shared, but all models alike: judge by the ratios. Goal: HQF-Net at most 1.5 times
HQ-UNet.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from qhybrid.config import LossConfig, TrainingConfig
from qhybrid.models import build_model
from qhybrid.training.losses import CrossEntropyDice
from qhybrid.training.optimizer import build_optimizer
from qhybrid.training.routing import Routing

GOAL = 1.5
PITCH = 14 * 512 / 518
"""Pixels from token to token of a tile of 512 pixels."""
VIT = {
    "backbone": "random",
    # The blocks are never run here: two are enough, and quick to make.
    "config": {
        "model_type": "dinov2",
        "hidden_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "image_size": 518,
        "patch_size": 14,
    },
    "layers": [0, 1],
}
MODELS = {
    "hq_unet": {"name": "hq_unet"},
    "hqf_net": {"name": "hqf_net", "guidance": VIT},
    "hqf_net, top_k 1": {"name": "hqf_net", "qmoe": {"top_k": 1}, "guidance": VIT},
    "hqf_net, concatenation": {"name": "hqf_net", "guidance": {**VIT, "fusion": "concat"}},
    "hqf_net without ViT": {"name": "hqf_net"},
    "hqf_net without ViT, QSkip": {"name": "hqf_net", "qskip": "none"},
    "hqf_net without ViT, QMoE": {"name": "hqf_net", "qmoe": "none"},
    "unet, identity": {"name": "unet", "bottleneck": "identity"},
}


class Stepper:
    """One model with its optimiser."""

    def __init__(self, config: dict, widths: list[int], half: bool) -> None:
        torch.manual_seed(0)
        shape = {"in_channels": 3, "num_classes": 5, "patch_size": 128, "widths": widths}
        self.model = build_model({**config, **shape}).to(memory_format=torch.channels_last)
        self.guided, self.half = "guidance" in config, half
        self.routing = Routing(self.model)
        self.loss = CrossEntropyDice(LossConfig(), torch.ones(5))
        self.optimizer, _ = build_optimizer(self.model, TrainingConfig(), 1000)

    def step(self, image: torch.Tensor, mask: torch.Tensor, maps: torch.Tensor) -> float:
        """Return the processor seconds of one training step."""
        start = time.process_time()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            logits = self.model(image, maps) if self.guided else self.model(image)
            loss = self.loss(logits, mask)
        self.routing.add(loss).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return time.process_time() - start


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--widths", type=int, nargs=5, default=[32, 48, 64, 128, 192])
    parser.add_argument("--bf16", action="store_true", help="as with `precision: bf16` of a recipe")
    parser.add_argument("--only", nargs="+", choices=MODELS, help="these models, and HQ-UNet")
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chosen = {name: config for name, config in MODELS.items() if name in (arguments.only or MODELS)}
    chosen = {"hq_unet": MODELS["hq_unet"], **chosen}
    steppers = {name: Stepper(one, arguments.widths, arguments.bf16) for name, one in chosen.items()}
    image = torch.randn(arguments.batch, 3, 128, 128).contiguous(memory_format=torch.channels_last)
    mask = torch.randint(0, 5, (arguments.batch, 128, 128))
    tokens = round(128 / PITCH + 0.5)
    maps = torch.randn(arguments.batch, 2, 384, tokens, tokens).half()
    times: dict[str, list[float]] = {name: [] for name in steppers}
    for turn in range(arguments.turns + 1):
        for name, stepper in steppers.items():
            seconds = stepper.step(image, mask, maps)
            if turn:  # the first step compiles and allocates
                times[name].append(seconds)
    least = {name: min(found) for name, found in times.items()}
    print(
        f"batch {arguments.batch}, 128 x 128, widths {arguments.widths}, one thread, {arguments.turns} turns"
        f"{', bf16' if arguments.bf16 else ''}"
    )
    rows = {}
    for name, seconds in least.items():
        parameters = sum(one.numel() for one in steppers[name].model.parameters())
        rows[name] = {"seconds": seconds, "ratio": seconds / least["hq_unet"], "parameters": parameters}
        print(f"{name:28s} {seconds:8.4f} s   {rows[name]['ratio']:.3f}   {parameters:,d} parameters")
    if "hqf_net" in rows:
        ratio = rows["hqf_net"]["ratio"]
        print(f"goal {GOAL}: {'met' if ratio <= GOAL else 'missed'} ({ratio:.3f})")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
