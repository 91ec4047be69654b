"""From a scene file to map files: classes, and class probabilities and uncertainty if wanted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from qhybrid.config import PredictionConfig
from qhybrid.data.deciding_files import deciding_files
from qhybrid.data.locations import as_location
from qhybrid.data.map_area import box_window, part_of
from qhybrid.data.map_bands import MapBands, class_bands, code_table, probability_bands
from qhybrid.data.raster import RasterInfo, Window
from qhybrid.data.raster_writer import BLOCK, MapWriter, check_format, read_tags, sidecar_path
from qhybrid.errors import ConfigError, WorkspaceError
from qhybrid.inference.companions import companions_of_another
from qhybrid.inference.map_key import TAG, map_key
from qhybrid.inference.map_options import MapOptions, check_output, map_files
from qhybrid.inference.part_folder import PartFolder, RawRaster, open_part, part_path, read_state
from qhybrid.inference.scene import DEFAULT_MEMORY_MB, ProbabilityBlock, iterate_probabilities
from qhybrid.inference.scene_model import SceneModel, check_window_size, scene_grid, window_cache
from qhybrid.inference.uncertainty import uncertainty as uncertainty_of
from qhybrid.inference.uncertainty import uncertainty_bands
from qhybrid.inference.walk import Progress, check_draws, random_engines
from qhybrid.version import __version__

Layer = tuple[MapBands, Callable[[ProbabilityBlock], NDArray[Any]]]
"""The bands of one file, and what computes them of a finished block."""
Predict = Callable[["MapJob", PartFolder, Sequence[Layer], "Progress | None"], None]
"""Fills the raw rasters of a map."""


def write_map(
    run: SceneModel,
    image: str | Path,
    output: str | Path,
    *,
    probabilities: bool = False,
    options: MapOptions | None = None,
    settings: PredictionConfig | None = None,
    window_size: int | None = None,
    device: str | torch.device | None = None,
    max_memory_mb: float = DEFAULT_MEMORY_MB,
    progress: Progress | None = None,
) -> tuple[Path, ...]:
    """Predict a scene and write its map: a tiled, compressed GeoTIFF on the scene's grid.

    A map that was interrupted, or whose process was killed, goes on where it stopped when the same map is
    asked for again, and ends as the same bytes. What is finished waits in a hidden folder beside the map.

    Args:
        run: The trained model.
        image: The scene.
        output: The map: one band of class indices (uint8) or mask values, with colour table, 255 or another
            free value where there is no data. It keeps CRS and transform; or ground control points or RPCs,
            with a warning.
        probabilities: Also write `probabilities_path(output)`: one float32 band a class, NaN without data.
        options: What else is wanted; `probabilities` there or here.
        settings: Overlap and batch size; those of the run's recipe if absent.
        window_size: Side of the windows in pixels; the training patches' if absent.
        device: Where to run the model: "auto", "cpu", "cuda"; where it already is if absent.
        max_memory_mb: Bound of the memory for blending, in MiB.
        progress: Called with (windows done, windows in all) after each batch.

    Returns:
        The files written; each appears whole or not at all.

    Raises:
        ConfigError: If a setting is out of range, or `output` is no GeoTIFF or one of the input files.
        DataError: If the scene cannot be read or has other bands than the model needs.
        WorkspaceError: If a file exists already, or cannot be written.
    """
    wanted = options or MapOptions()
    if probabilities and not wanted.probabilities:
        wanted = replace(wanted, probabilities=True)
    job = prepare_map(run, image, output, wanted, settings, window_size, max_memory_mb)
    job.check_free()
    return job.make(run, device, progress)


@dataclass(frozen=True)
class MapJob:
    """One map to be made, all of whose settings have been checked.

    Attributes:
        image: The scene.
        files: The files to write, the map itself first.
        options: What is wanted.
        settings: How windows are predicted.
        window_size: Side of the windows.
        max_memory_mb: Bound of the memory for blending, in MiB.
        area: The part of the scene.
        like: Grid of the map.
        key: Hash of all that decides the map.
        products: The files that will be made of the map.
    """

    image: Path
    files: tuple[Path, ...]
    options: MapOptions
    settings: PredictionConfig
    window_size: int | None
    max_memory_mb: float
    area: Window
    like: RasterInfo
    key: str
    products: tuple[Path, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether all files are there, and are of this very map.

        A process that was killed between moving a file and the names of its classes leaves its part folder.
        """
        ours = all(file.is_file() and read_tags(file).get(TAG) == self.key for file in self.files)
        return ours and not self.begun

    @property
    def begun(self) -> bool:
        """Whether this very map is in work, in this process or one that has ended."""
        return read_state(self.files[0], self.key) is not None

    def check_free(self) -> None:
        """Check that no file of another map would be lost.

        Raises:
            WorkspaceError: If one is there and `overwrite` was not asked for.
        """
        if self.options.overwrite:
            return
        for file in self.files:
            # A process that was killed between two files of one map has left the first of them.
            ours = self.begun and read_tags(file).get(TAG) == self.key
            if file.exists() and not ours:
                raise WorkspaceError(
                    f"{file} exists already and would be lost. Fix: choose another name, or ask for it "
                    "(--overwrite)."
                )
        left = self._of_another_map()
        if left:
            raise WorkspaceError(
                f"{left[0]} was made with another map of this name, and would stand beside one that it does "
                "not belong to. Fix: choose another name, move it away, or ask for it to be removed "
                "(--overwrite)."
            )

    def _of_another_map(self) -> list[Path]:
        return companions_of_another(self.files[0], self.key, (*self.files, *self.products))

    def make(
        self,
        run: SceneModel,
        device: str | torch.device | None = None,
        progress: Progress | None = None,
        predict: Predict | None = None,
    ) -> tuple[Path, ...]:
        """Predict and write; go on where an earlier process has stopped.

        Args:
            run: The trained model.
            device: Where to run it; see `write_map`.
            progress: See `write_map`.
            predict: Fills the rasters, in place of this process.
        """
        if self.like.irregular is not None:
            warnings.warn(
                f"{self.image}: the scene is not on a regular grid: {self.like.irregular} place its pixels. "
                "The map keeps them; warp it (gdalwarp) to measure or overlay it.",
                stacklevel=2,
            )
        layers = self.layers(run)
        if part_path(self.files[0]).exists() and not self.begun:
            warnings.warn(
                f"{self.files[0]}: another map was begun here (other weights, scene or settings); it is "
                "made anew.",
                stacklevel=2,
            )
        with open_part(self.files[0], self.key) as part:
            if predict is not None:
                predict(self, part, layers, progress)
            else:
                with window_cache(run, self.image, check_window_size(run, self.window_size)):
                    self._predict(run, part, layers, device, progress)
            self._write(run, part, [bands for bands, _ in layers])
        return self.files

    def layers(self, run: SceneModel) -> list[Layer]:
        """Return the bands of each file, and what computes them of a finished block."""
        bands = class_bands(run.classes, self.options.codes)
        table = code_table(bands)
        layers: list[Layer] = [(bands, lambda block: table[block.labels()])]
        if self.options.probabilities:
            layers.append((probability_bands(run.classes), lambda block: block.probabilities))
        if self.options.uncertainty:
            layers.append(
                (
                    uncertainty_bands(self.options.draws),
                    lambda block: uncertainty_of(block.probabilities, block.draws),
                )
            )
        return layers

    def _predict(
        self,
        run: SceneModel,
        part: PartFolder,
        layers: Sequence[Layer],
        device: str | torch.device | None,
        progress: Progress | None,
    ) -> None:
        rasters = self.rasters(part, layers)
        blocks = iterate_probabilities(
            run,
            self.image,
            settings=self.settings,
            window_size=self.window_size,
            device=device,
            max_memory_mb=self.max_memory_mb,
            progress=progress,
            area=self.area,
            draws=self.options.draws,
            seed=self.options.seed,
            start=part.position,
        )
        for block in blocks:
            for raster, (_, values) in zip(rasters, layers):
                raster.write(values(block), block.row - self.area.row, block.col - self.area.col)
            part.note((block.col, block.row + len(block.valid)))
        part.note(part.position, force=True)

    def rasters(self, part: PartFolder, layers: Sequence[Layer]) -> list[RawRaster]:
        """Open the raw rasters of a map in work, one a layer."""
        size = self.like.height, self.like.width
        return [part.raster(len(bands.names), *size, bands.dtype) for bands, _ in layers]

    def _write(self, run: SceneModel, part: PartFolder, layers: Sequence[MapBands]) -> None:
        """Turn the raw rasters into the files of the map, and then move all of them to their places."""
        tags = {"QHYBRID_VERSION": __version__, "QHYBRID_RUN": run.recipe.name, TAG: self.key}
        finished = [part.path / file.name for file in self.files]
        empty = True
        for raster, bands, target in zip(part.rasters, layers, finished):
            with MapWriter(
                target,
                self.like,
                run.classes,
                tags=tags,
                bands=bands,
                file_format=self.options.file_format,
            ) as writer:
                for row, col, values in raster.chunks(BLOCK):
                    empty &= not bands.categorical or bool((values == bands.nodata).all())
                    writer.write(values[0] if bands.categorical else values, row, col)
        for source, file in zip(finished, self.files):
            for made, place in ((source, file), (sidecar_path(source), sidecar_path(file))):
                if made.exists():
                    made.replace(place)
                else:
                    place.unlink(missing_ok=True)  # of a map that was here before
        if empty:
            where = "scene" if self.options.box is None else "scene in the box"
            warnings.warn(
                f"{self.image}: no pixel of the {where} has data, so that none of the map has a class. Fix: "
                "look at its nodata values and masks (gdalinfo).",
                stacklevel=4,
            )
        left = self._of_another_map()
        for file in left:
            file.unlink()
            sidecar_path(file).unlink(missing_ok=True)
        if left:
            warnings.warn(
                f"{self.files[0]}: the map that was here before is replaced; what was made with it and not "
                f"asked for again is removed: {', '.join(file.name for file in left)}.",
                stacklevel=4,
            )


def check_options(run: SceneModel, options: MapOptions, window_size: int | None = None) -> None:
    """Check what is wanted against a model; no scene is needed.

    Raises:
        ConfigError: If the model cannot be mapped so.
    """
    check_format(options.file_format)
    class_bands(run.classes, options.codes)
    check_draws(options.draws, random_engines(run))
    check_window_size(run, window_size)


def prepare_map(
    run: SceneModel,
    image: str | Path,
    output: str | Path,
    options: MapOptions,
    settings: PredictionConfig | None = None,
    window_size: int | None = None,
    max_memory_mb: float = DEFAULT_MEMORY_MB,
) -> MapJob:
    """Check everything about a map before time is spent on it; see `write_map`.

    Raises:
        ConfigError: If a setting is out of range, or a file to write is the scene itself or no GeoTIFF.
        DataError: If the scene cannot be read or has other bands than the model needs.
    """
    files = map_files(check_output(output), options)
    place = as_location(image)
    read = {file.resolve() for file in deciding_files(place).files.values()}
    for file in files:
        if file.resolve() in read:
            raise ConfigError(
                f"Argument `output` must not be the scene itself or one of its files, but {file} is. Fix: "
                "choose another name."
            )
    check_options(run, options, window_size)
    info = scene_grid(run, image)
    area = Window(0, 0, info.height, info.width)
    if options.box is not None:
        area = box_window(info, options.box, options.box_crs)
    chosen = settings or run.recipe.prediction
    plain = {name: value for name, value in options.__dict__.items() if name != "overwrite"}
    size = check_window_size(run, window_size)
    key = map_key(run, image, chosen, **plain, area=list(area), window_size=size, max_memory_mb=max_memory_mb)
    return MapJob(place, files, options, chosen, window_size, max_memory_mb, area, part_of(info, area), key)
