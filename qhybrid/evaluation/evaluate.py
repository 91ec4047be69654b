"""`evaluate_run`: test a trained run on a split, on any engine, and leave numbers and pictures."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qhybrid.config import EngineConfig, PredictionConfig
from qhybrid.errors import ConfigError
from qhybrid.evaluation.common import (
    METRICS,
    check_folder,
    engine_of,
    provenance,
    routed_to_its_device,
    seeded,
)
from qhybrid.evaluation.diagnosis.short import short_diagnosis
from qhybrid.evaluation.official import check_output, result_folder
from qhybrid.evaluation.other_data import On, find_other_data
from qhybrid.evaluation.subject.load import load_subject, load_trained, subject_of
from qhybrid.evaluation.subject.results import Evaluation, Options, Progress
from qhybrid.evaluation.subject.subject import input_of
from qhybrid.inference import read_as
from qhybrid.models import use_engine_alone
from qhybrid.training.run_folder import Which
from qhybrid.workspace import data_root as default_data_root
from qhybrid.workspace import write_text

CIRCUIT_USE = "circuit_use"
"""Key of the short diagnosis in metrics.json."""


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
    layers: Sequence[str] | None = None,
    bands: Sequence[int] | None = None,
    scale: float | None = None,
    resolution: float | None = None,
    on: On | None = None,
    diagnose: bool = False,
) -> Evaluation:
    """Evaluate a trained run on every scene or image of a split.

    Scenes are predicted by the windows and with the blending of `predict`; all pixels that have data and a
    label go into one confusion matrix. The output folder then holds metrics.json, confusion.png and
    samples.png, and metrics.csv (scenes, one row a class) or predictions.csv (one row an image).

    Official results are those on the data that the run was trained with. Where others lie at `data_root`, or
    are given by `on`, the results go to a folder of their own.

    Args:
        folder: The run folder.
        split: `train`, `val` or `test`.
        engine: What executes the circuits, fixed filters included; the run's own engine if absent. Under the
            noise profile of a device circuits are routed to it.
        data_root: Folder that the recipe's `data.root` is relative to; QHYBRID_DATA or ./data if absent.
        output: Folder for the results; `evaluation_folder(...)` if absent. The result says which in `folder`.
        which: Weights of the best or of the last epoch; a run on images without validation has last ones.
        progress: Called with (windows or images done, all of them).
        baselines: Also evaluate references, into metrics.json: on scenes the majority class and colour alone,
            on whole images those of `image_baselines`.
        settings: Overlap and batch size of scenes; those of the run's recipe if absent.
        device: Where to run the model: "auto", "cpu", "cuda"; where it is loaded if absent.
        layers: Dotted names of the quantum layers that run on `engine`, the others on the exact one without
            noise, as in recipes and sweeps; those of the engine's section, else all, if absent.
        bands: 1-based numbers of the scenes' bands, in the model's order; by names or place if absent.
        scale: What the scenes' numbers are multiplied with; what the files say if absent (`read_as`).
        resolution: Metres a pixel that scenes and masks are resampled to; what the recipe says if absent.
        on: Other data: a recipe or its file, or a folder of images and masks; see `find_other_data`.
        diagnose: Also find out on a few samples whether the model uses its circuits, into metrics.json as
            `circuit_use`; see `short_diagnosis`. No metric changes.

    Returns:
        The result; `found["miou"]` is a metric of it.

    Raises:
        CheckpointError: If the run folder is incomplete or damaged.
        ConfigError: If an engine is given, but the model has no quantum layers; if baselines are asked for on
            other data, or these have a class that the model does not know.
        DataError: If the data set, a scene or an image is unusable.
        EngineError: If the engine is unknown or cannot execute the circuits.
        MetricError: If a metric of a plugin has failed; everything else is written, and is the error's
            `evaluation`.
        WorkspaceError: If the results cannot be written to `output`.
    """
    layers = None if layers is None else _checked_layers(layers, engine)
    if layers is None and engine is not None:
        layers = engine.layers
    run = read_as(load_trained(folder, which), bands=bands, scale=scale, resolution=resolution)
    engine = None if engine is None else routed_to_its_device(engine)
    chosen = engine or run.recipe.engine
    if engine is not None and layers is not None:
        chosen = engine.model_copy(update={"layers": tuple(layers)})
    root = default_data_root(data_root)
    other = None if on is None else find_other_data(on, run, root)
    if other is not None and baselines:
        raise ConfigError(
            "Argument `baselines` must be left out with `on`: baselines are fitted to the run's own data."
        )
    check_folder(Path(output) if output else run.folder)
    executed = seeded(engine or run.recipe.engine, run.recipe.seed)
    if engine is not None:
        use_engine_alone(run.model, engine_of(executed), layers)
    elif executed != run.recipe.engine:
        use_engine_alone(run.model, engine_of(executed), executed.layers)
    subject = subject_of(run, split, None, root, other)
    where = root if other is None or other.folder is None else other.folder
    digest = subject.identify().hash
    name = None if other is None else other.name
    target, name = result_folder(run.folder, split, chosen, which, digest, name, where, run.recipe.seed)
    reading = {
        **({} if bands is None else {"bands": list(bands)}),
        **({} if scale is None else {"scale": scale}),
        **({} if resolution is None else {"resolution": resolution}),
    }
    if reading:  # the result of the scenes as they are stays
        # A scale of 2 has another name than band 2.
        parts = [*(() if bands is None else map(str, bands)), *(() if scale is None else (f"x{scale:.6g}",))]
        parts += [] if resolution is None else [f"{resolution:.6g}m"]
        target = target.with_name(f"{target.name}-read-as-{'_'.join(parts)}")
    if output:
        check_output(Path(output), target, apart=name is not None or bool(reading))
        target = Path(output)
    options = Options(settings, device, progress, as_trained=True)
    if not baselines:
        _warn_of_lost_baselines(target)
    references = subject.baselines() if baselines else {}
    started = time.perf_counter()
    found = subject.evaluate(options)
    seconds = time.perf_counter() - started
    facts = {
        **provenance(run, None if engine is None else chosen),
        **subject.facts(options),
        "on": name,
        "data_root": str(where.absolute()),
        "data_hash": digest,
        "input": input_of(run),
        **({"read_as": reading} if reading else {}),
        "seconds": round(seconds, 3),
        "metrics": plain_metrics(found.metrics),
        **({} if found.intervals is None else {"intervals": found.intervals.to_dict()}),
    }
    if found.measured.failed:
        facts["metrics_failed"] = found.measured.failed
    subject.write_report(target, facts, found, references)
    found = replace(found, folder=target, on=name)
    if diagnose and (use := short_diagnosis(subject, seconds)) is not None:
        found = replace(found, circuit_use=use)
        _add_to_metrics(target, use)
    found.measured.check(found)
    return found


def _checked_layers(layers: Sequence[str], engine: EngineConfig | None) -> tuple[str, ...]:
    """Return the layers that an engine executes; a single text is one of them.

    Raises:
        ConfigError: If there is no engine, or no layer: what was asked for would be left undone.
    """
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    if engine is None or not names:
        wrong = "is empty" if engine is not None else "stands without one"
        raise ConfigError(
            f"Argument `layers` must say which quantum layers another engine executes, but {wrong}. Fix: "
            "name some and give `engine`, `noise` or `shots`, or leave it out."
        )
    return names


def _warn_of_lost_baselines(folder: Path) -> None:
    """Say that an earlier result had references and the one in its place will have none."""
    try:
        had = json.loads((folder / METRICS).read_text(encoding="utf-8")).get("baselines")
    except (OSError, ValueError, AttributeError):
        return
    if had:
        warnings.warn(
            f"{folder / METRICS} has references ({', '.join(had)}) that this evaluation replaces and does "
            "not measure. Fix: evaluate with `--baselines` (argument `baselines`) to have them again.",
            stacklevel=3,
        )


def _add_to_metrics(folder: Path, use: dict[str, Any]) -> None:
    """Add the use of circuits to metrics.json, which is complete without it."""
    content = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    write_text(folder / METRICS, json.dumps({**content, CIRCUIT_USE: use}, indent=2) + "\n")


def plain_metrics(metrics: dict[str, float]) -> dict[str, float | None]:
    """Return metrics for a JSON file: undefined values are None."""
    return {key: value if abs(value) < float("inf") else None for key, value in metrics.items()}


def evaluate_baselines(
    folder: str | Path, split: str = "test", data_root: str | Path | None = None
) -> Mapping[str, Any]:
    """Evaluate the references alone, on the pixels or images that `evaluate_run` counts.

    Args:
        folder: The run folder, for its data section, classes and statistics.
        split: `train`, `val` or `test`.
        data_root: Folder that the recipe's `data.root` is relative to; QHYBRID_DATA or ./data if absent.

    Returns:
        By name: `SegmentationMetrics` of `majority_class` and `color_classifier` on scenes, else each a
        `ScoredBaseline`.

    Raises:
        CheckpointError: If the run folder is incomplete or damaged.
        DataError: If the data set or one of its scenes is unusable.
    """
    return load_subject(folder, "best", split, None, default_data_root(data_root)).baselines()
