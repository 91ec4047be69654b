"""The data sets of scenes that come with qhybrid; opening one, and what there is to know of any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qhybrid.config import DataConfig
from qhybrid.data.datasets import (
    DATASETS,
    dataset_class,
    is_image_dataset,
    list_datasets,
    names_of,
    register_dataset,
)
from qhybrid.data.folds import FoldedScenes
from qhybrid.data.geotiff_folder import GeoTiffFolder
from qhybrid.data.landcover_ai import LandCoverAI, fetch_landcover_ai
from qhybrid.data.locations import as_folder, join_location
from qhybrid.data.open_earth_map import OpenEarthMap
from qhybrid.data.scenes import SceneDataset
from qhybrid.data.seasonet import SeasoNet
from qhybrid.data.stac import StacScenes
from qhybrid.data.synthetic import SyntheticScenes
from qhybrid.errors import ConfigError

__all__ = ["DatasetInfo", "dataset_info", "fetch_dataset", "list_datasets", "open_dataset"]

register_dataset(GeoTiffFolder)
register_dataset(LandCoverAI, fetch_landcover_ai)
register_dataset(OpenEarthMap)
register_dataset(SeasoNet)
register_dataset(StacScenes)
register_dataset(SyntheticScenes)


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


def dataset_info(name: str) -> DatasetInfo:
    """Return what there is to know about a data set without opening it.

    Raises:
        ConfigError: If there is no such data set.
    """
    dataset = dataset_class(name)
    options = {
        key: "required" if field.is_required() else repr(field.get_default(call_default_factory=True))
        for key, field in dataset.Options.model_fields.items()
    }
    return DatasetInfo(name, dataset.description, options, DATASETS.get(name).fetch is not None)


def open_dataset(config: DataConfig, data_root: Path) -> SceneDataset:
    """Open the data set of a recipe for scenes.

    Args:
        config: The recipe's section `data`.
        data_root: Folder that `config.root` is relative to. The root may also be an archive (.zip, .tar), a
            `/vsi...` name or a URL.

    Raises:
        ConfigError: If the data set or one of its options is unknown or wrong, or it holds whole images
            instead of scenes.
    """
    dataset = dataset_class(config.dataset)
    if is_image_dataset(config.dataset):
        raise ConfigError(
            f"Key `data.dataset` must name a data set of scenes here, but `{config.dataset}` holds whole "
            f"images. Fix: choose one of {', '.join(names_of(SceneDataset))}."
        )
    kind = dataset if config.folds is None else FoldedScenes
    root = as_folder(join_location(Path(data_root), config.root))
    opened: SceneDataset = kind.from_config(config, root)
    wanted = opened.classes.read_as(config)
    if opened.classes != wanted:  # of a data set that knows nothing of these keys
        opened.classes = wanted
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
    dataset_class(name)
    folder, fetcher = Path(data_root) / name, DATASETS.get(name).fetch
    if fetcher is None:
        known = ", ".join(one for one, entry in DATASETS.items() if entry.fetch is not None)
        raise ConfigError(f"Data set {name} cannot be downloaded; these can: {known}.")
    return fetcher(folder, progress=progress) if url is None else fetcher(folder, url, progress=progress)
