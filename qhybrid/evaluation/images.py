"""`evaluate_image_run`: test a model that was trained on whole images, on any engine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qhybrid.config import EngineConfig
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.evaluation.common import provenance
from qhybrid.evaluation.evaluate import prepare
from qhybrid.evaluation.image_report import write_image_report
from qhybrid.evaluation.scoring import Progress
from qhybrid.inference.scene_model import place_model
from qhybrid.layers import cached_features
from qhybrid.training.images.data_module import evaluation_batch
from qhybrid.training.images.metrics import ImageMetrics, ImageScores, class_logits
from qhybrid.training.images.run import LoadedImageRun, load_image_run
from qhybrid.training.run_folder import Which
from qhybrid.workspace import data_root as default_data_root

_SCORED_AT_ONCE = 64


def evaluate_image_run(
    folder: str | Path,
    split: str = "test",
    engine: EngineConfig | None = None,
    data_root: str | Path | None = None,
    output: str | Path | None = None,
    which: Which = "best",
    progress: Progress | None = None,
    *,
    device: str | torch.device | None = None,
    layers: Sequence[str] | None = None,
) -> ImageMetrics:
    """Evaluate a run on every image of a split.

    The output folder then holds metrics.json, predictions.csv (one row an image), confusion.png and
    samples.png.

    Args:
        folder: The run folder.
        split: `train`, `val` or `test`.
        engine: What executes the circuits, fixed filters included; the run's own engine if absent.
        data_root: Folder that the recipe's `data.root` is relative to; QHYBRID_DATA or ./data if absent.
        output: Folder for the results; `evaluation_folder(...)` if absent.
        which: Weights of the best or of the last epoch; a run without validation has last ones only.
        progress: Called with (images done, images in all).
        device: Where to run the model: "auto", "cpu", "cuda"; where it is loaded if absent.
        layers: Dotted names of the quantum layers that run on `engine`; all of them if absent.

    Returns:
        The metrics.

    Raises:
        CheckpointError: If the run folder is incomplete or damaged, or of a run on scenes.
        ConfigError: If an engine is given, but the model has no quantum layers.
        DataError: If the data set is unusable.
        EngineError: If the engine is unknown or cannot execute the circuits.
        WorkspaceError: If the results cannot be written to `output`.
    """
    run = load_image_run(folder, which)
    target = prepare(run, split, engine, output, which, layers)
    dataset = open_image_dataset(run.recipe.data, default_data_root(data_root))
    arrays = dataset.load(split)
    started = time.perf_counter()
    logits = torch.cat(list(predict_images(run, arrays.images, device, progress)))
    probabilities = class_logits(logits).softmax(dim=1)
    metrics = score_images(run, logits, arrays.targets)
    facts = {
        **provenance(run, engine),
        "data": run.recipe.data.model_dump(mode="json", include={"dataset", "options"}),
        "split": split,
        "seconds": round(time.perf_counter() - started, 3),
    }
    write_image_report(target, run, facts, metrics, arrays, probabilities)
    return metrics


def score_images(run: LoadedImageRun, logits: Tensor, targets: Tensor) -> ImageMetrics:
    """Return the metrics of predictions.

    Args:
        run: Whose predictions they are.
        logits: Shape (N, K) or (N, K, H, W).
        targets: Shape (N,) or (N, H, W).
    """
    scores = ImageScores(run.task, run.class_names)
    for start in range(0, len(targets), _SCORED_AT_ONCE):
        part = slice(start, start + _SCORED_AT_ONCE)
        scores.update(logits[part], targets[part])
    return scores.compute()


def predict_images(
    run: LoadedImageRun,
    images: Tensor,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Yield the logits of images, batch by batch, on the CPU.

    Args:
        run: The trained model.
        images: Shape (N, C, H, W), values in [0, 1].
        device: Where to run the model: "auto", "cpu", "cuda"; where it is loaded if absent.
        progress: Called with (images done, images in all).
    """
    place = place_model(run, device)
    inputs, network = images, run.model
    if hasattr(run.model, "forward_features"):
        filtered: Any = run.model
        inputs, network = cached_features(filtered.quanvolution, images.to(place)), filtered.forward_features
    size = evaluation_batch(run.task, run.recipe.training.batch_size)
    for start in range(0, len(inputs), size):
        with torch.inference_mode():
            logits: Tensor = network(inputs[start : start + size].to(place))
        yield logits.float().cpu()
        if progress is not None:
            progress(min(start + size, len(inputs)), len(inputs))
