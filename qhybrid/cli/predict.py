"""`qhybrid predict`: map scenes with a trained run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.cli.console import errors, progress_bar, say, say_path, tell_warnings
from qhybrid.cli.evaluate import (
    RUN_HELP,
    Bands,
    Device,
    EngineOption,
    EngineOptions,
    Noise,
    Resolution,
    Scale,
    Shots,
    WhichWeights,
    band_numbers,
    check_which,
    engine_config,
    routed,
    scale_factor,
)
from qhybrid.cli.lookup import find_run
from qhybrid.config import EngineConfig, PredictionConfig, validated
from qhybrid.errors import ConfigError, DataError

if TYPE_CHECKING:
    from qhybrid.inference import MapOptions, MapOutcome, Products
    from qhybrid.training.run_folder import LoadedRun, Which


def predict(
    run: Annotated[str, typer.Argument(help=RUN_HELP)],
    scenes: Annotated[
        list[str],
        typer.Argument(
            help="Rasters with the bands that the run was trained on: files, URLs, folders, archives, or "
            "patterns in quotes."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The GeoTIFF to write, or a folder of maps named as scenes."),
    ],
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Also write a file with one band of probabilities a class."),
    ] = False,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Also write a file with the entropy in bits; with --draws also their standard deviation and "
            "disagreement.",
        ),
    ] = False,
    codes: Annotated[
        bool, typer.Option("--codes", help="Write mask values in place of class indices (0, 1, ...).")
    ] = False,
    file_format: Annotated[
        str, typer.Option("--format", help="cog (Cloud Optimized GeoTIFF with overviews) or gtiff (without).")
    ] = "cog",
    polygons: Annotated[
        str | None,
        typer.Option(help="Also write polygons: gpkg, geojson, or a file that ends so."),
    ] = None,
    simplify: Annotated[float, typer.Option(help="Tolerance of the polygons in pixels.")] = 1.0,
    min_area: Annotated[float, typer.Option(help="Least area of a polygon in square metres.")] = 0.0,
    preview: Annotated[
        bool, typer.Option("--preview", help="Also write an HTML page: the map over a basemap.")
    ] = False,
    bbox: Annotated[
        str | None, typer.Option(metavar="L,B,R,T", help="Map left,bottom,right,top of the scene alone.")
    ] = None,
    bbox_crs: Annotated[
        str | None, typer.Option(help="Coordinates of --bbox, as in EPSG:4326; otherwise the scene's.")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Fraction of a window that neighbours share; otherwise the recipe's.")
    ] = None,
    engine: EngineOption = None,
    engine_option: EngineOptions = None,
    noise: Noise = None,
    shots: Shots = None,
    draws: Annotated[
        int | None, typer.Option(help="Predictions from different shots; the map is that of their mean.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides all shots.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace maps that exist.")] = False,
    which: WhichWeights = "best",
    device: Device = "auto",
    bands: Bands = None,
    scale: Scale = None,
    resolution: Resolution = None,
) -> None:
    """Map scenes of any size: overlapping windows, blended; maps keep CRS, transform and nodata.

    A map that was interrupted goes on where it stopped when the same command is given again.
    """
    folder, weights = find_run(run), check_which(which)
    chosen = engine_config(engine, engine_option, noise, shots)
    read = {"bands": band_numbers(bands), "scale": scale_factor(scale), "resolution": resolution}

    from qhybrid.data.map_area import parse_box
    from qhybrid.data.raster_writer import check_format
    from qhybrid.inference import MapOptions, Products

    if bbox_crs is not None and bbox is None:
        raise typer.BadParameter("--bbox-crs needs --bbox")
    products = Products(polygons, simplify, min_area, preview)
    products.check()
    options = MapOptions(
        probabilities=probabilities,
        uncertainty=uncertainty,
        codes=codes,
        file_format=check_format(file_format),
        box=None if bbox is None else parse_box(bbox),
        box_crs=bbox_crs,
        draws=draws,
        seed=seed,
        overwrite=overwrite,
    )
    several = _several(scenes, output)
    _check_paths(scenes, output, several, options, products)
    loaded = _loaded(folder, weights, chosen, **read)
    settings = loaded.recipe.prediction
    if overlap is not None:
        settings = validated(PredictionConfig, {**settings.model_dump(), "overlap": overlap}, "--overlap")
    common = {"options": options, "products": products, "settings": settings, "device": device}
    with _told_warnings(), _hint_after_interrupt():
        if several:
            _map_many(loaded, scenes, output, common)
        else:
            _map_one(loaded, scenes[0], output, common)


def _several(scenes: list[str], output: Path) -> bool:
    """Return whether maps go to a folder: for several scenes, or where a single one is sent to a folder."""
    from qhybrid.inference import means_several

    return len(scenes) > 1 or means_several(scenes[0]) or output.is_dir() or not output.suffix


def _check_paths(
    scenes: list[str], output: Path, several: bool, options: MapOptions, products: Products
) -> None:
    """Find wrong names and files in the way before anything is loaded."""
    from qhybrid.data.locations import check_present
    from qhybrid.inference import check_output, find_scenes, map_places

    if not several:
        check_output(output)
        check_present(scenes[0])
        return
    if output.suffix.lower() in (".tif", ".tiff") or output.is_file():
        raise ConfigError(f"Maps of several scenes go to a folder, but --output is {output}.")
    if products.polygons is not None and Path(products.polygons).suffix:
        raise ConfigError(
            f"Polygons of several scenes need files of their own, but --polygons is {products.polygons}. "
            "Fix: --polygons gpkg, which names them as the maps."
        )
    map_places(find_scenes(scenes, output), output, options, products)


def _loaded(folder: Path, weights: Which, engine: EngineConfig | None, **reading: Any) -> LoadedRun:
    """Load the run; `reading` is what the user says of the scenes, as for `read_as`."""
    from qhybrid.inference import read_as
    from qhybrid.training import load_run

    loaded = read_as(load_run(folder, weights), **reading)
    chosen = routed(engine)
    if chosen is not None:
        from qhybrid.engines import make_engine
        from qhybrid.models import use_engine

        use_engine(loaded.model, make_engine(**chosen.arguments()))
    return loaded


def _map_one(run: LoadedRun, scene: str, output: Path, common: dict[str, Any]) -> None:
    from qhybrid.inference import map_one_scene

    with progress_bar(Path(scene).name) as progress:
        files = map_one_scene(run, scene, output, progress=progress, **common)
    for file in files:
        say_path("map", file)


def _map_many(run: LoadedRun, scenes: list[str], output: Path, common: dict[str, Any]) -> None:
    from qhybrid.inference import map_scenes

    with ExitStack() as stack:

        def progress(number: int, count: int, scene: Path) -> Any:
            stack.close()
            return stack.enter_context(progress_bar(f"{number}/{count} {scene.name}"))

        def done(outcome: MapOutcome) -> None:
            stack.close()
            if outcome.state == "failed":
                errors.print(f"failed      {outcome.scene}", markup=False, soft_wrap=True)
            else:
                say_path("map" if outcome.state == "mapped" else "kept", outcome.files[0])

        outcomes = map_scenes(run, scenes, output, progress=progress, done=done, **common)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    kept = sum(outcome.state == "kept" for outcome in outcomes)
    say(f"maps        {len(outcomes) - len(failed)} of {len(outcomes)}, {kept} of them finished before")
    if failed:
        shown = "\n".join(
            f"  {outcome.scene}: {outcome.reason.removeprefix(f'{outcome.scene}: ')}" for outcome in failed
        )
        raise DataError(f"{len(failed)} of {len(outcomes)} scenes could not be mapped:\n{shown}")


@contextmanager
def _told_warnings() -> Iterator[None]:
    """Print warnings as lines of their own, without the place in the code."""
    with warnings.catch_warnings():
        tell_warnings()
        yield


@contextmanager
def _hint_after_interrupt() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        errors.print(
            "Interrupted. What is finished is kept: the same command goes on where it stopped.",
            markup=False,
            soft_wrap=True,
        )
        raise
