"""The data sets of whole images by name."""

from __future__ import annotations

from pathlib import Path

from qhybrid.config import DataConfig
from qhybrid.data.images.brain_mri import BrainMri
from qhybrid.data.images.dataset import ImageDataset
from qhybrid.data.images.digits import Digits
from qhybrid.data.images.fruitseg30 import FruitSeg30
from qhybrid.data.images.isbi2012 import Isbi2012
from qhybrid.data.images.mnist import FashionMnist, Mnist
from qhybrid.data.images.ph2 import Ph2
from qhybrid.errors import ConfigError

IMAGE_DATASETS: dict[str, type[ImageDataset]] = {
    dataset.name: dataset for dataset in (BrainMri, Digits, FashionMnist, FruitSeg30, Isbi2012, Mnist, Ph2)
}


def is_image_dataset(name: str) -> bool:
    """Return whether a recipe's `data.dataset` names a data set of whole images."""
    return name in IMAGE_DATASETS


def dataset_folds(name: str) -> tuple[int, ...]:
    """Return the numbers of a data set's folds; nothing where there are none, as in scenes."""
    return tuple(IMAGE_DATASETS[name].folds) if is_image_dataset(name) else ()


def open_image_dataset(config: DataConfig, data_root: Path) -> ImageDataset:
    """Open the data set of a recipe.

    Args:
        config: The recipe's section `data`.
        data_root: Folder that `config.root` is relative to.

    Raises:
        ConfigError: If it is no data set of whole images, or one of its options is unknown or wrong.
    """
    if config.dataset not in IMAGE_DATASETS:
        raise ConfigError(
            f"Key `data.dataset` must be one of {', '.join(sorted(IMAGE_DATASETS))} here, but is "
            f"`{config.dataset}`."
        )
    return IMAGE_DATASETS[config.dataset].from_config(config, Path(data_root) / config.root)
