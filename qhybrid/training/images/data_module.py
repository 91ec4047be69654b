"""The Lightning data module of whole images: all of a split in memory, served in batches of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import lightning
import torch
from torch import Tensor

from qhybrid.config import Recipe
from qhybrid.data.check import stop_at_problems
from qhybrid.data.check_images import check_images
from qhybrid.data.identity import DataIdentity, arrays_identity
from qhybrid.data.images import ImageArrays
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.data.scenes import SPLITS
from qhybrid.errors import DataError
from qhybrid.seeding import torch_generator
from qhybrid.training.images.defaults import evaluation_batch

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


VALUES_A_BLOCK = 2**20


class ImageDataModule(lightning.LightningDataModule):
    """Loads training and validation images of a recipe's data set; nothing is learned from the test split.

    Attributes:
        dataset: The data set.
        train: Training images.
        val: Validation images; None if the data set has none.
        found: What the check of the splits has counted; empty before it.
        first_epoch: Epoch, counted from 0, that training starts or goes on with.
    """

    def __init__(self, recipe: Recipe, data_root: Path) -> None:
        """Load the images.

        Raises:
            DataError: If the data set is missing or damaged, or has no training images.
        """
        super().__init__()
        self.recipe = recipe
        self.first_epoch = 0
        self.dataset = open_image_dataset(recipe.data, data_root)
        self.train = self.dataset.load("train")
        self.val: ImageArrays | None = self.dataset.load("val") if "val" in self.dataset.splits else None
        if not len(self.train) or (self.val is not None and not len(self.val)):
            raise DataError(f"Data set `{self.dataset.name}` must have training and validation images.")
        self.found = check_images(self.dataset, ())

    def check(self, test: bool | None = None) -> None:
        """Look at the test split too before time is spent on training, and for images in several splits.

        Args:
            test: Whether the test split must be usable: True; False, it is not looked at; None, if it is
                there.

        Raises:
            DataError: If a split is not usable, or shares images with another one.
        """
        splits = ("train", "val") if test is False else SPLITS
        loaded = {"train": self.train} | ({"val": self.val} if self.val is not None else {})
        self.found = check_images(self.dataset, splits, loaded=loaded, quick=True)
        stop_at_problems([one for one in self.found.problems if one.severe])
        # Taken here: features of a fixed filter may take the images' place.
        self._learned = {"train": arrays_identity(self.train)}
        if self.val is not None:
            self._learned["val"] = arrays_identity(self.val)

    def identity(self, split: str) -> DataIdentity:
        """Return the identity of a split; see `qhybrid.data.identity`."""
        return self._learned[split] if split in self._learned else arrays_identity(self.dataset.load(split))

    @property
    def num_classes(self) -> int:
        """Classes to tell apart."""
        return len(self.dataset.class_names)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many images and pixels there are, by split."""
        height, width = self.dataset.image_shape[1:]
        splits = {"train": self.train, "val": self.val}
        return {
            name: {"images": len(images), "pixels": len(images) * height * width}
            for name, images in splits.items()
            if images is not None
        }

    @property
    def steps_per_epoch(self) -> int:
        """Training steps in one epoch."""
        return -(-len(self.train) // self.recipe.training.batch_size)

    def replace_images(self, features_of: Callable[[Tensor], Tensor]) -> None:
        """Put what a fixed filter makes of the images in their place, once for all epochs."""
        self.train = ImageArrays(features_of(self.train.images), self.train.targets, self.train.ids)
        if self.val is not None:
            self.val = ImageArrays(features_of(self.val.images), self.val.targets, self.val.ids)

    @property
    def steps_per_block(self) -> int:
        """Training steps that are handed over at once: many of small images, one of large ones.

        An average of the weights is updated by Lightning, once a block: blocks are then single steps.
        """
        if self.recipe.training.weight_average:
            return 1
        values = self.train.images[0].numel() * self.recipe.training.batch_size
        return min(max(1, VALUES_A_BLOCK // values), self.steps_per_epoch)

    def train_dataloader(self) -> TensorBatches:
        """Serve training images in blocks of steps; their order depends on (seed, epoch) alone."""
        order = ShuffledOrder(len(self.train), self.recipe.seed, self.first_epoch)
        images = self.steps_per_block * self.recipe.training.batch_size
        return TensorBatches(self.train.images, self.train.targets, images, order)

    def val_dataloader(self) -> TensorBatches | list[TensorBatches]:
        """Serve validation images in their own order."""
        if self.val is None:
            return []
        batch = evaluation_batch(self.dataset.task, self.recipe.training.batch_size)
        return TensorBatches(self.val.images, self.val.targets, batch)
