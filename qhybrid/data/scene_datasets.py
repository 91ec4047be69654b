"""The data sets a recipe can name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qhybrid.config import DataConfig
from qhybrid.data.geotiff_folder import GeoTiffFolder
from qhybrid.data.images.image_datasets import IMAGE_DATASETS, is_image_dataset
from qhybrid.data.landcover_ai import LandCoverAI, fetch_landcover_ai
from qhybrid.data.scenes import SceneDataset
from qhybrid.data.synthetic import SyntheticScenes
from qhybrid.errors import ConfigError

_DATASETS: dict[str, Any] = {
    dataset.name: dataset for dataset in (GeoTiffFolder, LandCoverAI, SyntheticScenes)
}
_FETCHERS = {LandCoverAI.name: fetch_landcover_ai}


@dataclass(frozen=True)
class DatasetInfo:
    """What `qhybrid data list` shows of a data set.

    Attributes:
        name: Its name in recipes.
        description: One line.
        options: Its own keys under `data.options`, with their defaults as text.
        fetchable: Whether `fetch_dataset` can download it.
    """

    name: str
    description: str
    options: dict[str, str]
    fetchable: bool


def list_datasets() -> tuple[str, ...]:
    """Return the names of all data sets."""
    return tuple(sorted([*_DATASETS, *IMAGE_DATASETS]))


def _dataset_class(name: str) -> Any:
    if name not in list_datasets():
        close = difflib.get_close_matches(name, list_datasets(), n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise ConfigError(
            f"Key `data.dataset` must be one of {', '.join(list_datasets())}, but is `{name}`.{hint}"
        )
    return _DATASETS.get(name) or IMAGE_DATASETS[name]


def dataset_info(name: str) -> DatasetInfo:
    """Return what there is to know about a data set without opening it.

    Raises:
        ConfigError: If there is no such data set.
    """
    dataset = _dataset_class(name)
    options = {
        key: "required" if field.is_required() else repr(field.get_default(call_default_factory=True))
        for key, field in dataset.Options.model_fields.items()
    }
    return DatasetInfo(name, dataset.description, options, name in _FETCHERS)


def open_dataset(config: DataConfig, data_root: Path) -> SceneDataset:
    """Open the data set of a recipe for scenes.

    Args:
        config: The recipe's section `data`.
        data_root: Folder that `config.root` is relative to.

    Raises:
        ConfigError: If the data set or one of its options is unknown or wrong, or it holds whole images
            instead of scenes.
    """
    dataset = _dataset_class(config.dataset)
    if is_image_dataset(config.dataset):
        raise ConfigError(
            f"Key `data.dataset` must name a data set of scenes here, but `{config.dataset}` holds whole "
            f"images. Fix: choose one of {', '.join(sorted(_DATASETS))}."
        )
    opened: SceneDataset = dataset.from_config(config, Path(data_root) / config.root)
    return opened


def fetch_dataset(
    name: str,
    data_root: Path,
    url: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Download a data set into a folder of its name below the data root.

    Args:
        name: The data set.
        data_root: Folder for data sets.
        url: Another address of the same archive.
        progress: Called with (bytes so far, bytes in all or None).

    Returns:
        The data set's folder.

    Raises:
        ConfigError: If there is no such data set, or it cannot be downloaded.
        DataError: If what comes is damaged.
        WorkspaceError: If the folder is in use, the disk too small, or the server cannot be reached.
    """
    _dataset_class(name)
    if name not in _FETCHERS:
        raise ConfigError(f"Data set {name} cannot be downloaded; these can: {', '.join(_FETCHERS)}.")
    folder, fetcher = Path(data_root) / name, _FETCHERS[name]
    return fetcher(folder, progress=progress) if url is None else fetcher(folder, url, progress=progress)
