"""Runs on whole images: their meta.json, how a model comes back, and the pictures of a finished run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import nn

from qhybrid.config import Recipe
from qhybrid.data.images.dataset import Task
from qhybrid.training.pictures import draw_learning_curves
from qhybrid.training.run_folder import METRICS, MetaHead, Which, existing, load_trained


class ImageMeta(MetaHead):
    """Content of meta.json of a run on whole images.

    Attributes:
        format: Version of this file's layout.
        kind: Tells such runs from runs on scenes.
        task: What is predicted.
        model: Resolved model section.
        class_names: Names of the classes, by index.
        in_channels: Bands of the images.
        image_size: Height and width of the images, in pixels.
        epoch: Epoch after which the weights were taken, counted from 1.
        step: Optimiser steps taken.
        metrics: Metrics of that epoch.
        qhybrid: Version that wrote the file.
    """

    kind: Literal["images"]
    task: Task
    class_names: tuple[str, ...]
    in_channels: int
    image_size: tuple[int, int]
    epoch: int
    step: int
    metrics: dict[str, float | None]
    qhybrid: str


@dataclass(frozen=True)
class LoadedImageRun:
    """A trained model with all that is needed to use it.

    Attributes:
        model: The network in evaluation mode.
        recipe: The run's resolved recipe.
        class_names: Names of the classes, by index.
        task: What is predicted.
        folder: The run folder.
        which: Which weights: of the best or of the last epoch.
        meta: The meta.json they came with.
    """

    model: nn.Module
    recipe: Recipe
    class_names: tuple[str, ...]
    task: Task
    folder: Path
    which: Which
    meta: ImageMeta


def load_image_run(folder: str | Path, which: Which = "best") -> LoadedImageRun:
    """Rebuild the trained model of a run on whole images.

    Args:
        folder: The run folder.
        which: Weights of the best epoch in validation, or of the last complete one. A run without validation,
            or that keeps its last weights (`training.keep`), has no others.

    Raises:
        CheckpointError: If files are missing or damaged, the weights belong to another architecture, or the
            run is one on scenes.
    """
    root = Path(folder)
    which = existing(root, which)
    if which == "best" and not (root / "best").is_dir() and (root / "last").is_dir():
        which = "last"
    model, recipe, meta = load_trained(root, which, ImageMeta)
    return LoadedImageRun(model, recipe, meta.class_names, meta.task, root, which, meta)


def draw_image_run_pictures(folder: Path) -> None:
    """Draw the learning curves of a finished run."""
    draw_learning_curves(folder / METRICS, folder / "curves.png")
