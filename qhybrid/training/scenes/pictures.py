"""Pictures of a finished run: learning curves, and validation patches beside their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from qhybrid.data.patches import GridPatches
from qhybrid.data.scenes import Scene
from qhybrid.data.statistics import contract_of
from qhybrid.guidance import SceneTokens
from qhybrid.training.pictures import draw_learning_curves, draw_samples
from qhybrid.training.run_folder import LoadedRun
from qhybrid.training.showing import class_counts, most_varied

PATCHES = 5
CANDIDATES = 64
"""Patches, evenly spread over the scenes, of which the most varied ones are drawn."""
_GIVEN = ("image", "tokens")
"""What a model is called with; the second for one with a frozen ViT."""


def draw_run_pictures(run: LoadedRun, scenes: Sequence[Scene], metrics_csv: Path) -> None:
    """Write curves.png and samples.png into the run folder.

    Args:
        run: The trained model.
        scenes: Validation scenes.
        metrics_csv: The run's table of epochs.
    """
    draw_learning_curves(metrics_csv, run.folder / "curves.png")
    contract = contract_of(run.statistics, run.recipe.data, run.bands)
    maps = SceneTokens.of(run.model, run.statistics, contract)
    patches = GridPatches(scenes, run.classes, run.statistics, run.recipe.data, maps=maps)
    candidates = np.linspace(0, len(patches) - 1, min(CANDIDATES, len(patches))).round().astype(int)
    looked_at = [patches[int(index)] for index in candidates]
    counts = [class_counts(patch["mask"], run.classes.num_classes) for patch in looked_at]
    samples = [looked_at[place] for place in most_varied(counts, PATCHES)]
    with torch.no_grad():
        given = [torch.stack([sample[key] for sample in samples]) for key in _GIVEN if key in samples[0]]
        predictions = run.model(*given).argmax(dim=1)
    draw_samples(
        [sample["image"] for sample in samples],
        [sample["mask"] for sample in samples],
        list(predictions),
        run.classes,
        run.folder / "samples.png",
    )
