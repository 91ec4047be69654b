"""Maps of many scenes: finished ones are kept, and one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from qhybrid.cluster import Answer, Job
from qhybrid.config import PredictionConfig
from qhybrid.errors import DataError, QHybridError, WorkspaceError
from qhybrid.inference.companions import companion_paths
from qhybrid.inference.map_key import model_key
from qhybrid.inference.map_options import MapOptions, map_files
from qhybrid.inference.map_writing import MapJob, Predict, check_options, prepare_map
from qhybrid.inference.products import Products
from qhybrid.inference.scene import DEFAULT_MEMORY_MB
from qhybrid.inference.scene_model import SceneModel, place_model
from qhybrid.inference.scene_places import find_scenes, map_places
from qhybrid.inference.spread import Spread, absolute, loaded_model
from qhybrid.inference.walk import Progress


@dataclass(frozen=True)
class MapOutcome:
    """What became of a scene.

    Attributes:
        scene: The scene.
        files: Its map and what is made of it.
        state: `mapped`, `kept` (it was finished before) or `failed`.
        reason: Why it failed; else empty.
    """

    scene: Path
    files: tuple[Path, ...]
    state: Literal["mapped", "kept", "failed"]
    reason: str = ""


def map_scenes(
    run: SceneModel,
    scenes: Sequence[str | Path],
    folder: str | Path,
    *,
    options: MapOptions | None = None,
    products: Products | None = None,
    settings: PredictionConfig | None = None,
    device: str | torch.device | None = None,
    max_memory_mb: float = DEFAULT_MEMORY_MB,
    progress: Callable[[int, int, Path], Progress | None] | None = None,
    done: Callable[[MapOutcome], None] | None = None,
    spread: Spread | None = None,
) -> list[MapOutcome]:
    """Map scenes into a folder; a second call maps what is not finished.

    A finished map is kept if weights, content of the scene and settings are those it was made with.

    Args:
        run: The trained model.
        scenes: As for `find_scenes`.
        folder: Where maps go.
        options: What is mapped and how it is written.
        products: What is made of each map.
        settings: Overlap and batch size; those of the run's recipe if absent.
        device: Where to run the model.
        max_memory_mb: Bound of the memory for blending, in MiB.
        progress: Called with (number of the scene from 1, number of all, scene) before each scene; returns
            what `write_map` is to report to.
        done: Called after each scene.
        spread: Processes that do the work: a scene each, or, where there are fewer scenes than processes,
            all of them together one scene after the other. Files are the same as without.

    Returns:
        What became of each scene, in order.

    Raises:
        ConfigError: If a setting is out of range, or two maps would have one name.
        DataError: If there are no scenes.
        WorkspaceError: If another map is in the place of one of them, and `overwrite` is not asked for.
    """
    wanted, products = options or MapOptions(), products or Products()
    products.check()
    check_options(run, wanted)
    place_model(run, device)
    found = find_scenes(scenes, Path(folder))
    places = map_places(found, folder, wanted, products)

    jobs: dict[Path, MapJob] = {}

    def prepared(scene: Path) -> MapJob:
        if scene not in jobs:
            jobs[scene] = _prepared(run, scene, places[scene], wanted, products, settings, max_memory_mb)
        return jobs[scene]

    _check_existing(found, places, wanted, products, prepared)
    if spread is not None and len(found) >= spread.pool.workers:
        return _side_by_side(
            spread, run, found, places, (wanted, products, settings, max_memory_mb), progress, done
        )
    predict = None if spread is None else spread.predict(run)
    outcomes = []
    for number, scene in enumerate(found, start=1):
        report = progress(number, len(found), scene) if progress else None
        outcome = _map_one(run, scene, prepared, products, device, report, predict)
        outcomes.append(outcome)
        if done is not None:
            done(outcome)
    return outcomes


def _prepared(
    run: SceneModel,
    scene: Path,
    place: Path,
    options: MapOptions,
    products: Products,
    settings: PredictionConfig | None,
    max_memory_mb: float,
) -> MapJob:
    """Return the job of a scene, whose files are in nobody's way."""
    job = prepare_map(run, scene, place, options, settings, None, max_memory_mb)
    job = replace(job, products=products.files(job.files[0]))
    products.check_scene(job)
    if not job.finished:
        job.check_free()
    products.check_free(job)
    return job


def _side_by_side(
    spread: Spread,
    run: SceneModel,
    scenes: Sequence[Path],
    places: dict[Path, Path],
    wanted: tuple[MapOptions, Products, PredictionConfig | None, float],
    progress: Callable[[int, int, Path], Progress | None] | None,
    done: Callable[[MapOutcome], None] | None,
) -> list[MapOutcome]:
    """Have each scene mapped by one of several processes."""
    common = {"wanted": wanted, "device": spread.device, "source": spread.source, "expected": model_key(run)}
    name = model_key(run)[:16]
    jobs: list[Job] = [
        {**common, "key": f"{name}-{number}", "scene": absolute(scene), "place": places[scene].absolute()}
        for number, scene in enumerate(scenes)
    ]
    by_key = {job["key"]: scene for job, scene in zip(jobs, scenes)}
    outcomes: dict[Path, MapOutcome] = {}
    for answer in spread.pool.run(jobs, map_scene_job):
        scene = by_key[answer["key"]]
        found = answer.get("outcome") or MapOutcome(scene, (), "failed", str(answer["error"]))
        outcomes[scene] = replace(found, scene=scene)
        if progress is not None:
            progress(len(outcomes), len(scenes), scene)
        if done is not None:
            done(outcomes[scene])
    return [outcomes[scene] for scene in scenes]


def map_scene_job(job: Job) -> Answer:
    """Map a scene in a worker process."""
    run = loaded_model(job["source"], job["expected"])
    options, products, settings, memory = job["wanted"]
    if model_key(run) != job["expected"]:
        raise DataError(
            f"{run.recipe.name}: every worker must have the run of the process that gives the work, but one "
            "has another at its path. Fix: share it, or copy it anew; give all the same versions."
        )

    def prepared(scene: Path) -> MapJob:
        return _prepared(run, scene, job["place"], options, products, settings, memory)

    place_model(run, job["device"])
    return {"key": job["key"], "outcome": _map_one(run, job["scene"], prepared, products, None, None)}


def _check_existing(
    scenes: Sequence[Path],
    places: dict[Path, Path],
    options: MapOptions,
    products: Products,
    prepared: Callable[[Path], MapJob],
) -> None:
    """Find out before the first scene whether a file is in the way; scenes that fail do so in their turn."""
    for scene in scenes:
        files = (*map_files(places[scene], options), *products.files(places[scene]))
        if not any(file.exists() for file in (*files, *companion_paths(places[scene]))):
            continue
        try:
            prepared(scene)
        except WorkspaceError:
            raise
        except QHybridError:
            continue


def _map_one(
    run: SceneModel,
    scene: Path,
    prepared: Callable[[Path], MapJob],
    products: Products,
    device: str | torch.device | None,
    report: Progress | None,
    predict: Predict | None = None,
) -> MapOutcome:
    try:
        job = prepared(scene)
        files = (*job.files, *products.files(job.files[0]))
        if job.finished and not products.missing(job):
            return MapOutcome(scene, files, "kept")
        if not job.finished:
            job.make(run, device, report, predict)
        products.make(job, run.classes)
    except Exception as error:  # of whatever kind: the other scenes are independent of it
        named = str(error) if isinstance(error, QHybridError) else f"{type(error).__name__}: {error}"
        return MapOutcome(scene, (), "failed", named)
    return MapOutcome(scene, files, "mapped")


def map_one_scene(
    run: SceneModel,
    scene: str | Path,
    output: str | Path,
    *,
    options: MapOptions | None = None,
    products: Products | None = None,
    settings: PredictionConfig | None = None,
    device: str | torch.device | None = None,
    max_memory_mb: float = DEFAULT_MEMORY_MB,
    progress: Progress | None = None,
    spread: Spread | None = None,
) -> tuple[Path, ...]:
    """Map one scene and make polygons and page of it; see `write_map` and `Products`.

    With `spread` several processes map it together.

    Returns:
        The files written, the map first.

    Raises:
        ConfigError: If a setting is out of range.
        DataError: If the scene cannot be used.
        WorkspaceError: If a file exists already, or cannot be written.
    """
    wanted, products = options or MapOptions(), products or Products()
    products.check()
    job = prepare_map(run, scene, output, wanted, settings, None, max_memory_mb)
    job = replace(job, products=products.files(job.files[0]))
    products.check_scene(job)
    # Of a map that is there already, by the same command or one without products, these alone are made.
    made = job.finished and bool(products.missing(job))
    if not made:
        job.check_free()
    products.check_free(job)
    if not made:
        job.make(run, device, progress, None if spread is None else spread.predict(run))
    products.make(job, run.classes)
    return (*job.files, *products.files(job.files[0]))
