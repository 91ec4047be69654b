"""The Lightning module of whole images: blocks of training steps, one validation step, nothing about files.

A step on small images takes a millisecond or two, and Lightning's own work around a step takes as long. So
what Lightning hands over as one batch is a block of many, and the module takes the steps in it by itself.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from qhybrid.config import Recipe
from qhybrid.seeding import derive_seed
from qhybrid.training.base_module import Augmentation, TrainingModule
from qhybrid.training.images.data_module import Batch
from qhybrid.training.images.metrics import ImageScores, class_logits
from qhybrid.training.losses import CrossEntropyDice

_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)


class ImageModule(TrainingModule):
    """Trains any module from images (B, C, H, W) to logits (B, K) or (B, K, H, W), K = 1 for two classes."""

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
        super().__init__(model, recipe, loss, total_steps, augmentation)
        self.automatic_optimization = False
        self.train_scores, self.val_scores = scores
        self.on_features = on_features
        self._step = 0
        self._has_dropout = any(isinstance(part, _DROPOUT) and part.p > 0 for part in model.modules())

    def network(self, inputs: Tensor, maps: Tensor | None = None) -> Tensor:
        """Return logits of images, or of the features of a fixed filter."""
        network: Any = self.model.forward_features if self.on_features else self.model
        logits: Tensor = network(inputs)
        return logits

    def on_train_epoch_start(self) -> None:
        """Count the steps of the epoch from 0: they are part of the seeds."""
        self._step = 0

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Take the steps of a block.

        Args:
            batch: Inputs and targets of one or more steps, `training.batch_size` each.
            batch_idx: Number of the block in the epoch.

        Raises:
            TrainingError: If the loss or an angle of a circuit is not finite.
        """
        optimizer = cast("LightningOptimizer", self.optimizers())
        schedule = cast("LRScheduler", self.lr_schedulers())
        inputs, targets = (torch.split(part, self.recipe.training.batch_size) for part in batch)
        for step in zip(inputs, targets, strict=True):
            self.take_step(step, self._step, optimizer, schedule)
            self._step += 1
        if self.trainer.is_last_batch:
            self._log("train", self.train_scores)

    def take_step(
        self, batch: Batch, step: int, optimizer: LightningOptimizer, schedule: LRScheduler
    ) -> None:
        """Augment, predict, and change the weights."""
        inputs, targets = self.augmented(*batch, step)
        logits = self._predict_randomly(inputs, step) if self._has_dropout else self(inputs)
        loss = self.checked_loss(class_logits(logits), targets)
        self.train_scores.update(logits, targets, loss)
        optimizer.zero_grad()
        # Lightning has autocast on around all of `training_step`; gradients are not to be rounded further.
        with torch.autocast(device_type=self.device.type, enabled=False):
            self.manual_backward(loss)
            optimizer.step()
        schedule.step()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradients."""
        if self.recipe.training.gradient_clip:
            self.clip_gradients(optimizer, self.recipe.training.gradient_clip, "norm")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the number of steps from states that were written when Lightning took the steps."""
        loops = checkpoint["loops"]["fit_loop"]
        before = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
        steps = loops["epoch_loop.manual_optimization.optim_step_progress"]
        if not steps["total"]["completed"]:
            steps.update(before)

    def _predict_randomly(self, inputs: Tensor, step: int) -> Tensor:
        """Predict with dropout as a function of (seed, epoch, step), so that a resumed run repeats it."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(derive_seed(self.recipe.seed, "dropout", self.current_epoch, step))
            logits: Tensor = self(inputs)
        return logits

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
