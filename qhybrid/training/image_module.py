"""The Lightning module of whole images: one training step, one validation step, nothing about files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from qhybrid.config import Recipe
from qhybrid.errors import NotFiniteError, TrainingError
from qhybrid.seeding import derive_seed
from qhybrid.training.image_batches import Batch
from qhybrid.training.image_metrics import ImageScores, class_logits
from qhybrid.training.losses import CrossEntropyDice
from qhybrid.training.optimizer import build_optimizer

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
Augmentation = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


class ImageModule(lightning.LightningModule):
    """Trains any module from images (B, C, H, W) to logits (B, K) or (B, K, H, W), K = 1 for two classes.

    Attributes:
        model: The network.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        loss: CrossEntropyDice,
        scores: tuple[ImageScores, ImageScores],
        total_steps: int,
        augmentation: Augmentation | None = None,
        *,
        on_features: bool = False,
    ) -> None:
        """Build the module.

        Args:
            model: The network.
            recipe: The run's recipe.
            loss: The loss.
            scores: Accumulators of training and validation.
            total_steps: Steps of the whole training.
            augmentation: Random changes of training images.
            on_features: Whether batches hold what the model's fixed filter made of the images.
        """
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.loss = loss
        self.train_scores, self.val_scores = scores
        self.total_steps = total_steps
        self.augmentation = augmentation
        self.on_features = on_features
        self._has_dropout = any(isinstance(part, _DROPOUT) and part.p > 0 for part in model.modules())
        if recipe.training.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits of images, or of the features of a fixed filter.

        Raises:
            TrainingError: If training has diverged, so that circuits get angles that are not finite.
        """
        if self.recipe.training.channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        try:
            network: Any = self.model.forward_features if self.on_features else self.model
            logits: Tensor = network(inputs)
        except NotFiniteError as error:
            raise TrainingError(self._diverged("A circuit got angles that are not finite")) from error
        return logits

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Augment, predict, and return the loss.

        Raises:
            TrainingError: If the loss or a weight is not finite.
        """
        inputs, targets = batch
        if self.augmentation is not None:
            seed = derive_seed(self.recipe.seed, "augmentation", self.current_epoch, batch_idx)
            with torch.autocast(device_type=self.device.type, enabled=False):
                inputs, targets = self.augmentation(inputs, targets, seed)
        logits = self._predict_randomly(inputs, batch_idx) if self._has_dropout else self(inputs)
        loss: Tensor = self.loss(class_logits(logits), targets)
        if not bool(torch.isfinite(loss.detach())):
            raise TrainingError(self._diverged(f"The loss is {loss.item()}"))
        self.train_scores.update(logits, targets, loss)
        if self.trainer.is_last_batch:
            self._log("train", self.train_scores)
        return loss

    def _predict_randomly(self, inputs: Tensor, batch_idx: int) -> Tensor:
        """Predict with dropout as a function of (seed, epoch, batch), so that a resumed run repeats it."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(derive_seed(self.recipe.seed, "dropout", self.current_epoch, batch_idx))
            logits: Tensor = self(inputs)
        return logits

    def _diverged(self, what: str) -> str:
        return (
            f"{what} at epoch {self.current_epoch + 1}, step {self.global_step + 1}. Fix: lower "
            "`training.learning_rate` or set `training.gradient_clip`. Complete epochs are kept in the run "
            "folder."
        )

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Predict, and count."""
        inputs, targets = batch
        logits = self(inputs)
        self.val_scores.update(logits, targets, self.loss(class_logits(logits), targets))

    def on_validation_epoch_end(self) -> None:
        """Log loss and metrics over the whole validation split."""
        self._log("val", self.val_scores)

    def _log(self, prefix: str, scores: ImageScores) -> None:
        """Log loss and metrics over all images since the last time, once an epoch: logging is slow."""
        values = {"loss": scores.loss, **scores.compute().headline}
        shown = ("loss",) if prefix == "train" else ("accuracy", "soft_iou")
        for name, value in values.items():
            self.log(
                f"{prefix}_{name}",
                value,
                prog_bar=name in shown,
                on_step=False,
                on_epoch=True,
                batch_size=1,
            )
        scores.reset()

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW (plain Adam where `weight_decay` is 0) and its schedule."""
        optimizer, schedule = build_optimizer(self.model, self.recipe.training, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
