"""The data sets by name: those of scenes, those of whole images, and those of plugins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from qhybrid.config import StrictModel
from qhybrid.data.images.dataset import ImageDataset, Task
from qhybrid.data.scenes import SceneDataset
from qhybrid.errors import ConfigError, PluginError
from qhybrid.plugins import Registry

Fetch = Callable[..., Path]
ClassT = TypeVar("ClassT", bound=type)
_TEXTS = ("name", "description")
_TEXTS_OF_IMAGES = ("source", "licence", "layout")


@dataclass(frozen=True)
class DatasetEntry:
    """One data set.

    Attributes:
        kind: Its class.
        fetch: Downloads it into a folder; None where that is not possible.
    """

    kind: Any
    fetch: Fetch | None = None


DATASETS: Registry[DatasetEntry] = Registry("data set", ConfigError)


def register_dataset(dataset: ClassT, fetch: Fetch | None = None, *, replace: bool = False) -> ClassT:
    """Make a data set known to recipes, under its attribute `name`; also as a decorator of its class.

    Args:
        dataset: Subclass of `SceneDataset` or `ImageDataset` that declares all that its base class asks for.
        fetch: Function `(folder, url=..., progress=...)` that downloads it and returns the folder.
        replace: Whether it may take the place of another one.

    Returns:
        The class.

    Raises:
        PluginError: If something is not declared, or the name is taken.
    """
    problems = _problems(dataset)
    if problems:
        raise PluginError(
            f"Data set {getattr(dataset, '__name__', dataset)} must declare what its base class asks for, "
            f"but {'; '.join(problems)}. Fix: see qhybrid.data.SceneDataset and qhybrid.data.ImageDataset."
        )
    DATASETS.register(dataset.name, DatasetEntry(dataset, fetch), replace=replace)  # type: ignore[attr-defined]
    return dataset


def _problems(dataset: Any) -> list[str]:
    """Return what a class lacks."""
    if not isinstance(dataset, type) or not issubclass(dataset, SceneDataset | ImageDataset):
        return ["it is no subclass of SceneDataset or ImageDataset"]
    found: Any = dataset
    of_images = issubclass(dataset, ImageDataset)
    texts = (*_TEXTS, *_TEXTS_OF_IMAGES) if of_images else _TEXTS
    problems = [f"`{key}` is no text" for key in texts if not isinstance(getattr(found, key, None), str)]
    options = getattr(found, "Options", None)
    if not isinstance(options, type) or not issubclass(options, StrictModel):
        problems.append("`Options` is no class derived from qhybrid.config.StrictModel")
    elif of_images and found.splits is ImageDataset.splits and "validation" not in options.model_fields:
        problems.append("`Options` has no key `validation` and `splits` is not defined")
    if of_images and getattr(found, "task", None) not in get_args(Task):
        problems.append(f"`task` is none of {', '.join(get_args(Task))}")
    return [*problems, *(f"`{method}` is missing" for method in sorted(dataset.__abstractmethods__))]


def dataset_class(name: str) -> Any:
    """Return the class of a data set.

    Raises:
        ConfigError: If there is none of that name; the message has a near one.
    """
    return DATASETS.get(name, "Key `data.dataset`").kind


def list_datasets() -> tuple[str, ...]:
    """Return the names of all data sets."""
    return DATASETS.names()


def names_of(base: type) -> tuple[str, ...]:
    """Return the names of the data sets of scenes (`SceneDataset`) or of whole images (`ImageDataset`)."""
    return tuple(sorted(name for name, entry in DATASETS.items() if issubclass(entry.kind, base)))


def is_image_dataset(name: str) -> bool:
    """Return whether a recipe's `data.dataset` names a data set of whole images."""
    return name in DATASETS and issubclass(DATASETS.get(name).kind, ImageDataset)
