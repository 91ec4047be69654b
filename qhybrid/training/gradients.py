"""How much of the gradient reaches the circuits: columns of metrics.csv, one pair a quantum layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from qhybrid.layers import quantum_layers
from qhybrid.training.ranks import place, summed
from qhybrid.training.run_folder import GRADIENT_INPUTS, GRADIENT_WEIGHTS


def gradient_columns(model: nn.Module) -> tuple[str, ...]:
    """Return the columns of a model's quantum layers; nothing for a model without any."""
    kinds = (GRADIENT_WEIGHTS, GRADIENT_INPUTS)
    return tuple(f"{kind} {name}" for name in quantum_layers(model) for kind in kinds)


class GradientNorms(Callback):
    """Norms of the gradient that reaches each circuit's angles, root mean squares over an epoch's steps.

    They are those before clipping. The inputs' norm is over all angles of a step's batch together. A circuit
    without trained weights has no norm of weights, and one whose features come from the cache, or whose
    images are its angles, none of inputs.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._inputs: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Watch what comes back to the layers' inputs."""
        self._handles = [
            layer.register_forward_pre_hook(self._watching(name))
            for name, layer in quantum_layers(pl_module.model).items()
        ]

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the layers alone again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Leave the layers alone again."""
        self.on_train_end(trainer, pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin the sums of an epoch."""
        self._sums, self._inputs, self._steps = {}, {}, 0

    def _watching(self, name: str) -> Callable[[nn.Module, Any], None]:
        def note(gradient: Tensor) -> None:
            norm = gradient.detach().double().square().sum()
            self._inputs[name] = self._inputs[name] + norm if name in self._inputs else norm

        def watch(_: nn.Module, arguments: Any) -> None:
            given = arguments[0] if arguments else None
            if isinstance(given, Tensor) and given.requires_grad and torch.is_grad_enabled():
                given.register_hook(note)  # type: ignore[no-untyped-call]

        return watch

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: Optimizer
    ) -> None:
        """Add a step."""
        self._steps += 1
        scaler = getattr(
            trainer.precision_plugin, "scaler", None
        )  # weights are unscaled by now, inputs are not
        scale = float(scaler.get_scale()) if scaler is not None else 1.0
        for name, layer in quantum_layers(pl_module.model).items():
            if layer.weight.grad is not None:
                self._add(f"{GRADIENT_WEIGHTS} {name}", layer.weight.grad.detach().double().square().sum())
        for name, norm in self._inputs.items():
            # Each rank has W times the gradient of its own samples; see `qhybrid.training.ranks`.
            self._add(f"{GRADIENT_INPUTS} {name}", summed(norm) / (scale * place().world) ** 2)
        self._inputs = {}

    def _add(self, column: str, value: Tensor) -> None:
        self._sums[column] = self._sums[column] + value if column in self._sums else value

    def row(self) -> dict[str, float]:
        """Return the columns of the epoch so far."""
        return {column: float((total / self._steps).sqrt()) for column, total in self._sums.items()}
