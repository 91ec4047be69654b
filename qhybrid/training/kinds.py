"""Recipes on scenes and on whole images: the one place of training that tells them apart.

What trains is imported where it is needed: Lightning takes seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qhybrid.config import Recipe
from qhybrid.config.tuning import Distribution
from qhybrid.data.datasets import dataset_class
from qhybrid.data.images.image_datasets import is_image_dataset, open_image_dataset
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.errors import ConfigError
from qhybrid.metrics import SCENES
from qhybrid.training.images.defaults import MONITORS, with_image_defaults
from qhybrid.training.images.run import ImageMeta
from qhybrid.training.preparation import check_before_data
from qhybrid.training.run_folder import META, MONITOR, Meta, MetaHead, existing, read_meta, read_recipe
from qhybrid.training.task import Task


def with_task_defaults(recipe: Recipe) -> Recipe:
    """Return a recipe with the defaults of its kind of data where it says nothing.

    The result of a second call is that of the first.

    Raises:
        ConfigError: If a key is set that means nothing for such data.
    """
    return with_image_defaults(recipe) if is_image_dataset(recipe.data.dataset) else recipe


def own_space(recipe: Recipe) -> dict[str, Distribution]:
    """Return what a search varies by default beside rate and decay: weights of the loss, or the schedule."""
    if is_image_dataset(recipe.data.dataset):
        return {"training.schedule": Distribution(choices=("cosine", "constant"))}
    weights = ("none", "sqrt_balanced", "balanced")
    return {
        "training.loss.dice": Distribution(low=0.0, high=2.0),
        "training.loss.class_weights": Distribution(choices=weights),
    }


def check_recipe(recipe: Recipe, data_root: Path) -> None:
    """Find out before training whether the model fits the data and the test images are there.

    Args:
        recipe: The recipe, with the defaults of its kind of data.
        data_root: Folder that `data.root` is relative to.

    Raises:
        QHybridError: If a name is unknown, the model does not fit, or a split is not usable.
    """
    check_before_data(recipe)
    if is_image_dataset(recipe.data.dataset):
        from qhybrid.training.images.task import image_model_section

        dataset = open_image_dataset(recipe.data, data_root)
        image_model_section(recipe, dataset)
        dataset.load("test")
    else:
        from qhybrid.training.scenes.data_module import SceneDataModule
        from qhybrid.training.scenes.task import model_section

        scenes = SceneDataModule(recipe, data_root)
        model_section(recipe, scenes.bands, scenes.classes.num_classes)
        scenes.check(test=True)


def resolved_model(recipe: Recipe, data_root: Path) -> dict[str, Any]:
    """Return the model section of a recipe, complete with what the data decide.

    Args:
        recipe: The recipe, with the defaults of its kind of data.
        data_root: Folder that `data.root` is relative to.

    Raises:
        QHybridError: If a key is wrong, or the data set is not there.
    """
    if is_image_dataset(recipe.data.dataset):
        from qhybrid.training.images.task import image_model_section

        return image_model_section(recipe, open_image_dataset(recipe.data, data_root))
    from qhybrid.training.scenes.data_module import SceneDataModule
    from qhybrid.training.scenes.task import model_section

    scenes = SceneDataModule(recipe, data_root)
    return model_section(recipe, scenes.bands, scenes.classes.num_classes)


def task_of(recipe: Recipe) -> str:
    """Return what a recipe's runs are evaluated for, one of `qhybrid.metrics.TASKS`."""
    name = recipe.data.dataset
    return str(dataset_class(name).task) if is_image_dataset(name) else SCENES


def headline(recipe: Recipe) -> str:
    """Return the name of the metric that a recipe's runs are judged by: that of their validation."""
    return MONITORS.get(task_of(recipe), MONITOR).removeprefix("val_")


def check_validated(recipe: Recipe, data_root: Path) -> None:
    """Check that a recipe can be judged by validation, without a look at test images.

    Args:
        recipe: The recipe, with the defaults of its kind of data.
        data_root: Folder that `data.root` is relative to.

    Raises:
        QHybridError: If the data set has no validation split or is not there, or the model does not fit. Of
            scenes, which always have such a split, only the data set is opened.
    """
    if not is_image_dataset(recipe.data.dataset):
        open_dataset(recipe.data, data_root)
        return
    from qhybrid.training.images.task import image_model_section

    dataset = open_image_dataset(recipe.data, data_root)
    image_model_section(recipe, dataset)
    if "val" not in dataset.splits:
        raise ConfigError(
            f"A validation split is needed to judge by, but data set `{recipe.data.dataset}` has none. Fix: "
            "set `data.options.validation`."
        )


def kept_score(folder: Path) -> tuple[str, float | None]:
    """Return name and value of the validation metric of the weights that a run is used with.

    The value is None where it is not a number.

    Raises:
        CheckpointError: If the folder is no run folder, or its files are damaged.
    """
    which = existing(folder, "best")
    kind = meta_class(read_recipe(folder))
    # A metric that was never a number has marked no epoch as the best.
    meta = read_meta(folder / (which if (folder / which).is_dir() else "last") / META, kind)
    name = MONITORS[meta.task] if isinstance(meta, ImageMeta) else MONITOR
    metrics: dict[str, float | None] = meta.metrics  # type: ignore[attr-defined]
    return name, metrics.get(name)


def build_task(recipe: Recipe, data_root: Path, *, test: bool | None = None) -> Task:
    """Load the data and build the model of a recipe.

    Args:
        recipe: The recipe, with the defaults of its kind of data.
        data_root: Folder that `data.root` is relative to.
        test: Whether the test split must be usable: True; False, it is not looked at; None, if it is there.

    Raises:
        QHybridError: For an invalid recipe or unusable data.
    """
    if is_image_dataset(recipe.data.dataset):
        from qhybrid.training.images.task import build_image_task

        return build_image_task(recipe, data_root, test=test)
    from qhybrid.training.scenes.task import build_scene_task

    return build_scene_task(recipe, data_root, test=test)


def meta_class(recipe: Recipe) -> type[MetaHead]:
    """Return what reads the meta.json of a recipe's runs."""
    return ImageMeta if is_image_dataset(recipe.data.dataset) else Meta
