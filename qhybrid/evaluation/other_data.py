"""Data that a run is judged on besides its own: those of another recipe, or a folder of images and masks.

Classes are matched by their names, never by their positions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qhybrid.config import DataConfig, Recipe, load_recipe
from qhybrid.data.classes import ClassMap
from qhybrid.data.pairs import check_pair
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import SPLITS, Scene
from qhybrid.errors import ConfigError, DataError
from qhybrid.inference.scene_model import input_contract
from qhybrid.plugins import near_name
from qhybrid.training.images.run import LoadedImageRun
from qhybrid.training.run_folder import RECIPE, LoadedRun

On = str | Path | Recipe
_BESIDE_RASTERS = {".xml", ".msk", ".ovr", ".hdr", ".prj", ".txt", ".json", ".csv", ".md"}


@dataclass(frozen=True)
class OtherData:
    """Other data than a run's own.

    Attributes:
        name: Names the folder of the results.
        data: The section `data` that they are read with.
        data_root: Folder that `data.root` is relative to.
        folder: The folder, where no recipe says what is in it.
    """

    name: str
    data: DataConfig
    data_root: Path
    folder: Path | None = None


def find_other_data(on: On, run: LoadedRun | LoadedImageRun, data_root: Path) -> OtherData:
    """Return what a run is to be judged on.

    Args:
        on: A recipe, its file, a run folder (for its recipe), or a folder that is laid out as the run's data
            set, or that has images in `images` and masks of the same names in `masks`.
        run: The run.
        data_root: Folder that a recipe's `data.root` is relative to.

    Raises:
        ConfigError: If it is none of these.
    """
    if isinstance(on, Recipe):
        return OtherData(_plain(on.name), on.data, data_root)
    place = Path(on)
    file = place / RECIPE if (place / RECIPE).is_file() else place
    if file.is_file() and file.suffix.lower() in (".yaml", ".yml"):
        recipe = load_recipe(file)
        return OtherData(_plain(recipe.name), recipe.data, data_root)
    if not place.is_dir():
        raise ConfigError(
            f"{on}: a run is judged on a recipe or on a folder of images and masks, but this is neither. "
            "Fix: check the path."
        )
    folder = place.resolve()
    data = run.recipe.data.model_copy(update={"root": str(folder)})
    return OtherData(_plain(folder.name), data, data_root, folder)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "_", name).strip("._") or "data"


def other_scenes(run: LoadedRun, other: OtherData, split: str) -> tuple[LoadedRun, tuple[Scene, ...]]:
    """Return a run that reads other scenes with its own classes, and these scenes.

    Args:
        run: The run.
        other: The data.
        split: The split; of a folder that is split by fractions or lists all scenes are taken, because the
            run has seen none of them.

    Raises:
        ConfigError: If classes do not match by name, or the data are no scenes.
        DataError: If the data are unusable.
    """
    if other.folder is not None:
        return run, _scenes_of_folder(run, other, split, other.folder)
    dataset = open_dataset(other.data, other.data_root)
    scenes = dataset.scenes(split)
    classes = _classes_by_name(run.classes, dataset.classes, other.name)
    bands = other.data.bands or run.bands
    if len(bands) != len(run.bands):
        raise ConfigError(
            f"Recipe {other.name}: `data.bands` must name the {len(run.bands)} band(s) that the model takes, "
            f"but names {len(bands)}. Fix: give them in the model's order."
        )
    said = {name: getattr(other.data, name) for name in ("bands", "nodata", "scale", "resolution")}
    contract = input_contract(run)
    if contract.options.bands is not None:  # given with the command, which counts more than the recipe
        said["bands"] = None
    for name in ("scale", "resolution"):
        if getattr(contract.options, name) != getattr(run.recipe.data, name):
            said[name] = None
    said = {name: value for name, value in said.items() if value is not None}
    statistics = replace(run.statistics, contract=contract.with_options(**said) if said else contract)
    own = {"patch_size": run.patch_size, "bands": other.data.bands or run.recipe.data.bands}
    recipe = run.recipe.model_copy(update={"data": other.data.model_copy(update=own)})
    return replace(run, classes=classes, statistics=statistics, recipe=recipe), scenes


def _classes_by_name(own: ClassMap, other: ClassMap, name: str) -> ClassMap:
    """Return the values of other masks in the order of the model's classes."""
    place = class_places(own.names, other.names, name)
    values: list[tuple[int | str, ...]] = [()] * own.num_classes
    for index, target in enumerate(place):
        values[target] = other.values[index]
    return replace(other, names=own.names, colors=own.colors, values=tuple(values))


def class_places(own: Sequence[str], other: Sequence[str], name: str) -> list[int]:
    """Return the index among a model's classes of each class of other data.

    Args:
        own: The model's classes.
        other: Those of the data.
        name: Of the data, for messages.

    Raises:
        ConfigError: If the model does not know one of them, or knows none.
    """
    unknown = [one for one in other if one not in own]
    if unknown:
        raise ConfigError(
            f"{name}: every class must be one of the model's ({', '.join(own)}), but {', '.join(unknown)} "
            f"{'is' if len(unknown) == 1 else 'are'} not.{near_name(unknown[0], list(own))} Fix: name "
            "classes in `data.classes` as the model does, or put their values into `data.ignore_values`."
        )
    return [list(own).index(one) for one in other]


def _scenes_of_folder(run: LoadedRun, other: OtherData, split: str, folder: Path) -> tuple[Scene, ...]:
    """Return the scenes of a folder: laid out as the run's data set, else any images and masks.

    A data set that reads no files of the folder (generated scenes) says nothing about it.
    """
    splits: tuple[str, ...] = SPLITS if other.data.options.get("split") is not None else (split,)
    problem: Exception | None = None
    try:
        dataset = open_dataset(other.data, other.data_root)
    except (ConfigError, DataError) as error:
        problem, splits = error, ()
    found: list[Scene] = []
    for one in splits:
        try:
            found += [scene for scene in dataset.scenes(one) if str(folder) in str(scene.image)]
            problem = DataError(f"data set {other.data.dataset} does not read images from a folder.")
        except DataError as error:
            problem = error
    pairs = [] if found else _pairs(folder, split, run.classes)
    if not found and not pairs:
        raise DataError(
            f"{folder}: must be laid out as the run's data set ({other.data.dataset}), or have `images` and "
            f"`masks` with equal file names, but: {problem} Fix: arrange it so, or write a recipe that says "
            "where images and masks are, and give that."
        )
    return tuple(found or pairs)


def _pairs(folder: Path, split: str, classes: ClassMap) -> list[Scene]:
    """Return images with the masks of the same names; none if there are no such folders.

    Raises:
        DataError: If an image has no mask, or one that does not fit.
    """
    for place in (folder / split, folder):
        images, masks = _rasters(place / "images"), _rasters(place / "masks")
        missing = sorted(images.keys() - masks.keys())
        if images and masks and missing:
            raise DataError(
                f"{images[missing[0]]}: each image must have a mask of the same name in {place / 'masks'}, "
                f"but {len(missing)} have none. Fix: add the masks or move the images away."
            )
        if images and masks:
            for name, image in images.items():
                check_pair(image, masks[name], classes)
            return [Scene(name, image, masks[name], name) for name, image in images.items()]
    return []


def _rasters(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        return {}
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    return {file.stem: file for file in files if file.suffix.lower() not in _BESIDE_RASTERS}
