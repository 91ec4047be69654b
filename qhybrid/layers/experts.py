"""Bottleneck with several cores side by side as experts, mixed by a router (QMoE of HQF-Net, reconstructed).

    y = x + expand(sum_k p_k(x) sin(gamma_k) E_k(a(x))),     p(x) = softmax(W mean(x) + b)

with angles a(x) as in HQ-UNet (average to cells, 1x1 convolution, tanh) that all experts share, and one gate
angle gamma_k an expert, in radians. With all gate angles zero it is the identity, exactly, whatever the
experts say (as in ReZero, arXiv 2003.04887); they start at 0.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qhybrid.layers.grid_bottleneck import GridBottleneck

GATE_ANGLE = 0.1
"""Initial gate angle in radians: near the identity, but with a gradient for all that stands behind it."""


class Router(nn.Module):
    """Weights of the experts for each image, softmax(W mean(x) + b), or the k largest of them.

    Attributes:
        names: Names of the experts, in the order of the weights.
        top_k: Experts that are mixed for one image; the weights of the others are zero, and those of the
            chosen stay as they are, so that one expert alone (1) has a gradient too. None mixes all.
        balance: Factor of `imbalance` in the loss of a training.
    """

    def __init__(
        self, channels: int, names: tuple[str, ...], top_k: int | None = None, balance: float = 0.0
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, len(names))
        if len(names) < 2:
            self.linear.requires_grad_(False)  # its softmax is 1 whatever the weights are
        self.names, self.top_k, self.balance = names, top_k, balance
        self._probabilities: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        # What is kept for the loss belongs to a graph, which can be neither copied nor saved.
        return {**self.__dict__, "_probabilities": None}

    def forward(self, features: Tensor) -> Tensor:
        """Return weights (B, experts), float32 or float64, of features (B, C, h, w)."""
        logits: Tensor = self.linear(features.mean(dim=(2, 3)))
        probabilities = (logits if logits.dtype == torch.float64 else logits.float()).softmax(dim=1)
        if self.training and torch.is_grad_enabled():
            self._probabilities = probabilities
        return probabilities if self.top_k is None else probabilities * self.chosen(probabilities)

    def chosen(self, probabilities: Tensor) -> Tensor:
        """Return 1 for each expert that is mixed and 0 for the others, shape (B, experts)."""
        count = min(self.top_k or len(self.names), len(self.names))
        return torch.zeros_like(probabilities).scatter(1, probabilities.topk(count, dim=1).indices, 1.0)

    def take(self) -> Tensor | None:
        """Return the probabilities (B, experts) of the last forward pass in training, once."""
        taken, self._probabilities = self._probabilities, None
        return taken

    def load(self, probabilities: Tensor) -> Tensor:
        """Return the part of a batch that each expert gets, shape (experts,), sum 1.

        Its mean probability; with `top_k` the number of images it is chosen for, over that of all choices.
        """
        if self.top_k is None:
            return probabilities.mean(dim=0)
        return self.chosen(probabilities).mean(dim=0) / min(self.top_k, len(self.names))

    def imbalance(self, probabilities: Tensor) -> Tensor:
        """Return K sum_k f_k P_k - 1 of a batch, a scalar: 0 where all K experts get equal parts.

        P_k is the mean probability, f_k the load, which has no gradient with `top_k`: the load-balancing loss
        of Switch Transformers (arXiv 2101.03961, equation 4), less its value for equal parts.
        """
        return len(self.names) * (self.load(probabilities) * probabilities.mean(dim=0)).sum() - 1

    def without(self, name: str) -> Router:
        """Return a router of the other experts, with their weights."""
        kept = [place for place, one in enumerate(self.names) if one != name]
        top_k = None if self.top_k is None else min(self.top_k, len(kept))
        names = tuple(self.names[place] for place in kept)
        router = Router(self.linear.in_features, names, top_k, self.balance)
        with torch.no_grad():
            router.linear.weight.copy_(self.linear.weight[kept])
            router.linear.bias.copy_(self.linear.bias[kept])
        return router


def entropy(probabilities: Tensor) -> Tensor:
    """Return the mean entropy of rows (B, K) over its largest value log K: 1 is undecided, 0 one expert.

    A single expert has entropy 0.
    """
    count = probabilities.shape[1]
    if count < 2:
        return probabilities.new_zeros(())
    each = -(probabilities * probabilities.clamp(min=1e-30).log()).sum(dim=1)
    return each.mean() / math.log(count)


def routers(module: nn.Module) -> Mapping[str, Router]:
    """Return all routers of a module by their dotted names."""
    return {name: child for name, child in module.named_modules() if isinstance(child, Router)}


class ExpertBottleneck(GridBottleneck):
    """A mixture of experts behind the grid interface of HQ-UNet; see the module.

    All experts see the same angles and none sees what another says, so that on hardware they are executed in
    one round. With `top_k` an expert is executed for the images that it is chosen for and for no others,
    whose weight is zero: values and gradients are the same, rounding apart (`all_experts` switches it off).

    Attributes:
        core: The experts by name: maps from (B, cells * cell_features) to (B, core_outputs).
        router: Makes the weights.
        gate_angles: gamma, shape (experts,), radians.
        sparse: Whether experts are left out for images that they are not chosen for.
    """

    sparse: bool = True

    core: nn.ModuleDict

    def __init__(
        self,
        channels: int,
        experts: Mapping[str, nn.Module],
        core_outputs: int,
        *,
        grid: int | tuple[int, int] = 4,
        cell_features: int = 3,
        angle_scale: float = 1.0,
        post_q: Literal["full", "grid"] = "grid",
        map_size: int | tuple[int, int] = 8,
        top_k: int | None = None,
        balance: float = 0.0,
        gate_angle: float = GATE_ANGLE,
    ) -> None:
        """Build the bottleneck; see `GridBottleneck` for the keys of the interface, `Router` for the last.

        Args:
            channels: Channels of the feature map.
            experts: The experts by name.
            core_outputs: Number of values that each returns.
            grid: Rows and columns of cells.
            cell_features: Features of one cell.
            angle_scale: Factor from the tanh output to the input angle in radians.
            post_q: `grid` takes any size, `full` the one it was built for.
            map_size: Height and width of the feature map; used by `full`.
            top_k: Experts that are mixed for one image; None mixes all.
            balance: Factor of the load-balancing term in the loss.
            gate_angle: Initial gate angle, radians.
        """
        super().__init__(
            channels,
            nn.ModuleDict(experts),
            core_outputs,
            grid=grid,
            cell_features=cell_features,
            angle_scale=angle_scale,
            post_q=post_q,
            map_size=map_size,
        )
        # Without a bias nothing is added where all experts say zero.
        self.expand = nn.Linear(core_outputs, self.expand.out_features, bias=False)
        self.router = Router(channels, tuple(experts), top_k, balance)
        self.gate_angles = nn.Parameter(torch.full((len(experts),), gate_angle))

    def forward(self, features: Tensor) -> Tensor:
        """Map features of shape (B, channels, h, w) to the same shape.

        Raises:
            ConfigError: If `post_q` is `full` and h, w differ from the size it was built for.
        """
        self.check_size(features)
        angles = self.angles(features)
        weights = self.router(features)
        if self.sparse and self.router.top_k is not None and self.router.top_k < len(self.core):
            return features + self.feature_map(self._chosen_mixed(angles, weights), features)
        said = torch.stack([expert(angles) for expert in self.core.values()], dim=1)
        weights = weights.to(said.dtype) * self.gate_angles.to(said.dtype).sin()
        mixed = torch.einsum("bk,bkn->bn", weights, said)
        return features + self.feature_map(mixed, features)

    def _chosen_mixed(self, angles: Tensor, weights: Tensor) -> Tensor:
        """Return the mixture (B, core_outputs), each expert executed for the images that have it.

        An expert that no image has gets an empty batch, so that its weights have a gradient of zeros as they
        would have otherwise: without one an optimiser would leave them out of this step.
        """
        mixed: Tensor | None = None
        for number, expert in enumerate(self.core.values()):
            rows = weights[:, number].nonzero()[:, 0]
            said = expert(angles[rows])
            factor = weights[rows, number].to(said.dtype) * self.gate_angles[number].to(said.dtype).sin()
            if mixed is None:
                mixed = said.new_zeros(len(angles), said.shape[1])
            mixed = mixed.index_add(0, rows, factor[:, None] * said)
        assert mixed is not None  # there is an expert at least
        return mixed

    def remove(self, name: str) -> None:
        """Take one expert out; the others and their routing weights stay.

        The feature maps pass unchanged where none is left.
        """
        kept = [place for place, one in enumerate(self.router.names) if one != name]
        del self.core[name]
        self.router = self.router.without(name)
        self.gate_angles = nn.Parameter(self.gate_angles.detach()[kept].clone())


@contextmanager
def all_experts(module: nn.Module) -> Iterator[None]:
    """Have every expert executed for every image while the block runs, with `top_k` too.

    For what records each quantum layer once a sample; the mixture is the same.
    """
    found = [part for part in module.modules() if isinstance(part, ExpertBottleneck)]
    before = [part.sparse for part in found]
    try:
        for part in found:
            part.sparse = False
        yield
    finally:
        for part, sparse in zip(found, before, strict=True):
            part.sparse = sparse
