"""`evaluate_run`: test a trained model on whole scenes, on any engine, and leave numbers and pictures."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch

import qhybrid
from qhybrid.config import EngineConfig, PredictionConfig
from qhybrid.data.registry import open_dataset
from qhybrid.engines import make_engine
from qhybrid.errors import WorkspaceError
from qhybrid.evaluation.baselines import score_baselines
from qhybrid.evaluation.report_files import write_report
from qhybrid.evaluation.scoring import Progress, score_scenes
from qhybrid.layers import quantum_layers
from qhybrid.models import use_engine
from qhybrid.training.metrics import SegmentationMetrics
from qhybrid.training.run_folder import LoadedRun, Which, load_run
from qhybrid.workspace import data_root as default_data_root

SAMPLES = 4


def evaluation_folder(folder: str | Path, split: str, engine: EngineConfig, which: Which = "best") -> Path:
    """Return where results go by default: `<run>/evaluation/<split>-<engine kind>`.

    Shots and weights other than the best are added to the name, so that such results stand beside each other.
    """
    parts = [split, engine.kind]
    if engine.shots is not None:
        parts.append(f"{engine.shots}-shots")
    if which != "best":
        parts.append(which)
    return Path(folder) / "evaluation" / "-".join(parts)


def evaluate_run(
    folder: str | Path,
    split: str = "test",
    engine: EngineConfig | None = None,
    data_root: str | Path | None = None,
    output: str | Path | None = None,
    which: Which = "best",
    progress: Progress | None = None,
    *,
    baselines: bool = False,
    settings: PredictionConfig | None = None,
    device: str | torch.device | None = None,
) -> SegmentationMetrics:
    """Evaluate a trained run on every scene of a split.

    Scenes are predicted by the windows and with the blending of `predict`; all pixels that have data and a
    label go into one confusion matrix. The output folder then holds metrics.json, metrics.csv (one row a
    class), confusion.png and samples.png.

    Args:
        folder: The run folder.
        split: `train`, `val` or `test`.
        engine: What executes the circuits; the run's own engine if absent.
        data_root: Folder that the recipe's `data.root` is relative to; QHYBRID_DATA or ./data if absent.
        output: Folder for the results; `evaluation_folder(...)` if absent.
        which: Weights of the best or of the last epoch.
        progress: Called with (windows done, windows of all scenes).
        baselines: Also evaluate the majority class and the colour classifier, into metrics.json.
        settings: Overlap and batch size; those of the run's recipe if absent.
        device: Where to run the model: "auto", "cpu", "cuda"; where it is loaded if absent.

    Returns:
        The metrics of the model.

    Raises:
        CheckpointError: If the run folder is incomplete or damaged.
        ConfigError: If an engine is given, but the model has no quantum layers.
        DataError: If the data set or one of its scenes is unusable.
        EngineError: If the engine is unknown or cannot execute the circuits.
        WorkspaceError: If the results cannot be written to `output`.
    """
    run = load_run(folder, which)
    target = Path(output) if output else evaluation_folder(folder, split, engine or run.recipe.engine, which)
    _check_folder(target)
    if engine is not None:
        use_engine(run.model, _make(engine))
    dataset = open_dataset(run.recipe.data, default_data_root(data_root))
    scenes = dataset.scenes(split)
    settings = settings or run.recipe.prediction
    started = time.perf_counter()
    confusion, samples = score_scenes(
        run, scenes, settings=settings, device=device, samples=SAMPLES, progress=progress
    )
    facts = {
        **_provenance(run, engine),
        "split": split,
        "scenes": [scene.id for scene in scenes],
        "window_size": run.patch_size,
        "prediction": settings.model_dump(mode="json"),
        "seconds": round(time.perf_counter() - started, 3),
    }
    metrics = confusion.compute()
    references = score_baselines(run, dataset.scenes("train"), scenes) if baselines else {}
    write_report(target, run.recipe.name, run.classes, facts, metrics, references, samples)
    return metrics


def evaluate_baselines(
    folder: str | Path, split: str = "test", data_root: str | Path | None = None
) -> dict[str, SegmentationMetrics]:
    """Evaluate the references alone, on the pixels that `evaluate_run` counts.

    Args:
        folder: The run folder, for its data section, classes and statistics.
        split: `train`, `val` or `test`.
        data_root: Folder that the recipe's `data.root` is relative to; QHYBRID_DATA or ./data if absent.

    Returns:
        Metrics of `majority_class` and `color_classifier`.

    Raises:
        CheckpointError: If the run folder is incomplete or damaged.
        DataError: If the data set or one of its scenes is unusable.
    """
    run = load_run(folder)
    dataset = open_dataset(run.recipe.data, default_data_root(data_root))
    return score_baselines(run, dataset.scenes("train"), dataset.scenes(split))


def _check_folder(target: Path) -> None:
    """Find out before the work, not after it, that results have no place to go."""
    existing = next(path for path in (target, *target.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise WorkspaceError(
            f"{target}: results need a folder that can be written, but {existing} is not one. Fix: choose "
            "another one."
        )


def _make(engine: EngineConfig) -> Any:
    return make_engine(engine.kind, shots=engine.shots, seed=engine.seed, **engine.options)


def _provenance(run: LoadedRun, engine: EngineConfig | None) -> dict[str, Any]:
    """Return which weights were evaluated, on which engines."""
    layers = {name: layer.engine.describe() for name, layer in quantum_layers(run.model).items()}
    return {
        "qhybrid": qhybrid.__version__,
        "run": run.recipe.name,
        "model": run.meta.model["name"],
        "which": run.which,
        "epoch": run.meta.epoch,
        "engine": (engine or run.recipe.engine).model_dump(mode="json") if layers else None,
        "quantum_layers": layers,
    }
