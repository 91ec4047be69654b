"""How training uses the experts of a mixture: a term of the loss, and columns of metrics.csv."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qhybrid.layers.experts import entropy, routers
from qhybrid.training.ranks import gathered

ENTROPY, LOAD = "router_entropy", "router_load"
"""Columns are `router_entropy ROUTER` and `router_load ROUTER EXPERT`."""


def routing_columns(model: nn.Module) -> tuple[str, ...]:
    """Return the columns of a model's routers; nothing for a model without any."""
    found: list[str] = []
    for name, router in routers(model).items():
        found += [f"{ENTROPY} {name}", *(f"{LOAD} {name} {expert}" for expert in router.names)]
    return tuple(found)


class Routing:
    """Adds load balancing to the loss, and keeps means over the steps of an epoch of what the routers do.

    Entropy is that of one image's probabilities over its largest value log K: 1 is undecided, 0 one expert.
    Load is the part of the images that an expert gets; the loads of a router have the sum 1.
    """

    def __init__(self, model: nn.Module) -> None:
        self._routers = routers(model)
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, loss: Tensor) -> Tensor:
        """Return the loss of a training step with the terms of all routers that have just been used."""
        self._steps += bool(self._routers)
        for name, router in self._routers.items():
            probabilities = router.take()
            if probabilities is None:
                continue
            probabilities = gathered(probabilities)
            if router.balance:
                loss = loss + router.balance * router.imbalance(probabilities).to(loss.dtype)
            with torch.no_grad():
                self._count(f"{ENTROPY} {name}", entropy(probabilities))
                for expert, load in zip(router.names, router.load(probabilities), strict=True):
                    self._count(f"{LOAD} {name} {expert}", load)
        return loss

    def _count(self, column: str, value: Tensor) -> None:
        value = value.detach().double()
        self._sums[column] = self._sums[column] + value if column in self._sums else value

    def row(self) -> dict[str, float]:
        """Return the columns of the epoch that ends, and begin the next one."""
        means = {column: float(total / self._steps) for column, total in self._sums.items()}
        self._sums, self._steps = {}, 0
        return means
