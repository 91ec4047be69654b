"""What the Lightning modules of scenes and of whole images share: a checked forward pass, loss, optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import lightning
import torch
from torch import Tensor, nn

from qhybrid.config import Recipe
from qhybrid.errors import NotFiniteError, TrainingError
from qhybrid.seeding import derive_seed
from qhybrid.training.losses import CrossEntropyDice
from qhybrid.training.optimizer import build_optimizer
from qhybrid.training.routing import Routing

Augmentation = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""Takes images, targets and a seed, returns changed images and targets."""
_ONE_VALUE = "Expected more than 1 value per channel"
"""How the message of torch begins."""


class TrainingModule(lightning.LightningModule):
    """Trains any module from images to logits; subclasses say what a step is and what is counted.

    Attributes:
        model: The network.
        remedy: What else helps when training diverges.
    """

    remedy: ClassVar[str] = ""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        loss: CrossEntropyDice,
        total_steps: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Build the module.

        Args:
            model: The network.
            recipe: The run's recipe.
            loss: The loss.
            total_steps: Steps of the whole training.
            augmentation: Random changes of training images.
        """
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.loss = loss
        self.total_steps = total_steps
        self.augmentation = augmentation
        self.routing = Routing(model)
        if recipe.training.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def network(self, inputs: Tensor, maps: Tensor | None = None) -> Tensor:
        """Return logits, without checks."""
        logits: Tensor = self.model(inputs) if maps is None else self.model(inputs, maps)
        return logits

    def forward(self, inputs: Tensor, maps: Tensor | None = None) -> Tensor:
        """Return logits of inputs, and of token maps for a model with a frozen ViT.

        Raises:
            TrainingError: If training has diverged, so that circuits get angles that are not finite, or a
                batch is too small for a batch norm.
        """
        if self.recipe.training.channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        try:
            return self.network(inputs) if maps is None else self.network(inputs, maps)
        except NotFiniteError as error:
            # Circuits refuse such angles, so that a diverged network shows here before it shows in the loss.
            raise TrainingError(self._diverged("A circuit got angles that are not finite")) from error
        except ValueError as error:
            if _ONE_VALUE not in str(error):
                raise
            raise TrainingError(
                f"A batch norm must see several values a channel, but a batch of {len(inputs)} image(s) of "
                f"{' x '.join(map(str, inputs.shape[2:]))} leaves one at the deepest level. Fix: a larger "
                "`training.batch_size` (one that leaves no last batch of one image), or larger images or "
                "patches."
            ) from error

    def augmentation_seed(self, step: int) -> int:
        """Return the seed of (seed, epoch, step of the epoch)."""
        return derive_seed(self.recipe.seed, "augmentation", self.current_epoch, step)

    def augmented(self, images: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Return images and targets changed as a function of (seed, epoch, step of the epoch)."""
        if self.augmentation is None:
            return images, targets
        with torch.autocast(device_type=self.device.type, enabled=False):
            return self.augmentation(images, targets, self.augmentation_seed(step))

    def checked_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a training step.

        Raises:
            TrainingError: If it is not finite.
        """
        loss: Tensor = self.loss(logits, targets)
        loss = self.routing.add(loss)
        if not bool(torch.isfinite(loss.detach())):
            raise TrainingError(self._diverged(f"The loss is {loss.item()}"))
        return loss

    def _diverged(self, what: str) -> str:
        return (
            f"{what} at epoch {self.current_epoch + 1}, step {self.global_step + 1}. Fix: lower "
            f"`training.learning_rate` or set `training.gradient_clip`{self.remedy}. Complete epochs are "
            "kept in the run folder."
        )

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW (plain Adam where `weight_decay` is 0) and its schedule."""
        optimizer, schedule = build_optimizer(self.model, self.recipe.training, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
