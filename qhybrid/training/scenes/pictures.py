"""Pictures of a finished run: learning curves, and validation patches beside their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from qhybrid.data.patches import GridPatches
from qhybrid.data.scenes import Scene
from qhybrid.training.pictures import draw_learning_curves, draw_samples
from qhybrid.training.run_folder import LoadedRun

PATCHES = 5


def draw_run_pictures(run: LoadedRun, scenes: Sequence[Scene], metrics_csv: Path) -> None:
    """Write curves.png and samples.png into the run folder.

    Args:
        run: The trained model.
        scenes: Validation scenes.
        metrics_csv: The run's table of epochs.
    """
    draw_learning_curves(metrics_csv, run.folder / "curves.png")
    patches = GridPatches(scenes, run.classes, run.statistics, run.recipe.data)
    step = max(1, len(patches) // PATCHES)
    samples = [patches[index] for index in range(step // 2, len(patches), step)][:PATCHES]
    with torch.no_grad():
        predictions = run.model(torch.stack([sample["image"] for sample in samples])).argmax(dim=1)
    draw_samples(
        [sample["image"] for sample in samples],
        [sample["mask"] for sample in samples],
        list(predictions),
        run.classes,
        run.folder / "samples.png",
    )
