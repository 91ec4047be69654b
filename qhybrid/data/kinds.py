"""The kinds of data sets, and what differs between them: one entry of a table each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qhybrid.config import DataConfig
from qhybrid.data.check_findings import DataCheck
from qhybrid.data.check_images import check_images
from qhybrid.data.check_scenes import Progress, check_scenes
from qhybrid.data.datasets import dataset_class
from qhybrid.data.folds import DEFAULT_FOLDS
from qhybrid.data.images.dataset import ImageDataset
from qhybrid.data.images.image_datasets import dataset_folds, open_image_dataset
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import SceneDataset


@dataclass(frozen=True)
class DataKind:
    """What differs between data sets of scenes and of whole images, as far as the data are concerned.

    Attributes:
        base: The class that all data sets of the kind derive from.
        open: Opens the data set of a section `data` below a data root; it has an attribute `splits`.
        check: Called with an open data set, the section, splits, `quick` and `progress`; what `check_data`
            finds split by split.
        folds: Numbers of the folds of a section's data set; empty where there are none.
        with_folds: The section with all that folds need.
        with_fold: The section with the fold of a number.
    """

    base: type
    open: Callable[[DataConfig, Path], Any]
    check: Callable[[Any, DataConfig, Sequence[str], bool, Progress | None], DataCheck]
    folds: Callable[[DataConfig], tuple[int, ...]]
    with_folds: Callable[[DataConfig], DataConfig]
    with_fold: Callable[[DataConfig, int], DataConfig]


def _check_scenes(
    dataset: SceneDataset, config: DataConfig, splits: Sequence[str], quick: bool, progress: Progress | None
) -> DataCheck:
    return check_scenes(dataset, config, splits, quick=quick, progress=progress)


def _check_images(
    dataset: ImageDataset, config: DataConfig, splits: Sequence[str], quick: bool, progress: Progress | None
) -> DataCheck:
    return check_images(dataset, splits, quick=quick, progress=progress)


def _folds_of_scenes(config: DataConfig) -> tuple[int, ...]:
    return tuple(range(1, (config.folds or 0) + 1))


def _with_folds_of_scenes(config: DataConfig) -> DataConfig:
    return config if config.folds is not None else config.model_copy(update={"folds": DEFAULT_FOLDS})


def _with_fold_of_images(config: DataConfig, fold: int) -> DataConfig:
    return config.model_copy(update={"options": {**config.options, "fold": fold}})


KINDS = (
    DataKind(
        SceneDataset,
        open_dataset,
        _check_scenes,
        _folds_of_scenes,
        _with_folds_of_scenes,
        lambda config, fold: config.model_copy(update={"fold": fold}),
    ),
    DataKind(
        ImageDataset,
        open_image_dataset,
        _check_images,
        lambda config: dataset_folds(config.dataset),
        lambda config: config,
        _with_fold_of_images,
    ),
)


def data_kind(name: str) -> DataKind:
    """Return the kind of the data set that a recipe's `data.dataset` names.

    Raises:
        ConfigError: If there is none of that name.
    """
    dataset = dataset_class(name)
    return next(kind for kind in KINDS if issubclass(dataset, kind.base))
