"""Training on scenes: random patches in, one class a pixel out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from qhybrid.config import Recipe
from qhybrid.data.augmentation import PatchAugmentation
from qhybrid.data.statistics import contract_of
from qhybrid.errors import ConfigError
from qhybrid.guidance import find_vit_below, guidance_in
from qhybrid.models import build_for_engine, check_task, complete_model, kept_model, with_values
from qhybrid.seeding import derive_seed
from qhybrid.training.callbacks import COLUMNS
from qhybrid.training.kept_noise import noise_hash
from qhybrid.training.losses import CrossEntropyDice, class_weights
from qhybrid.training.precision import trains_on_gpu
from qhybrid.training.ranks import place, summed
from qhybrid.training.run_folder import FORMAT, METRICS, MONITOR, Meta, load_run, load_start
from qhybrid.training.scenes.data_module import SceneDataModule
from qhybrid.training.scenes.module import SegmentationModule
from qhybrid.training.scenes.pictures import draw_run_pictures
from qhybrid.training.sync_norm import with_synchronised_norm
from qhybrid.training.task import Task
from qhybrid.version import __version__


def model_section(recipe: Recipe, bands: tuple[int, ...], num_classes: int) -> dict[str, Any]:
    """Return the model section with the keys filled in that the data decide and the model has.

    Raises:
        ConfigError: If the recipe gives one of these keys another value than the data do, or a key is
            unknown.
    """
    check_task(str(recipe.model["name"]), "segmentation", recipe.data.dataset)
    if num_classes < 2:
        raise ConfigError(
            f"Key `data.classes` must hold at least 2 classes to tell apart, but holds {num_classes}. Fix: a "
            "class for all the rest, with the values that it has in the masks."
        )
    side = recipe.data.patch_size
    try:
        model = with_values(recipe.model, "standardised")
        return complete_model(model, len(bands), num_classes, (side, side))
    except ConfigError as error:
        if "`image_size` must" not in str(error):
            raise
        raise ConfigError(f"{error} (`image_size` is {side} x {side}, the key `data.patch_size`.)") from error


def build_scene_task(recipe: Recipe, data_root: Path, *, test: bool | None = None) -> Task:
    """Build the model of a recipe for scenes, then check the data and measure their statistics.

    Args:
        recipe: The recipe.
        data_root: Folder that `data.root` is relative to.
        test: See `qhybrid.training.train`.

    Raises:
        QHybridError: For an invalid recipe or unusable data.
    """
    data = SceneDataModule(recipe, data_root)
    config = model_section(recipe, data.bands, data.classes.num_classes)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(recipe.seed, "initial weights"))
        model = build_for_engine(config, recipe.engine)
    load_start(model, recipe.training.start)
    data.check(test)
    find_vit_below(model, data_root)
    if (guidance := guidance_in(model)) is not None:
        data.guide(guidance)
    loss = CrossEntropyDice(
        recipe.training.loss, class_weights(recipe.training.loss, data.statistics.pixels_per_class), summed
    )
    own = place()
    model = with_synchronised_norm(model, gpu=trains_on_gpu(recipe))
    augmentation = PatchAugmentation(recipe.data.augmentation, data.statistics, (own.rank, own.world))
    together = own.world * recipe.training.batch_size
    total = recipe.training.epochs * max(1, recipe.data.patches_per_epoch // together)
    module = SegmentationModule(model, recipe, loss, augmentation, data.classes.num_classes, total)

    noise = noise_hash(recipe)

    def meta(*, epoch: int, step: int, metrics: dict[str, float | None]) -> Meta:
        return Meta(
            format=FORMAT,
            model=kept_model(config),
            noise=noise,
            classes=data.classes.to_dict(),
            statistics=data.statistics.to_dict(),
            bands=data.bands,
            patch_size=recipe.data.patch_size,
            epoch=epoch,
            step=step,
            metrics=metrics,
            qhybrid=__version__,
            input=contract_of(data.statistics, recipe.data).to_dict(),
        )

    def draw_pictures(folder: Path) -> None:
        run = load_run(folder, "best" if (folder / "best").is_dir() else "last")
        find_vit_below(run.model, data_root)
        draw_run_pictures(run, data.dataset.scenes("val"), folder / METRICS)

    return Task(data, module, MONITOR, COLUMNS, meta, draw_pictures)
