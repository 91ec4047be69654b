"""The Lightning data module: training patches and validation windows of one data set."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from qhybrid.config import Recipe
from qhybrid.data.check import compare_labels, no_labels, stop_at_problems
from qhybrid.data.check_findings import DataCheck
from qhybrid.data.check_scenes import check_scenes
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.contract import InputContract
from qhybrid.data.identity import DataIdentity, scenes_identity
from qhybrid.data.patches import GridPatches, RandomPatches, Sample
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import SPLITS
from qhybrid.data.statistics import BandStatistics, compute_statistics, contract_of, first_contract
from qhybrid.errors import DataError, DatasetNotFoundError
from qhybrid.guidance import Guidance, SceneTokens
from qhybrid.training.precision import trains_on_gpu
from qhybrid.training.progress import tiles_progress
from qhybrid.training.ranks import from_first, place


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index): the index carries the epoch, so that workers which live over epochs agree.

    Of several processes each has every W-th index, all of them as many.

    Lightning calls `set_epoch` before each epoch, but loader workers start on the first epoch before the
    first call; so a resumed run gives its first epoch at the start.
    """

    def __init__(self, length: int, epoch: int, rank: int = 0, world: int = 1) -> None:
        self.indices = range(rank, length // world * world, world)
        self.epoch = epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, index) for index in self.indices])


class SharedWindows(Dataset[Sample]):
    """Every W-th window, from that of the rank on; each is counted by one process alone.

    Processes must take as many steps. Where windows do not go round, the last one of those that have none
    left is a window whose pixels are all ignored.
    """

    def __init__(self, windows: GridPatches, rank: int, world: int) -> None:
        self.windows, self.rank, self.world = windows, rank, world

    def __len__(self) -> int:
        return -(-len(self.windows) // self.world)

    def __getitem__(self, index: int) -> Sample:
        number = index * self.world + self.rank
        if number < len(self.windows):
            return self.windows[number]
        sample = self.windows[len(self.windows) - 1]
        return {**sample, "mask": torch.full_like(sample["mask"], IGNORE_INDEX)}


class SceneDataModule(lightning.LightningDataModule):
    """Opens the data set of a recipe and serves its patches.

    Attributes:
        dataset: The data set.
        classes: The label map.
        bands: 1-based band numbers that are read.
        found: What the check of the splits has counted; empty before it.
        first_epoch: Epoch, counted from 0, that training starts or goes on with.
    """

    def __init__(self, recipe: Recipe, data_root: Path, statistics: BandStatistics | None = None) -> None:
        """Open the data set; of its files only headers are read.

        Args:
            recipe: The run's recipe.
            data_root: Folder that `data.root` is relative to.
            statistics: Known statistics (of the run that is resumed); computed when asked for if absent.

        Raises:
            DataError: If the data set is missing, or the training or the validation split is empty.
        """
        super().__init__()
        self.recipe = recipe
        self.first_epoch = 0
        self.dataset = open_dataset(recipe.data, data_root)
        self.classes = self.dataset.classes
        self.found = DataCheck("scenes", self.classes.names, "pixels", self.classes.colors)
        self._statistics = statistics
        self._tokens: SceneTokens | None = None
        self._first: InputContract | None = None
        try:
            for split in ("train", "val"):
                if not self.dataset.scenes(split):
                    raise DataError(f"Data set `{recipe.data.dataset}` has no scenes in split `{split}`.")
            first = self._first = first_contract(self.dataset, recipe.data)
        except DatasetNotFoundError:
            raise
        except DataError:
            self.check(test=None)  # names this problem and all others
            raise
        self.bands = first.numbers

    def check(self, test: bool | None = None) -> None:
        """Look at every file of every split before time is spent on training; see `qhybrid.data.check`.

        Args:
            test: Whether the test split must be usable: True; False, it is not looked at; None, if it is
                there.

        Raises:
            DataError: If a file or a split is not usable; it names all that are not.
        """
        splits = SPLITS if test is not False else ("train", "val")
        self.found = check_scenes(self.dataset, self.recipe.data, splits, quick=True, contract=self._first)
        compare_labels(self.found, absent_classes=False)
        severe = [one for one in self.found.problems if one.severe and one.kind != "leak"]
        if test is None:
            severe = [one for one in severe if (one.kind, one.splits) != ("split", ("test",))]
        stop_at_problems(severe)
        for leak in self.found.problems:
            if leak.kind == "leak":
                warnings.warn(leak.message, stacklevel=2)

    @property
    def statistics(self) -> BandStatistics:
        """Per-band statistics of the training split.

        Raises:
            DataError: If a file of it cannot be read, or none of its pixels has a label.
        """
        if self._statistics is None:
            scenes = self.dataset.scenes("train")
            found = compute_statistics(scenes, classes=self.classes, contract=self._first)
            if not sum(found.pixels_per_class):
                raise DataError(no_labels("train", len(scenes), "scenes"))
            contract = contract_of(found, self.recipe.data)
            for scene in self.dataset.scenes("val"):  # what does not fit shows now, not after the first epoch
                contract.reading(scene.image)
            self._statistics = found
        return self._statistics

    def guide(self, guidance: Guidance) -> None:
        """Let patches come with the token maps of a model's frozen ViT, which sees by the training split.

        Raises:
            ConfigError: If the ViT cannot be used, or which bands it gets is not known.
        """
        guidance.see(self.statistics)
        device = "cuda" if trains_on_gpu(self.recipe) else "cpu"
        contract = contract_of(self.statistics, self.recipe.data)
        self._tokens = SceneTokens(guidance, self.statistics, contract, device=device)

    def setup(self, stage: str) -> None:
        """Let all tiles of training and validation pass the frozen ViT before the first step."""
        if self._tokens is not None and self._tokens.kept:
            scenes = [*self.dataset.scenes("train"), *self.dataset.scenes("val")]
            tokens = self._tokens

            def prepare() -> None:
                with tiles_progress(self.recipe.training.progress and place().first) as progress:
                    tokens.prepare(scenes, progress)

            from_first(prepare)
            if not place().first:
                prepare()  # from the files of the first process

    def identity(self, split: str) -> DataIdentity:
        """Return the identity of a split; see `qhybrid.data.identity`."""
        return scenes_identity(self.dataset.scenes(split))

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many scenes there are, by split, and pixels with data in those of training."""
        trained = {"scenes": len(self.dataset.scenes("train")), "pixels": self.statistics.pixels}
        return {"train": trained, "val": {"scenes": len(self.dataset.scenes("val"))}}

    def train_dataloader(self) -> DataLoader[Any]:
        """Serve random patches; what a patch is depends on (seed, epoch, index) alone, not on workers."""
        patches = RandomPatches(
            self.dataset.scenes("train"),
            self.classes,
            self.statistics,
            self.recipe.data,
            self.recipe.seed,
            self._tokens,
        )
        own = place()
        full_batches = len(patches) >= self.recipe.training.batch_size * own.world
        sampler = EpochSampler(len(patches), self.first_epoch, own.rank, own.world)
        return self._loader(patches, sampler=sampler, drop_last=full_batches)

    def val_dataloader(self) -> DataLoader[Any]:
        """Serve windows that cover every validation scene once, over all processes together."""
        windows = GridPatches(
            self.dataset.scenes("val"), self.classes, self.statistics, self.recipe.data, maps=self._tokens
        )
        own = place()
        return self._loader(windows if own.world == 1 else SharedWindows(windows, own.rank, own.world))

    def _loader(self, patches: Any, **options: Any) -> DataLoader[Any]:
        return DataLoader(
            patches,
            batch_size=self.recipe.training.batch_size,
            num_workers=self.recipe.data.workers,
            persistent_workers=self.recipe.data.workers > 0,
            pin_memory=self.recipe.training.accelerator == "cuda",
            **options,
        )
