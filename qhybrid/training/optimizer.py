"""AdamW with weight decay where it belongs, and the learning rate over the steps."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from qhybrid.config import TrainingConfig
from qhybrid.layers import LayeredClassifier, quantum_layers
from qhybrid.layers.controls import FourierFeatures, HashedLayer, SmallMLP
from qhybrid.layers.mean_field import MeanField
from qhybrid.models import PretrainedEncoder

STAND_INS = (LayeredClassifier, FourierFeatures, HashedLayer, SmallMLP)
"""Classical stand-ins of a circuit whose weights may be matrices."""


def parameter_groups(model: nn.Module, config: TrainingConfig) -> list[dict[str, object]]:
    """Split parameters into decayed (matrices, kernels), not decayed (norms, biases), and circuit angles.

    Circuit angles are not decayed: zero is no special angle. They may have a learning rate of their own, and
    so have those of its mean-field twin, which are the same angles. Neither are the weights of a circuit's
    classical stand-in. Frozen parameters are left out. A pretrained encoder that is trained has its own rate.
    """
    angles = {id(layer.weight) for layer in quantum_layers(model).values()}
    angles |= {id(part.weight) for part in model.modules() if isinstance(part, MeanField)}
    stand_ins = {
        id(one) for part in model.modules() if isinstance(part, STAND_INS) for one in part.parameters()
    }
    encoders = [part for part in model.modules() if isinstance(part, PretrainedEncoder)]
    slow = {id(one) for part in encoders for one in part.slow_parameters()}
    decayed, plain, quantum = [], [], []
    for parameter in model.parameters():
        if not parameter.requires_grad or id(parameter) in slow:
            continue
        if id(parameter) in angles:
            quantum.append(parameter)
        elif parameter.ndim > 1 and id(parameter) not in stand_ins:
            decayed.append(parameter)
        else:
            plain.append(parameter)
    quantum_rate = config.quantum_learning_rate or config.learning_rate
    groups: list[dict[str, object]] = [
        {"params": decayed, "lr": config.learning_rate, "weight_decay": config.weight_decay},
        {"params": plain, "lr": config.learning_rate, "weight_decay": 0.0},
        {"params": quantum, "lr": quantum_rate, "weight_decay": 0.0},
    ]
    for encoder in encoders:
        rate = config.learning_rate * encoder.options.learning_rate_factor
        pretrained = encoder.slow_parameters()
        matrices = [parameter for parameter in pretrained if parameter.ndim > 1]
        rest = [parameter for parameter in pretrained if parameter.ndim <= 1]
        groups.append({"params": matrices, "lr": rate, "weight_decay": config.weight_decay})
        groups.append({"params": rest, "lr": rate, "weight_decay": 0.0})
    return [group for group in groups if group["params"]]


def learning_rate_factor(step: int, total_steps: int, config: TrainingConfig) -> float:
    """Return the factor on the peak rate at a step: linear warm-up, then constant or half a cosine to 0."""
    warmup = config.warmup * total_steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return 1.0
    progress = (step - warmup) / max(1.0, total_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def build_optimizer(
    model: nn.Module, config: TrainingConfig, total_steps: int
) -> tuple[torch.optim.AdamW, LambdaLR]:
    """Return AdamW and its per-step schedule.

    `foreach` is faster than a loop over the parameters and gives the same weights; `fused` rounds otherwise.
    """
    optimizer = torch.optim.AdamW(parameter_groups(model, config), foreach=True)
    return optimizer, LambdaLR(optimizer, lambda step: learning_rate_factor(step, total_steps, config))
