"""`evaluate_run`: test a trained model on whole scenes, on any engine, and leave numbers and pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from qhybrid.config import EngineConfig, PredictionConfig
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.evaluation.baselines import score_baselines
from qhybrid.evaluation.common import check_folder, engine_of, evaluation_folder, provenance
from qhybrid.evaluation.report_files import write_report
from qhybrid.evaluation.scoring import Progress, score_scenes
from qhybrid.models import use_engine
from qhybrid.training.images.run import LoadedImageRun
from qhybrid.training.metrics import SegmentationMetrics
from qhybrid.training.run_folder import LoadedRun, Which, load_run
from qhybrid.workspace import data_root as default_data_root

SAMPLES = 4


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
    target = prepare(run, split, engine, output, which)
    dataset = open_dataset(run.recipe.data, default_data_root(data_root))
    scenes = dataset.scenes(split)
    settings = settings or run.recipe.prediction
    started = time.perf_counter()
    confusion, samples = score_scenes(
        run, scenes, settings=settings, device=device, samples=SAMPLES, progress=progress
    )
    facts = {
        **provenance(run, engine),
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


def prepare(
    run: LoadedRun | LoadedImageRun,
    split: str,
    engine: EngineConfig | None,
    output: str | Path | None,
    which: Which,
    layers: Sequence[str] | None = None,
) -> Path:
    """Put the quantum layers of a loaded run on the engine that is asked for; return where results go.

    Args:
        run: The run.
        split: Which split is evaluated.
        engine: What executes the circuits; the run's own engine if absent.
        output: Folder for the results; `evaluation_folder(...)` if absent.
        which: The weights that were asked for.
        layers: Dotted names of the quantum layers that run on `engine`; all of them if absent.

    Raises:
        ConfigError: If an engine is given, but the model has no quantum layers.
        EngineError: If the engine is unknown.
        WorkspaceError: If the results cannot be written.
    """
    chosen = engine or run.recipe.engine
    target = Path(output) if output else evaluation_folder(run.folder, split, chosen, which)
    check_folder(target)
    if engine is not None:
        use_engine(run.model, engine_of(engine), layers)
    return target


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
