"""The Lightning module of scenes: one training step, one validation step, nothing about files."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qhybrid.config import Recipe
from qhybrid.data.augmentation import PatchAugmentation
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.errors import TrainingError
from qhybrid.training.base_module import TrainingModule
from qhybrid.training.losses import CrossEntropyDice
from qhybrid.training.metrics import ConfusionMatrix, SegmentationMetrics
from qhybrid.training.ranks import summed

Batch = dict[str, Tensor]


class SegmentationModule(TrainingModule):
    """Trains any module from patches (B, C, H, W) to logits (B, K, H, W)."""

    remedy = ", or check the images for extreme values"

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        loss: CrossEntropyDice,
        augmentation: PatchAugmentation,
        num_classes: int,
        total_steps: int,
    ) -> None:
        super().__init__(model, recipe, loss, total_steps, augmentation)
        self.patch_augmentation = augmentation
        self.train_matrix = ConfusionMatrix(num_classes)
        self.val_matrix = ConfusionMatrix(num_classes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Augment, predict, and return the loss.

        Raises:
            TrainingError: If the loss or an angle of a circuit is not finite.
        """
        if "tokens" not in batch:
            image, mask = self.augmented(batch["image"], batch["mask"], batch_idx)
            logits = self(image)
        else:
            image, mask, maps = self._augmented_with_maps(batch, batch_idx)
            logits = self(image, maps)
        loss = self.checked_loss(logits, mask)
        self.train_matrix.update(logits.detach(), mask)
        self.log("train_loss", loss, on_step=False, on_epoch=True, prog_bar=True, batch_size=len(image))
        return loss

    def _augmented_with_maps(self, batch: Batch, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what `augmented` does, and the token maps moved alike."""
        with torch.autocast(device_type=self.device.type, enabled=False):
            return self.patch_augmentation.with_maps(
                batch["image"], batch["mask"], batch["tokens"], self.augmentation_seed(step)
            )

    def on_validation_epoch_start(self) -> None:
        """Log the metrics over the (augmented) training patches of the epoch, which validation closes."""
        metrics = _of_all_ranks(self.train_matrix)
        self.log("train_miou", metrics.miou)
        self.train_matrix.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict, and add to the confusion matrix."""
        logits = self(batch["image"], batch.get("tokens"))
        counted = int(summed((batch["mask"] != IGNORE_INDEX).sum()))
        loss = self.loss(logits, batch["mask"])
        if counted:  # of windows without a label there is no loss
            self.log("val_loss", loss, on_epoch=True, batch_size=counted)
        self.val_matrix.update(logits, batch["mask"])

    def on_validation_epoch_end(self) -> None:
        """Log mIoU and overall accuracy from one confusion matrix over the whole validation split.

        Raises:
            TrainingError: If no pixel of it has both data and a label, and the best epoch is to be kept.
        """
        metrics = _of_all_ranks(self.val_matrix)
        if self.recipe.training.keep == "best" and not metrics.pixels:
            raise TrainingError(
                "The validation split must have labels where its images have data, but no pixel has both: no "
                "epoch could be the best one. Fix: see `qhybrid data check`; or keep the last epoch "
                "(`training.keep: last`)."
            )
        self.log("val_miou", metrics.miou, prog_bar=True)
        self.log("val_accuracy", metrics.overall_accuracy, prog_bar=True)
        self.val_matrix.reset()


def _of_all_ranks(matrix: ConfusionMatrix) -> SegmentationMetrics:
    """Return the metrics of what all processes of a training have counted."""
    return SegmentationMetrics(summed(matrix.matrix).cpu().numpy(), matrix.class_names)
