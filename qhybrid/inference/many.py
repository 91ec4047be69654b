"""Maps of many scenes: finished ones are kept, and one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from qhybrid.config import PredictionConfig
from qhybrid.errors import QHybridError, WorkspaceError
from qhybrid.inference.companions import companion_paths
from qhybrid.inference.map_options import MapOptions, map_files
from qhybrid.inference.map_writing import MapJob, check_options, prepare_map
from qhybrid.inference.products import Products
from qhybrid.inference.scene import DEFAULT_MEMORY_MB
from qhybrid.inference.scene_model import SceneModel, place_model
from qhybrid.inference.scene_places import find_scenes, map_places
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
            job = prepare_map(run, scene, places[scene], wanted, settings, None, max_memory_mb)
            job = replace(job, products=products.files(job.files[0]))
            products.check_scene(job)
            if not job.finished:
                job.check_free()
            products.check_free(job)
            jobs[scene] = job
        return jobs[scene]

    _check_existing(found, places, wanted, products, prepared)
    outcomes = []
    for number, scene in enumerate(found, start=1):
        report = progress(number, len(found), scene) if progress else None
        outcome = _map_one(run, scene, prepared, products, device, report)
        outcomes.append(outcome)
        if done is not None:
            done(outcome)
    return outcomes


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
) -> MapOutcome:
    try:
        job = prepared(scene)
        files = (*job.files, *products.files(job.files[0]))
        if job.finished and not products.missing(job):
            return MapOutcome(scene, files, "kept")
        if not job.finished:
            job.make(run, device, report)
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
) -> tuple[Path, ...]:
    """Map one scene and make polygons and page of it; see `write_map` and `Products`.

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
        job.make(run, device, progress)
    products.make(job, run.classes)
    return (*job.files, *products.files(job.files[0]))
