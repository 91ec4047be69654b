"""The Lightning data module: training patches and validation windows of one data set."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
from torch.utils.data import DataLoader, Sampler

from qhybrid.config import Recipe
from qhybrid.data.patches import GridPatches, RandomPatches
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import SceneDataset
from qhybrid.data.splits import find_leaks
from qhybrid.data.statistics import BandStatistics, compute_statistics
from qhybrid.errors import DataError


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index): the index carries the epoch, so that workers which live over epochs agree.

    Lightning calls `set_epoch` before each epoch, but loader workers start on the first epoch before the
    first call; so a resumed run gives its first epoch at the start.
    """

    def __init__(self, length: int, epoch: int) -> None:
        self.length = length
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, index) for index in range(self.length)])


class SceneDataModule(lightning.LightningDataModule):
    """Opens the data set of a recipe and serves its patches.

    Attributes:
        classes: The label map.
        statistics: Per-band statistics of the training split.
        bands: 1-based band numbers that are read.
        first_epoch: Epoch, counted from 0, that training starts or goes on with.
    """

    def __init__(self, recipe: Recipe, data_root: Path, statistics: BandStatistics | None = None) -> None:
        """Open the data set.

        Args:
            recipe: The run's recipe.
            data_root: Folder that `data.root` is relative to.
            statistics: Known statistics (of the run that is resumed); computed if absent.

        Raises:
            DataError: If the data set is missing, or the training or the validation split is empty.
        """
        super().__init__()
        self.recipe = recipe
        self.first_epoch = 0
        self.dataset = open_dataset(recipe.data, data_root)
        self.classes = self.dataset.classes
        for split in ("train", "val"):
            if not self.dataset.scenes(split):
                raise DataError(f"Data set `{recipe.data.dataset}` has no scenes in split `{split}`.")
        _warn_of_leaks(self.dataset)
        self.statistics = statistics or compute_statistics(
            self.dataset.scenes("train"), recipe.data.bands, self.classes, recipe.data.nodata
        )
        self.bands = self.statistics.bands

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many scenes there are, by split, and pixels with data in those of training."""
        trained = {"scenes": len(self.dataset.scenes("train")), "pixels": self.statistics.pixels}
        return {"train": trained, "val": {"scenes": len(self.dataset.scenes("val"))}}

    def train_dataloader(self) -> DataLoader[Any]:
        """Serve random patches; what a patch is depends on (seed, epoch, index) alone, not on workers."""
        patches = RandomPatches(
            self.dataset.scenes("train"), self.classes, self.statistics, self.recipe.data, self.recipe.seed
        )
        full_batches = len(patches) >= self.recipe.training.batch_size
        return self._loader(
            patches, sampler=EpochSampler(len(patches), self.first_epoch), drop_last=full_batches
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Serve windows that cover every validation scene once."""
        windows = GridPatches(self.dataset.scenes("val"), self.classes, self.statistics, self.recipe.data)
        return self._loader(windows)

    def _loader(self, patches: Any, **options: Any) -> DataLoader[Any]:
        return DataLoader(
            patches,
            batch_size=self.recipe.training.batch_size,
            num_workers=self.recipe.data.workers,
            persistent_workers=self.recipe.data.workers > 0,
            pin_memory=self.recipe.training.accelerator == "cuda",
            **options,
        )


def _warn_of_leaks(dataset: SceneDataset) -> None:
    """A split that the user gave as folders or lists is used as it is, but not in silence."""
    leaks = find_leaks(dataset, ("train", "val"))
    if leaks:
        first, second = leaks[0]
        warnings.warn(
            f"{len(leaks)} pair(s) of scenes in different splits show the same ground, for example "
            f"{first.image} and {second.image}: validation looks better than it is. Fix: split by location "
            "(`data.options.split`).",
            stacklevel=2,
        )
