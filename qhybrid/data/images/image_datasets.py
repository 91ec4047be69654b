"""The data sets of whole images that come with qhybrid, and opening one."""

from __future__ import annotations

from pathlib import Path

from qhybrid.config import DataConfig
from qhybrid.data.datasets import dataset_class, is_image_dataset, names_of, register_dataset
from qhybrid.data.images.brain_mri import BrainMri
from qhybrid.data.images.dataset import ImageDataset
from qhybrid.data.images.digits import Digits
from qhybrid.data.images.fruitseg30 import FruitSeg30
from qhybrid.data.images.isbi2012 import Isbi2012
from qhybrid.data.images.mnist import FashionMnist, Mnist
from qhybrid.data.images.ph2 import Ph2
from qhybrid.errors import ConfigError

__all__ = ["dataset_folds", "is_image_dataset", "open_image_dataset"]

for _dataset in (BrainMri, Digits, FashionMnist, FruitSeg30, Isbi2012, Mnist, Ph2):
    register_dataset(_dataset)


def dataset_folds(name: str) -> tuple[int, ...]:
    """Return the numbers of a data set's folds; nothing where there are none, as in scenes."""
    return tuple(dataset_class(name).folds) if is_image_dataset(name) else ()


def open_image_dataset(config: DataConfig, data_root: Path) -> ImageDataset:
    """Open the data set of a recipe.

    Args:
        config: The recipe's section `data`.
        data_root: Folder that `config.root` is relative to.

    Raises:
        ConfigError: If it is no data set of whole images, or one of its options is unknown or wrong.
    """
    dataset = dataset_class(config.dataset)
    if not is_image_dataset(config.dataset):
        raise ConfigError(
            f"Key `data.dataset` must be one of {', '.join(names_of(ImageDataset))} here, but is "
            f"`{config.dataset}`."
        )
    if config.folds is not None:
        own = "`data.options.fold`" if dataset_folds(config.dataset) else "none"
        raise ConfigError(
            f"Key `data.folds` is for data sets of scenes, but `{config.dataset}` holds whole images, whose "
            f"folds are {own}. Fix: leave `data.folds` out."
        )
    opened: ImageDataset = dataset.from_config(config, Path(data_root) / config.root)
    return opened
