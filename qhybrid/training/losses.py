"""Loss of segmentation: weighted cross-entropy (or focal loss) plus Dice, ignored pixels left out of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qhybrid.config import LossConfig
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.errors import ConfigError


def class_weights(config: LossConfig, pixels_per_class: Sequence[int]) -> Tensor | None:
    """Return the weights of the classes in the cross-entropy, normalised to mean 1 over classes that occur.

    Args:
        config: The loss section.
        pixels_per_class: Counts in the training split.

    Returns:
        Tensor of shape (K,), or None for equal weights. A class that never occurs gets weight 0.

    Raises:
        ConfigError: If the list of weights has another length than there are classes.
    """
    if config.class_weights == "none":
        return None
    counts = torch.tensor(pixels_per_class, dtype=torch.float64)
    if isinstance(config.class_weights, str):
        power = 1.0 if config.class_weights == "balanced" else 0.5
        weights = torch.where(counts > 0, counts.clamp(min=1) ** -power, 0.0)
    else:
        weights = torch.tensor(config.class_weights, dtype=torch.float64)
        if len(weights) != len(counts):
            raise ConfigError(
                f"Key `training.loss.class_weights` must hold {len(counts)} numbers, one a class, but holds "
                f"{len(weights)}."
            )
    return (weights / weights[weights > 0].mean()).float()


Summed = Callable[[Tensor], Tensor]
"""Adds up a sum over a batch over all processes that have a part of it."""


def _alone(value: Tensor) -> Tensor:
    return value


class DiceLoss(nn.Module):
    """One minus the mean soft Dice of the classes that occur in the batch's truth.

    Dice_k = 2 sum p_k t_k / (sum p_k + sum t_k), over all counted pixels of the batch. Classes without a
    pixel of truth are left out: their Dice would be 0 whatever is predicted.
    """

    def __init__(self, summed: Summed = _alone) -> None:
        """Build the loss.

        Args:
            summed: Adds up sums over several processes.
        """
        super().__init__()
        self.summed = summed

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss for logits (B, K, ...) and target (B, ...), as a scalar."""
        counted = target != IGNORE_INDEX
        truth = F.one_hot(target.where(counted, 0), logits.shape[1]).movedim(-1, 1)
        truth = truth * counted.unsqueeze(1)
        probabilities = logits.softmax(dim=1) * counted.unsqueeze(1)
        over = [0, *range(2, logits.ndim)]
        overlap = self.summed((probabilities * truth).sum(over))
        total = self.summed(probabilities.sum(over) + truth.sum(over))
        occurs = self.summed(truth.sum(over)) > 0
        dice = 2 * overlap / total.clamp(min=1e-6)
        return 1 - (dice * occurs).sum() / occurs.sum().clamp(min=1)


class CrossEntropyDice(nn.Module):
    """cross_entropy * CE + dice * Dice; zero, with zero gradient, where every pixel is ignored."""

    weights: Tensor | None

    def __init__(self, config: LossConfig, weights: Tensor | None = None, summed: Summed = _alone) -> None:
        """Build the loss.

        Args:
            config: The loss section.
            weights: Class weights of the cross-entropy, shape (K,).
            summed: Adds up sums over several processes, so that the loss is that of all their samples.
        """
        super().__init__()
        self.config = config
        self.summed = summed
        self.dice = DiceLoss(summed)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss for logits (B, K, ...) and integer target (B, ...), as a scalar."""
        logits = logits.float()
        counted = target != IGNORE_INDEX
        number = self.summed(counted.sum())
        if not bool(number):
            return logits.sum() * 0.0
        loss = logits.new_zeros(())
        if self.config.cross_entropy:
            loss = loss + self.config.cross_entropy * self._cross_entropy(logits, target, counted, number)
        if self.config.dice:
            loss = loss + self.config.dice * self.dice(logits, target)
        return loss

    def _cross_entropy(self, logits: Tensor, target: Tensor, counted: Tensor, number: Tensor) -> Tensor:
        summed = self._focal(logits, target) if self.config.focal_gamma else self._plain(logits, target)
        summed = self.summed(summed)
        if self.weights is None:
            return summed / number
        # A batch may hold only classes of weight 0: a plain weighted mean would then be 0 / 0.
        return summed / self.summed(self.weights[target[counted]].sum()).clamp(min=1e-6)

    def _plain(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(
            logits,
            target,
            weight=self.weights,
            ignore_index=IGNORE_INDEX,
            label_smoothing=self.config.label_smoothing,
            reduction="sum",
        )

    def _focal(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the sum of w (1 - p)^gamma (-log p), p being the probability of the true class."""
        each = F.cross_entropy(logits, target, ignore_index=IGNORE_INDEX, reduction="none")
        # 1 - p as expm1 keeps its digits where p is close to 1; at p = 1 the power's slope may be infinite.
        wrong = -torch.expm1(-each).clamp(max=-torch.finfo(each.dtype).tiny)
        focal = wrong**self.config.focal_gamma * each
        if self.weights is not None:
            focal = focal * self.weights[target.where(target != IGNORE_INDEX, 0)]
        return focal.sum()
