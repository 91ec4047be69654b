"""Training on whole images: classification, and segmentation of images that fit in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qhybrid.config import Recipe
from qhybrid.data.augmentation import PatchAugmentation
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.images import ImageDataset
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.data.statistics import BandStatistics
from qhybrid.layers import cached_features
from qhybrid.models import build_for_engine, check_task, complete_model, kept_model, with_values
from qhybrid.seeding import derive_seed
from qhybrid.training.base_module import Augmentation
from qhybrid.training.images.data_module import ImageDataModule
from qhybrid.training.images.defaults import MONITORS, augments
from qhybrid.training.images.metrics import ImageScores
from qhybrid.training.images.module import ImageModule
from qhybrid.training.images.run import ImageMeta, draw_image_run_pictures
from qhybrid.training.kept_noise import noise_hash
from qhybrid.training.losses import CrossEntropyDice, class_weights
from qhybrid.training.run_folder import FORMAT, load_start
from qhybrid.training.task import Task
from qhybrid.version import __version__

SAVE_INTERVAL = 2.0
_BAR_UPDATES = 20
_SCORES = {
    "classification": ("accuracy",),
    "segmentation": ("soft_iou", "soft_iou_per_image", "iou", "miou", "accuracy"),
}


def build_image_task(recipe: Recipe, data_root: Path, *, test: bool | None = None) -> Task:
    """Load the images and build the model of a recipe for whole images.

    Args:
        recipe: The recipe, with the defaults of whole images filled in.
        data_root: Folder that `data.root` is relative to.
        test: See `qhybrid.training.train`.

    Raises:
        QHybridError: For an invalid recipe or unusable data.
    """
    config = image_model_section(recipe, open_image_dataset(recipe.data, data_root))
    data = ImageDataModule(recipe, data_root)
    data.check(test)
    kind = data.dataset.task
    module = _build_module(recipe, data, config)
    in_channels, *image_size = data.dataset.image_shape

    noise = noise_hash(recipe)

    def meta(*, epoch: int, step: int, metrics: dict[str, float | None]) -> ImageMeta:
        return ImageMeta(
            format=FORMAT,
            kind="images",
            task=kind,
            model=kept_model(config),
            noise=noise,
            class_names=data.dataset.class_names,
            in_channels=in_channels,
            image_size=(image_size[0], image_size[1]),
            epoch=epoch,
            step=step,
            metrics=metrics,
            qhybrid=__version__,
        )

    return Task(
        data,
        module,
        MONITORS[kind],
        _columns(kind),
        meta,
        draw_image_run_pictures,
        validated=data.val is not None,
        save_interval=SAVE_INTERVAL,
        refresh_rate=max(1, data.steps_per_epoch // (data.steps_per_block * _BAR_UPDATES)),
    )


def _build_module(recipe: Recipe, data: ImageDataModule, config: Mapping[str, Any]) -> ImageModule:
    """Build model, loss and metrics; a fixed filter's features take the place of the images in `data`."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(recipe.seed, "initial weights"))
        model = build_for_engine(config, recipe.engine)
    load_start(model, recipe.training.start)
    counted = data.train.targets[data.train.targets != IGNORE_INDEX]
    counts = torch.bincount(counted, minlength=data.num_classes).tolist()
    loss = CrossEntropyDice(recipe.training.loss, class_weights(recipe.training.loss, counts))
    augmentation = image_augmentation(recipe, data.dataset.image_shape[0])
    # A fixed filter is evaluated once for all epochs, unless every epoch sees other images.
    on_features = augmentation is None and hasattr(model, "forward_features")
    if on_features:
        filtered: Any = model
        data.replace_images(lambda images: cached_features(filtered.quanvolution, images))
    kind, names = data.dataset.task, data.dataset.class_names
    scores = ImageScores(kind, names), ImageScores(kind, names)
    total = recipe.training.epochs * data.steps_per_epoch
    return ImageModule(model, recipe, loss, scores, total, augmentation, on_features=on_features)


def _columns(kind: str) -> tuple[str, ...]:
    metrics = [f"{split}_{name}" for split in ("train", "val") for name in ("loss", *_SCORES[kind])]
    return ("epoch", "step", *metrics, "learning_rate", "seconds_per_step", "epoch_seconds")


def image_model_section(recipe: Recipe, dataset: ImageDataset) -> dict[str, Any]:
    """Return the model section with the keys filled in that the data decide and the model has.

    Segmentation of two classes has one logit (`num_classes: 1`), unless
    the recipe asks for two.

    Raises:
        ConfigError: If the model is for another task, the recipe gives one of these keys another value than
            the data do, or a key is unknown.
    """
    check_task(str(recipe.model["name"]), dataset.task, dataset.name)
    bands, height, width = dataset.image_shape
    num_classes = len(dataset.class_names)
    binary = dataset.task == "segmentation" and num_classes == 2
    given = recipe.model.get("num_classes")
    classes = given if binary and given in (1, 2) else (1 if binary else num_classes)
    return complete_model(with_values(recipe.model, "zero_to_one"), bands, classes, (height, width))


def image_augmentation(recipe: Recipe, bands: int) -> Augmentation | None:
    """Return the random changes of training images; None if all are switched off.

    `PatchAugmentation` takes 0 for "no data", which in these images is black. So it sees values one higher.
    """
    if not augments(recipe.data.augmentation):
        return None
    statistics = BandStatistics(
        bands=tuple(range(1, bands + 1)),
        mean=(-1.0,) * bands,
        std=(1.0,) * bands,
        low=(0.0,) * bands,
        high=(1.0,) * bands,
        pixels=0,
    )
    change = PatchAugmentation(recipe.data.augmentation, statistics)

    def augment(images: Tensor, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        masks = targets if targets.ndim == 3 else torch.zeros_like(images[:, 0], dtype=torch.int64)
        changed, labels = change(images + 1, masks, seed)
        return (changed - 1).clamp_(0, 1), labels if targets.ndim == 3 else targets

    return augment
