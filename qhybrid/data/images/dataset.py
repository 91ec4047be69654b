"""What the rest of the program knows about data sets of whole images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from qhybrid.config import DataConfig, StrictModel, validated
from qhybrid.data.scenes import SPLITS, check_split
from qhybrid.errors import ConfigError, DataError, DatasetNotFoundError

Task = Literal["classification", "segmentation"]


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """The images of one split, in a fixed order.

    Attributes:
        images: Values in [0, 1], float32, shape (N, C, H, W).
        targets: Class indices, int64, shape (N,) for classification and (N, H, W) for segmentation.
        ids: Names of the images, unique in the data set.
    """

    images: Tensor
    targets: Tensor
    ids: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that the three belong together."""
        if not len(self.images) == len(self.targets) == len(self.ids):
            raise DataError(
                f"Images, targets and ids must be as many, but are {len(self.images)}, {len(self.targets)} "
                f"and {len(self.ids)}."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, indices: Sequence[int] | Any) -> ImageArrays:
        """Return some of the images, in the given order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return ImageArrays(
            self.images[chosen], self.targets[chosen], tuple(self.ids[int(index)] for index in chosen)
        )


@dataclass(frozen=True)
class SamplingUnits:
    """What may be taken for independent among the images of a split.

    Attributes:
        kind: What one is, as in `image` or `block of 3 sections`.
        of: The unit of each image.
        within: What an interval over them speaks of, where that is less than it seems; as in `within this
            stack`.
    """

    kind: str
    of: tuple[str, ...]
    within: str = ""


class ImageDataset(ABC):
    """Images in up to three splits that never share an image.

    Attributes:
        name: Name in recipes (`data.dataset`).
        description: One line for lists.
        Options: Class of its own keys (`data.options`).
        task: What is to be predicted: one class an image, or one class a pixel.
        source: Where the data set comes from.
        licence: Under what conditions.
        layout: The files that are expected below the data set's folder.
        folds: Numbers of the folds of cross-validation, chosen by the option `fold`; empty where there are
            none.
        class_names: Names of the classes, by index.
        folder: The data set's folder.
        options: The checked options; all data sets have the key `validation`.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    Options: ClassVar[type[StrictModel]]
    task: ClassVar[Task]
    source: ClassVar[str]
    licence: ClassVar[str]
    layout: ClassVar[str]
    folds: ClassVar[tuple[int, ...]] = ()
    class_names: tuple[str, ...]

    def __init__(self, folder: Path, options: Any) -> None:
        self.folder = folder
        self.options = options

    @classmethod
    def from_config(cls, config: DataConfig, folder: Path) -> Self:
        """Build the data set of a recipe; no file is read yet.

        Raises:
            ConfigError: If one of its options is unknown or wrong.
        """
        return cls(folder, validated(cls.Options, config.options, "data.options"))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold images: no `val` where the option `validation` is 0."""
        return SPLITS if self.options.validation else ("train", "test")

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, height and width of the images, in pixels."""

    def load(self, split: str) -> ImageArrays:
        """Return the images of a split; the same ones in the same order every time.

        Args:
            split: `train`, `val` or `test`.

        Raises:
            DatasetNotFoundError: If the data set is not where it is expected.
            DataError: If there is no such split, or a file is damaged, short or missing.
        """
        check_split(split)
        if split not in self.splits:
            raise DataError(
                f"Data set `{self.name}` has no split `{split}` with these options. Fix: ask for one of "
                f"{', '.join(self.splits)}, or set `data.options.validation`."
            )
        arrays = self._load(split)
        self._check(arrays, split)
        return arrays

    def compared(self) -> ImageDataset:
        """Return the data set in which near-duplicates are looked for: itself, or with larger pictures."""
        return self

    def adjacent(self, first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
        """Return pairs of images that lie side by side in one object, as neighbouring sections of a stack do.

        Args:
            first: Names of images of one split.
            second: Those of another.

        Returns:
            One pair for each image of `second` that has such a neighbour; none unless the data set knows.
        """
        return []

    def sampling_units(self, ids: Sequence[str]) -> SamplingUnits:
        """Return what may be taken for independent in a split when its sampling error is computed.

        Args:
            ids: Names of the images.

        Returns:
            Every image by itself, unless the data set knows better.
        """
        return SamplingUnits("image", tuple(ids))

    def _check(self, arrays: ImageArrays, split: str) -> None:
        """Refuse a split without images, and masks without any object or background."""
        if not len(arrays):
            raise DataError(
                f"{self.folder}: split `{split}` of data set `{self.name}` has no images with these options. "
                "Fix: give it a larger share of them in `data.options`."
            )
        if self.task == "segmentation" and len(self.class_names) == 2:
            absent = [not bool((arrays.targets == index).any()) for index in range(2)]
            missing = [name for name, lacks in zip(self.class_names, absent, strict=True) if lacks]
            if missing:
                raise DataError(
                    f"{self.folder}: the masks of split `{split}` have no pixel of {', '.join(missing)}. "
                    f"Fix: check the masks; expected is {self.layout}."
                )

    @abstractmethod
    def _load(self, split: str) -> ImageArrays:
        """Return the images of a split that is there."""

    def not_found(self, path: Path) -> DatasetNotFoundError:
        """Return the error that says how to get the data set."""
        return DatasetNotFoundError(
            f"{path}: data set `{self.name}` needs it, but it is missing. Fix: get the data from "
            f"{self.source} ({self.licence}), lay them out as {self.layout}, and name their folder with "
            "`data.root` below the data root (--data-root or QHYBRID_DATA)."
        )


def check_fold(fold: int, folds: Sequence[int]) -> int:
    """Return a fold number that exists.

    Raises:
        ConfigError: If it does not.
    """
    if fold not in folds:
        raise ConfigError(f"Key `data.options.fold` must be from {folds[0]} to {folds[-1]}, but is {fold}.")
    return fold
