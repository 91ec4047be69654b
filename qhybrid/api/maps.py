"""Maps of one scene or of many, from one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qhybrid.cluster import check_scheduler, opened
from qhybrid.config import EngineConfig, PredictionConfig, validated
from qhybrid.config.numbers import whole_number
from qhybrid.data.locations import check_present
from qhybrid.data.map_area import parse_box
from qhybrid.data.raster_writer import check_format
from qhybrid.errors import ConfigError, DataError
from qhybrid.inference import (
    MapOptions,
    MapOutcome,
    Products,
    SceneModel,
    Spread,
    check_output,
    find_scenes,
    map_one_scene,
    map_places,
    map_scenes,
    means_several,
)
from qhybrid.plugins import near_name
from qhybrid.workspace import data_below

if TYPE_CHECKING:
    from qhybrid.training.run_folder import Which

SceneProgress = Callable[[int, int, Path], Callable[[int, int], None] | None]
"""Called before each scene with its number, the number of all and the scene; returns what is told of it."""


@dataclass(frozen=True)
class MapRequest:
    """Which scenes are mapped where, and what is written; all of it checked before a model is loaded.

    Attributes:
        scenes: Files, URLs, folders, archives, patterns.
        output: A GeoTIFF, or a folder of maps that are named as their scenes.
        options: What is mapped and how it is written.
        products: What is made of each map.
    """

    scenes: tuple[str, ...]
    output: Path
    options: MapOptions
    products: Products

    @classmethod
    def of(cls, scenes: Sequence[str], output: str | Path, keywords: Mapping[str, Any]) -> MapRequest:
        """Return a checked request.

        Args:
            scenes: As in the attributes.
            output: As in the attributes.
            keywords: Fields of `MapOptions` and `Products` by name; `box` may be a text, as in
                `0,0,100,50` (left, bottom, right, top).

        Raises:
            ConfigError: If a keyword is unknown or its value wrong.
            DataError: If there are no such scenes.
            WorkspaceError: If a file is in the way.
        """
        values = dict(keywords)
        names = {one.name: kind for kind in (MapOptions, Products) for one in fields(kind)}
        for name in values:
            if name not in names:
                raise ConfigError(
                    f"Argument `{name}` is not known.{near_name(name, names)} Known ones: {', '.join(names)}."
                )
        if values.get("box_crs") is not None and values.get("box") is None:
            raise ConfigError("Argument `box_crs` must come with `box`, but there is none.")
        if isinstance(values.get("box"), str):
            values["box"] = parse_box(values["box"])
        for name, least in (("draws", 2), ("seed", 0)):
            if values.get(name) is not None:
                values[name] = whole_number(name, values[name], least)
        if "file_format" in values:
            values["file_format"] = check_format(values["file_format"])
        products = Products(**{key: value for key, value in values.items() if names[key] is Products})
        products.check()
        options = MapOptions(**{key: value for key, value in values.items() if names[key] is MapOptions})
        request = cls(tuple(scenes), Path(output), options, products)
        request._check_paths()
        return request

    @property
    def several(self) -> bool:
        """Whether maps go to a folder: for several scenes, or where a single one is sent to a folder."""
        several = len(self.scenes) > 1 or means_several(self.scenes[0])
        return several or self.output.is_dir() or not self.output.suffix

    def _check_paths(self) -> None:
        """Find wrong names and files in the way."""
        if not self.scenes:
            raise ConfigError("Argument `scenes` must name a scene at least, but is empty.")
        if not self.several:
            check_output(self.output)
            check_present(self.scenes[0])
            return
        if self.output.suffix.lower() in (".tif", ".tiff") or self.output.is_file():
            raise ConfigError(f"Maps of several scenes go to a folder, but the output is {self.output}.")
        if self.products.polygons is not None and Path(self.products.polygons).suffix:
            raise ConfigError(
                f"Polygons of several scenes need files of their own, but `polygons` is "
                f"{self.products.polygons}. Fix: gpkg or geojson, which names them as the maps."
            )
        map_places(find_scenes(self.scenes, self.output), self.output, self.options, self.products)

    def write(
        self,
        run: SceneModel,
        *,
        overlap: float | None = None,
        device: str = "auto",
        progress: SceneProgress | None = None,
        done: Callable[[MapOutcome], None] | None = None,
        scheduler: str | None = None,
        source: RunSource | None = None,
    ) -> list[MapOutcome]:
        """Map the scenes; maps that are finished are kept, and one that was interrupted goes on.

        Args:
            run: The trained model.
            overlap: Fraction of a window that neighbours share; that of the run's recipe if absent.
            device: Where to run the model: auto, cpu or cuda.
            progress: Told of each scene before it is mapped.
            done: Told of each scene after that.
            scheduler: Dask cluster that does the work; see `qhybrid.cluster.opened`.
            source: How its workers load the model; needed with a scheduler.

        Returns:
            What became of each scene.

        Raises:
            DataError: If scenes could not be mapped; the others are, and `done` was told of all.
            WorkspaceError: If the cluster has gone; what is finished is kept.
        """
        settings = run.recipe.prediction
        if overlap is not None:
            content = {**settings.model_dump(), "overlap": overlap}
            settings = validated(PredictionConfig, content, "argument overlap")
        common: dict[str, Any] = {
            "options": self.options,
            "products": self.products,
            "settings": settings,
            "device": device,
        }
        with _spread(scheduler, source, device) as spread:
            return self._write(run, progress, done, {**common, "spread": spread})

    def _write(
        self,
        run: SceneModel,
        progress: SceneProgress | None,
        done: Callable[[MapOutcome], None] | None,
        common: dict[str, Any],
    ) -> list[MapOutcome]:
        if self.several:
            outcomes = map_scenes(run, self.scenes, self.output, progress=progress, done=done, **common)
            _check_all_mapped(outcomes)
            return outcomes
        scene = Path(self.scenes[0])
        told = None if progress is None else progress(1, 1, scene)
        files = map_one_scene(run, self.scenes[0], self.output, progress=told, **common)
        outcome = MapOutcome(scene, files, "mapped")
        if done is not None:
            done(outcome)
        return [outcome]


@dataclass(frozen=True)
class RunSource:
    """How a trained model is loaded for mapping, in this process or in a worker of a cluster.

    Attributes:
        folder: The run folder.
        which: Weights of the best or of the last epoch.
        engine: What executes the circuits, as JSON; None for what the run was trained with.
        bands: Numbers of the scenes' bands in the model's order; None for those by name.
        scale: Factor that turns the scenes' numbers into those of training.
        resolution: Metres a pixel that scenes are resampled to.
        data_root: Folder that weights of others are looked up in.
    """

    folder: Path
    which: Which
    engine: str | None
    bands: tuple[int, ...] | None
    scale: float | None
    resolution: float | None
    data_root: Path

    def __call__(self) -> SceneModel:
        """Load the model.

        Raises:
            QHybridError: If the folder is damaged, or an option does not fit.
        """
        from qhybrid.inference import read_as
        from qhybrid.training import load_run

        with data_below(self.data_root):
            loaded = load_run(self.folder, self.which)
            run = read_as(loaded, bands=self.bands, scale=self.scale, resolution=self.resolution)
            engine = None if self.engine is None else EngineConfig.model_validate_json(self.engine)
            return executed_by(run, engine)


@contextmanager
def _spread(scheduler: str | None, source: RunSource | None, device: str) -> Iterator[Spread | None]:
    """Open a cluster; nothing without a scheduler."""
    if scheduler is None or source is None:
        yield None
        return
    check_scheduler(scheduler)
    with opened(scheduler=scheduler) as pool:
        yield Spread(pool, source, device)


def _check_all_mapped(outcomes: Sequence[MapOutcome]) -> None:
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        shown = "\n".join(
            f"  {outcome.scene}: {outcome.reason.removeprefix(f'{outcome.scene}: ')}" for outcome in failed
        )
        raise DataError(f"{len(failed)} of {len(outcomes)} scenes could not be mapped:\n{shown}")


def executed_by(run: SceneModel, engine: EngineConfig | None) -> SceneModel:
    """Have the circuits of a loaded run executed by another engine.

    Args:
        run: The loaded run; its model is changed.
        engine: The engine, for all layers or those that it names; None for the one that it has.
    """
    if engine is not None:
        from qhybrid.engines import make_engine
        from qhybrid.models import use_engine_alone

        use_engine_alone(run.model, make_engine(**engine.arguments()), engine.layers)
    return run
