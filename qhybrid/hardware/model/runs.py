"""Workloads of run folders: a trained model and samples of a split of its data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from qhybrid.data.images.image_datasets import is_image_dataset, open_image_dataset
from qhybrid.data.patches import GridPatches
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.errors import HardwareError
from qhybrid.hardware.model.workload import Samples, Workload
from qhybrid.training.images.run import load_image_run
from qhybrid.training.run_folder import Which, existing, load_run, read_recipe
from qhybrid.workspace import data_root as default_data_root


def workload_of_run(
    run: str | Path,
    split: str = "test",
    limit: int | None = None,
    which: Which = "best",
    data_root: str | Path | None = None,
) -> Workload:
    """Return a trained model with samples of a split.

    Args:
        run: The run folder.
        split: `train`, `val` or `test`.
        limit: Number of samples, spread evenly over the split; all if absent. Of scenes a sample is a window
            of the training patch size with a label in it.
        which: Weights of the best or of the last epoch.
        data_root: Folder that the recipe's `data.root` is relative to; QHYBRID_DATA or ./data if absent.

    Raises:
        CheckpointError: If the run folder is incomplete or damaged.
        DataError: If the data set is unusable.
        HardwareError: If the split is empty, or the model has no quantum layers.
    """
    root = Path(run)
    recipe = read_recipe(root)
    origin = origin_of(root, split, limit, which)
    if is_image_dataset(recipe.data.dataset):
        loaded = load_image_run(root, which)
        arrays = open_image_dataset(recipe.data, default_data_root(data_root)).load(split)
        chosen = arrays.select(_spread(len(arrays), limit))
        samples = Samples(chosen.images, chosen.targets, chosen.ids, loaded.class_names)
        return Workload(loaded.model, samples, origin)
    return Workload(*_windows(root, split, limit, which, data_root), origin)


def origin_of(run: Path, split: str, limit: int | None, which: Which) -> dict[str, Any]:
    """Return what a plan notes about where its workload comes from."""
    return {"run": str(run.resolve()), "which": existing(run, which), "split": split, "limit": limit}


def load_workload(content: dict[str, Any], folder: Path) -> Workload:
    """Return the workload of a plan: the model from its run folder, the samples from the plan's.

    Args:
        content: The plan's plan.json.
        folder: The plan's folder.

    Raises:
        HardwareError: If the plan does not come from a run folder.
        CheckpointError: If the run folder is incomplete or damaged.
    """
    origin = content["origin"]
    if "run" not in origin:
        raise HardwareError(
            f"{folder} must name the run folder of its model, but does not. Fix: open the plan from "
            "Python with the model, open_plan(folder, load)."
        )
    root = _run_folder(Path(origin["run"]), folder)
    which = cast(Which, origin["which"])
    kind = load_image_run if is_image_dataset(read_recipe(root).data.dataset) else load_run
    samples = Samples.load(folder, tuple(content["samples"]), tuple(content["class_names"]))
    return Workload(kind(root, which).model, samples, origin)


def _run_folder(recorded: Path, plan: Path) -> Path:
    """Return the run folder that a plan lies in, wherever it was moved; else the recorded one."""
    inside = plan.resolve().parent.parent
    return inside if (inside / "recipe.yaml").is_file() else recorded


def _spread(count: int, limit: int | None) -> list[int]:
    """Return `limit` of `count` indices, evenly spread."""
    if limit is not None and limit < 1:
        raise HardwareError(f"The number of samples must be at least 1, but is {limit}. Fix: --limit 1.")
    wanted = count if limit is None else min(count, limit)
    return [int(index) for index in np.linspace(0, count - 1, wanted).round()] if count else []


def _windows(
    root: Path, split: str, limit: int | None, which: Which, data_root: str | Path | None
) -> tuple[Any, Samples]:
    run = load_run(root, which)
    scenes = open_dataset(run.recipe.data, default_data_root(data_root)).scenes(split)
    patches = GridPatches(scenes, run.classes, run.statistics, run.recipe.data, run.patch_size)
    chosen: dict[int, Any] = {}
    wanted = _spread(len(patches), limit)
    for index in [*wanted, *(i for i in range(len(patches)) if i not in set(wanted))]:
        if len(chosen) == len(wanted):
            break
        patch = patches[index]
        if bool((patch["mask"] != 255).any()):
            chosen[index] = patch
    order = sorted(chosen)
    if not order:
        raise HardwareError(
            f"Split `{split}` must have windows with labels, but has none. Fix: another split."
        )
    names = [f"{scenes[n].id}:{w.row}:{w.col}" for n, w in (patches.windows[index] for index in order)]
    samples = Samples(
        torch.stack([chosen[index]["image"] for index in order]),
        torch.stack([chosen[index]["mask"] for index in order]),
        tuple(names),
        tuple(run.classes.names),
    )
    return run.model, samples
