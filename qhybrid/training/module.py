"""The Lightning module: one training step, one validation step, nothing about files."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from qhybrid.config import Recipe
from qhybrid.data.augmentation import PatchAugmentation
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.errors import NotFiniteError, TrainingError
from qhybrid.seeding import derive_seed
from qhybrid.training.losses import CrossEntropyDice
from qhybrid.training.metrics import ConfusionMatrix
from qhybrid.training.optimizer import build_optimizer

Batch = dict[str, Tensor]


class SegmentationModule(lightning.LightningModule):
    """Trains any module from images (B, C, H, W) to logits (B, K, H, W).

    Attributes:
        model: The network.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        loss: CrossEntropyDice,
        augmentation: PatchAugmentation,
        num_classes: int,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.loss = loss
        self.augmentation = augmentation
        self.total_steps = total_steps
        self.train_matrix = ConfusionMatrix(num_classes)
        self.val_matrix = ConfusionMatrix(num_classes)
        if recipe.training.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits.

        Raises:
            TrainingError: If training has diverged, so that circuits get angles that are not finite.
        """
        if self.recipe.training.channels_last and image.ndim == 4:
            image = image.contiguous(memory_format=torch.channels_last)
        try:
            logits: Tensor = self.model(image)
        except NotFiniteError as error:
            # Circuits refuse such angles, so that a diverged network shows here before it shows in the loss.
            raise TrainingError(self._diverged("A circuit got angles that are not finite")) from error
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Augment, predict, and return the loss.

        Raises:
            TrainingError: If the loss or a weight is not finite.
        """
        seed = derive_seed(self.recipe.seed, "augmentation", self.current_epoch, batch_idx)
        with torch.autocast(device_type=self.device.type, enabled=False):
            image, mask = self.augmentation(batch["image"], batch["mask"], seed)
        logits = self(image)
        loss: Tensor = self.loss(logits, mask)
        if not bool(torch.isfinite(loss.detach())):
            raise TrainingError(self._diverged(f"The loss is {loss.item()}"))
        self.train_matrix.update(logits.detach(), mask)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(image))
        return loss

    def _diverged(self, what: str) -> str:
        return (
            f"{what} at epoch {self.current_epoch + 1}, step {self.global_step + 1}. Fix: lower "
            "`training.learning_rate`, set "
            "`training.gradient_clip`, or check the images for extreme values. Complete epochs are kept in "
            "the run folder."
        )

    def on_validation_epoch_start(self) -> None:
        """Log the metrics over the (augmented) training patches of the epoch, which validation closes."""
        metrics = self.train_matrix.compute()
        self.log("train_miou", metrics.miou)
        self.train_matrix.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict, and add to the confusion matrix."""
        logits = self(batch["image"])
        counted = int((batch["mask"] != IGNORE_INDEX).sum())
        loss = self.loss(logits, batch["mask"])
        self.log("val_loss", loss, on_epoch=True, batch_size=max(1, counted))
        self.val_matrix.update(logits, batch["mask"])

    def on_validation_epoch_end(self) -> None:
        """Log mIoU and overall accuracy from one confusion matrix over the whole validation split."""
        metrics = self.val_matrix.compute()
        self.log("val_miou", metrics.miou, prog_bar=True)
        self.log("val_accuracy", metrics.overall_accuracy, prog_bar=True)
        self.val_matrix.reset()

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW and its schedule."""
        optimizer, schedule = build_optimizer(self.model, self.recipe.training, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
