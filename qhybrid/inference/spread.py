"""Maps by many processes: a scene in bands of rows, or many scenes one by one, with the bytes of one process.

A band is computed from all windows that touch it, in the order and the batches in which one process would
take them, so that every sum has the same rounding. Windows that reach over the edge of two bands are
predicted twice: one row of windows in eight, where windows overlap by half. Workers write their bands beside
the map in work, whole or not at all, and this process puts them into it from top to bottom. What is there is
never computed again, whoever has died.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from qhybrid.cluster import Answer, Job, Pool
from qhybrid.data.raster import Window
from qhybrid.data.raster_writer import BLOCK
from qhybrid.errors import DataError, WorkspaceError
from qhybrid.inference.map_writing import Layer, MapJob, Predict, prepare_map
from qhybrid.inference.part_folder import BAND, PartFolder, RawRaster
from qhybrid.inference.scene import iterate_probabilities, planned_strips
from qhybrid.inference.scene_model import SceneModel, check_window_size, scene_grid, window_cache
from qhybrid.inference.walk import Progress
from qhybrid.inference.windows import axis_starts

WINDOWS_A_BAND = 8
"""Rows of windows from one cut to the next: whoever makes a map, its bands are the same."""

Source = Callable[[], SceneModel]
"""Loads the model, in whatever process; it must be picklable, and equal to others that load the same."""


@dataclass(frozen=True)
class Band:
    """Some rows of a strip of columns, counted in the scene.

    Attributes:
        begin: First column.
        end: One past the last column.
        row: First row.
        height: Number of rows.
    """

    begin: int
    end: int
    row: int
    height: int

    def files(self, folder: Path, layers: int) -> list[Path]:
        """Return the files of a finished band, one a layer; the first of them appears last."""
        return [folder / f"{BAND}{self.begin}_{self.row}_{number}.raw" for number in range(layers)]

    def before(self, position: tuple[int, int]) -> bool:
        """Return whether all of it lies before a position of the map in work."""
        return (self.begin, self.row + self.height) <= position


def plan_bands(run: SceneModel, job: MapJob) -> list[Band]:
    """Return the bands of a map, strip by strip, from top to bottom."""
    size = check_window_size(run, job.window_size)
    grid = scene_grid(run, job.image)
    rows = axis_starts(grid.height, size, job.settings.overlap)
    columns = axis_starts(grid.width, size, job.settings.overlap)
    channels = run.classes.num_classes * (job.options.draws or 1)
    strips = planned_strips(columns, job.area, size, channels, job.max_memory_mb)
    first, last = job.area.row, job.area.row + job.area.height
    inside = [row for row in rows if first < row < last]
    cuts = [first, *inside[WINDOWS_A_BAND - 1 :: WINDOWS_A_BAND], last]
    return [Band(begin, end, top, bottom - top) for begin, end in strips for top, bottom in pairwise(cuts)]


@dataclass(frozen=True)
class Spread:
    """Where maps are made: processes, and how they come to the model.

    Attributes:
        pool: The processes.
        source: Loads the model there.
        device: Where they run it.
    """

    pool: Pool
    source: Source
    device: str = "auto"

    def predict(self, run: SceneModel) -> Predict:
        """Return what has the rasters of a map filled by the processes.

        Args:
            run: The model, as it is here.
        """
        return lambda job, part, layers, progress: self._fill(run, job, part, layers, progress)

    def _fill(
        self,
        run: SceneModel,
        job: MapJob,
        part: PartFolder,
        layers: Sequence[Layer],
        progress: Progress | None,
    ) -> None:
        rasters, bands = job.rasters(part, layers), plan_bands(run, job)
        waiting = [band for band in bands if not band.before(part.position)]
        missing = [band for band in waiting if not band.files(part.path, len(layers))[0].is_file()]

        def tell() -> None:
            if progress is not None:
                progress(len(bands) - len(missing), len(bands))

        def put_in_place() -> None:
            while waiting and waiting[0].files(part.path, len(layers))[0].is_file():
                _merge(waiting.pop(0), job, part, rasters)

        put_in_place()
        tell()
        by_key = {str(number): band for number, band in enumerate(bands)}
        numbers = {band: key for key, band in by_key.items()}
        work = [self._job(job, part, band, f"{job.key[:16]}-{numbers[band]}") for band in missing]
        for answer in self.pool.run(work, map_band):
            if "error" in answer:
                raise WorkspaceError(
                    f"{job.image}: a part of the map could not be computed on {self.pool.where}: "
                    f"{answer['error']}. Fix: see to its workers (memory, versions, paths), and give the "
                    "same command: it goes on with what is missing."
                )
            missing.remove(by_key[answer["key"].rpartition("-")[2]])
            put_in_place()
            tell()
        if waiting:
            raise WorkspaceError(
                f"{part.path}: all parts of the map were computed, but {len(waiting)} of them are not there. "
                f"Fix: have the workers of {self.pool.where} see the same files at the same paths."
            )

    def _job(self, job: MapJob, part: PartFolder, band: Band, key: str) -> Job:
        return {
            "key": key,
            "source": self.source,
            "device": self.device,
            "map": _plain(job),
            "expected": job.key,
            "folder": part.path.absolute(),
            "band": band,
        }


def absolute(scene: Path) -> Path:
    """Return a path that holds in another process; names that GDAL resolves stay as they are."""
    return scene.absolute() if type(scene) is type(Path()) else scene


def _plain(job: MapJob) -> dict[str, Any]:
    """Return the arguments of `prepare_map`."""
    return {
        "image": absolute(job.image),
        "output": job.files[0].absolute(),
        "options": job.options,
        "settings": job.settings,
        "window_size": job.window_size,
        "max_memory_mb": job.max_memory_mb,
    }


def _merge(band: Band, job: MapJob, part: PartFolder, rasters: Sequence[RawRaster]) -> None:
    """Put a finished band into the map; its files go when the map is known to have it."""
    files = band.files(part.path, len(rasters))
    for raster, file in zip(rasters, files):
        found = raster.opened_like(file, band.height, band.end - band.begin)
        try:
            for row, col, values in found.chunks(BLOCK):
                raster.write(values, row + band.row - job.area.row, col + band.begin - job.area.col)
        finally:
            found.close()
    part.note((band.begin, band.row + band.height), force=True)
    for file in files:
        file.unlink()


_MODELS: dict[tuple[Source, str], SceneModel] = {}
_JOBS: dict[str, MapJob] = {}


def loaded_model(source: Source, expected: str) -> SceneModel:
    """Return the model of a source, loaded once in a process.

    Args:
        source: Loads it.
        expected: What tells the models of a source apart, which may be trained anew.
    """
    if (source, expected) not in _MODELS:
        _MODELS.clear()
        _MODELS[source, expected] = source()
    return _MODELS[source, expected]


def map_band(job: Job) -> Answer:
    """Compute a band in a worker process, and write its files."""
    run = loaded_model(job["source"], job["expected"])
    if job["expected"] not in _JOBS:
        _JOBS.clear()
        _JOBS[job["expected"]] = prepare_map(run, **job["map"])
    own, band, folder = _JOBS[job["expected"]], job["band"], job["folder"]
    if own.key != job["expected"]:
        _JOBS.clear()
        raise DataError(
            f"{own.image}: every worker must have the run and the scene of the process that gives the work, "
            "but one has others at these paths. Fix: share them, or copy them anew; give all the same "
            "versions."
        )
    layers = own.layers(run)
    files = band.files(folder, len(layers))
    drafts = [file.with_name(f"draft_{uuid.uuid4().hex}.raw") for file in files]
    rasters = [
        RawRaster(draft, len(bands.names), band.height, band.end - band.begin, bands.dtype)
        for draft, (bands, _) in zip(drafts, layers)
    ]
    try:
        _compute(run, own, band, layers, rasters, job["device"])
    except BaseException:
        for draft in drafts:
            draft.unlink(missing_ok=True)
        raise
    finally:
        for raster in rasters:
            raster.close()
    for draft, file in reversed(list(zip(drafts, files))):
        draft.replace(file)
    return {"key": job["key"]}


def _compute(
    run: SceneModel,
    own: MapJob,
    band: Band,
    layers: Sequence[Layer],
    rasters: Sequence[RawRaster],
    device: str,
) -> None:
    blocks = iterate_probabilities(
        run,
        own.image,
        settings=own.settings,
        window_size=own.window_size,
        device=device,
        max_memory_mb=own.max_memory_mb,
        area=Window(band.row, own.area.col, band.height, own.area.width),
        draws=own.options.draws,
        seed=own.options.seed,
        strip=(band.begin, band.end),
    )
    with window_cache(run, own.image, check_window_size(run, own.window_size)):
        for block in blocks:
            for raster, (_, values) in zip(rasters, layers):
                raster.write(values(block), block.row - band.row, block.col - band.begin)
    for raster in rasters:
        raster.flush()
