"""Recipes for data sets of whole images: other defaults than for scenes, and keys without a meaning."""

from __future__ import annotations

from typing import Any

from qhybrid.config import AugmentationConfig, DataConfig, PredictionConfig, Recipe
from qhybrid.errors import ConfigError

MONITORS = {"classification": "val_accuracy", "segmentation": "val_soft_iou"}
"""Validation metric of each task that decides on the best weights."""
_CLASSIFICATION_BATCH = 256

_SCENES_ONLY = (
    "bands",
    "classes",
    "ignore_values",
    "color_tolerance",
    "fit_masks",
    "vector",
    "nodata",
    "scale",
    "resolution",
    "shift_warning",
    "patch_size",
    "patches_per_epoch",
    "class_sampling",
    "workers",
    "cache_mb",
)
_LOSS: dict[str, Any] = {"dice": 0.0, "class_weights": "none"}
_AUGMENTATION: dict[str, Any] = {
    "flip": False,
    "rotate90": False,
    "brightness": 0.0,
    "contrast": 0.0,
    "band_gain": 0.0,
    "noise": 0.0,
}


def with_image_defaults(recipe: Recipe) -> Recipe:
    """Return the recipe with the defaults of whole images where it says nothing.

    The loss is plain cross-entropy without class weights, and every augmentation is off. What the recipe
    gives is kept, so the result of a second call is that of the first.

    Raises:
        ConfigError: If a key is set that means nothing for whole images.
    """
    for key in _SCENES_ONLY:
        if getattr(recipe.data, key) != DataConfig.model_fields[key].get_default():
            raise ConfigError(
                f"Key `data.{key}` is for scenes and means nothing for data set `{recipe.data.dataset}`. "
                "Fix: leave it out."
            )
    if recipe.prediction != PredictionConfig():
        raise ConfigError(
            f"Section `prediction` is for scenes and means nothing for data set `{recipe.data.dataset}`. "
            "Fix: leave it out."
        )
    loss = _filled(recipe.training.loss, _LOSS)
    augmentation = _filled(recipe.data.augmentation, _AUGMENTATION)
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update={"augmentation": augmentation}),
            "training": recipe.training.model_copy(update={"loss": loss}),
        }
    )


def _filled(section: Any, defaults: dict[str, Any]) -> Any:
    """Return a section with other defaults for the keys that were not given."""
    given = {key: getattr(section, key) for key in section.model_fields_set}
    return type(section)(**{**defaults, **given})


def augments(config: AugmentationConfig) -> bool:
    """Return whether any random change is switched on."""
    return any(bool(value) for value in config.model_dump().values())


def evaluation_batch(task: str, batch_size: int) -> int:
    """Return the batch size without gradients: small images go many at a time, whatever training does."""
    return max(batch_size, _CLASSIFICATION_BATCH) if task == "classification" else batch_size
