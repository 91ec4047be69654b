"""Batches of tensors in memory: no worker processes, no copies of single images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from qhybrid.seeding import torch_generator

Batch = tuple[Tensor, Tensor]


class ShuffledOrder:
    """The order of the images in an epoch: a pure function of (seed, epoch).

    Lightning calls `set_epoch` before each epoch; a resumed run gives its first epoch at the start.
    """

    def __init__(self, length: int, seed: int, epoch: int = 0) -> None:
        self.length = length
        self.seed = seed
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass."""
        self.epoch = epoch

    def indices(self) -> Tensor:
        """Return the order of the chosen epoch, shape (length,)."""
        return torch.randperm(self.length, generator=torch_generator(self.seed, "order", self.epoch))


class TensorBatches:
    """Iterates over (inputs, targets) in batches; the last one may be smaller.

    Attributes:
        sampler: The order; None is the order of the tensors. Lightning tells it the epoch.
        batch_sampler: None; Lightning looks for it where there is a `sampler`.
    """

    batch_sampler = None

    def __init__(
        self, inputs: Tensor, targets: Tensor, batch_size: int, sampler: ShuffledOrder | None = None
    ) -> None:
        """Take tensors of shapes (N, ...)."""
        self.inputs = inputs
        self.targets = targets
        self.batch_size = batch_size
        self.sampler = sampler

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        if self.sampler is None:
            for start in range(0, len(self.inputs), self.batch_size):
                part = slice(start, start + self.batch_size)
                yield self.inputs[part], self.targets[part]
            return
        order = self.sampler.indices()
        for start in range(0, len(order), self.batch_size):
            chosen = order[start : start + self.batch_size]
            yield self.inputs[chosen], self.targets[chosen]
