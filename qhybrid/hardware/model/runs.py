"""Workloads of run folders: a trained model and samples of a split of its data set."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import nn

from qhybrid.engines import make_engine
from qhybrid.errors import CheckpointError, DataError, HardwareError
from qhybrid.evaluation import load_subject, load_trained
from qhybrid.evaluation.subject.subject import input_of
from qhybrid.hardware.model.kept_files import check_kept
from qhybrid.hardware.model.workload import SAMPLES_FILE, Samples, Workload
from qhybrid.layers import quantum_layers
from qhybrid.metrics import SCENES
from qhybrid.models import use_engine
from qhybrid.training.images.run import LoadedImageRun
from qhybrid.training.run_folder import META, RECIPE, WEIGHTS, Which, existing
from qhybrid.workspace import data_root as default_data_root

MODEL = "model"
"""Folder in a plan that holds what its model is rebuilt from, as a run folder does."""
OTHERS, EXACT = "others", "exact"
"""Key of a plan's origin that says what executes the layers that do not go to the device, and its value."""


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
    origin = origin_of(root, split, limit, which)
    if limit is not None and limit < 1:
        raise HardwareError(f"The number of samples must be at least 1, but is {limit}. Fix: --limit 1.")
    place = default_data_root(data_root).absolute()
    subject = load_subject(root, which, split, None, place)
    origin["data"] = {
        "root": str(place),
        "hash": subject.identify().hash,
        "input": input_of(subject.run),
    }
    found = subject.inputs(limit)
    if found is None:
        raise HardwareError(f"Split `{split}` must have labelled samples, but has none. Fix: another split.")
    samples = Samples(
        found.images, found.targets, found.names, subject.class_names, subject.task, found.token_maps
    )
    origin[OTHERS] = EXACT
    return Workload(_on_exact_engine(subject.model), samples, origin)


def _on_exact_engine(model: nn.Module) -> nn.Module:
    """Let layers that do not go to the device have exact values, as in sweeps, not the recipe's noise.

    Shots would also give other angles to what is behind them whenever a plan is opened.
    """
    return use_engine(model, make_engine(EXACT)) if quantum_layers(model) else model


def data_hash_of(origin: Mapping[str, Any], run: Path, data_root: str | Path) -> str | None:
    """Return the identity of the data that a plan's samples are taken from, as they are now.

    Args:
        origin: What the plan notes about where its workload comes from.
        run: The run folder.
        data_root: Folder that the recipe's `data.root` is relative to.

    Returns:
        A hash; None if the data are not there, or cannot be told.
    """
    try:
        subject = load_subject(run, cast(Which, origin["which"]), origin["split"], None, data_root)
        return subject.identify().hash
    except DataError:
        return None


def origin_of(run: Path, split: str, limit: int | None, which: Which) -> dict[str, Any]:
    """Return what a plan notes about where its workload comes from, but for the identity of its data."""
    return {"run": str(run.resolve()), "which": existing(run, which), "split": split, "limit": limit}


def save_model(origin: Mapping[str, Any], folder: Path) -> None:
    """Copy what a trained model is rebuilt from into a plan: later training must not change the plan.

    Args:
        origin: What the plan notes about where its workload comes from; of a model that comes from no run
            folder nothing is kept.
        folder: The plan's folder.
    """
    if "run" not in origin:
        return
    run, which = Path(origin["run"]), str(origin["which"])
    for name in (RECIPE, f"{which}/{META}", f"{which}/{WEIGHTS}"):
        target = folder / MODEL / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / name, target)


def load_workload(content: dict[str, Any], folder: Path) -> Workload:
    """Return the workload of a plan: model and samples are the plan's own.

    Plans of earlier versions have no model of their own: theirs is that of the run folder. Those that do not
    say so have layers beside those of the device on the recipe's engine.

    Args:
        content: The plan's plan.json.
        folder: The plan's folder.

    Raises:
        HardwareError: If the plan does not come from a run folder.
        CheckpointError: If its model, or the run folder, is incomplete or damaged.
    """
    origin = content["origin"]
    if "run" not in origin:
        raise HardwareError(
            f"{folder} must name the run folder of its model, but does not. Fix: open the plan from "
            "Python with the model, open_plan(folder, load)."
        )
    check_kept(folder, content, f"{MODEL}/", SAMPLES_FILE)
    own = folder / MODEL
    root = own if (own / RECIPE).is_file() else _run_folder(Path(origin["run"]), folder)
    run = load_trained(root, cast(Which, origin["which"]))
    task = run.task if isinstance(run, LoadedImageRun) else SCENES
    samples = Samples.load(folder, tuple(content["samples"]), tuple(content["class_names"]), task)
    model = _on_exact_engine(run.model) if origin.get(OTHERS) == EXACT else run.model
    return Workload(model, samples, origin)


def check_data(content: dict[str, Any], folder: Path) -> None:
    """Check, before anything is sent, that the data of a plan are those of the run now.

    Plans of earlier versions do not say what their data were. Where the data are not on this machine the
    plan's samples are all there is.

    Args:
        content: The plan's plan.json.
        folder: The plan's folder.

    Raises:
        HardwareError: If they have changed.
    """
    origin = content["origin"]
    planned = origin.get("data")
    if "run" not in origin or planned is None or planned["hash"] is None:
        return
    try:
        found = data_hash_of(origin, _run_folder(Path(origin["run"]), folder), planned["root"])
    except CheckpointError:
        return  # without the run there is nothing to compare with
    if found is not None and found != planned["hash"]:
        raise HardwareError(
            f"{folder}: the data must be those that the plan was made of, but split `{origin['split']}` in "
            f"{planned['root']} has changed since: results would be of other samples than the run's. Fix: "
            "put the data back, or make a new plan; --changed-data goes on with the samples that the plan "
            "keeps."
        )


def _run_folder(recorded: Path, plan: Path) -> Path:
    """Return the run folder that a plan lies in, wherever it was moved; else the recorded one."""
    inside = plan.resolve().parent.parent
    return inside if (inside / "recipe.yaml").is_file() else recorded
