"""`qhybrid predict`: map scenes with a trained run."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qhybrid.api.lookup import find_run
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
from qhybrid.cluster import SCHEDULER_HELP

if TYPE_CHECKING:
    from qhybrid.inference import MapOutcome


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
    scheduler: Annotated[str | None, typer.Option(help=SCHEDULER_HELP)] = None,
) -> None:
    """Map scenes of any size: overlapping windows, blended; maps keep CRS, transform and nodata.

    A map that was interrupted goes on where it stopped when the same command is given again.
    """
    folder, weights = find_run(run), check_which(which)
    chosen = routed(engine_config(engine, engine_option, noise, shots))
    numbers, factor = band_numbers(bands), scale_factor(scale)

    from qhybrid.api import Run
    from qhybrid.data.map_area import parse_box

    if bbox_crs is not None and bbox is None:
        raise typer.BadParameter("--bbox-crs needs --bbox")
    several = output.is_dir() or not output.suffix
    with _told_warnings(), _hint_after_interrupt(), _Progress(several) as progress:
        Run(folder).predict(
            scenes,
            output,
            engine=chosen,
            overlap=overlap,
            which=weights,
            bands=numbers,
            scale=factor,
            resolution=resolution,
            device=device,
            progress=progress.begin,
            done=progress.end,
            scheduler=scheduler,
            probabilities=probabilities,
            uncertainty=uncertainty,
            codes=codes,
            file_format=file_format,
            box=None if bbox is None else parse_box(bbox),
            box_crs=bbox_crs,
            draws=draws,
            seed=seed,
            overwrite=overwrite,
            polygons=polygons,
            simplify=simplify,
            min_area=min_area,
            preview=preview,
        )


class _Progress:
    """Shows a bar for the scene that is mapped, and says what became of each."""

    def __init__(self, several: bool) -> None:
        self._bar, self._states, self._several = ExitStack(), Counter[str](), several
        self._count = 1

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._bar.close()
        if self._several and self._states and kind is not KeyboardInterrupt:
            finished = sum(self._states.values()) - self._states["failed"]
            say(f"maps        {finished} of {self._count}, {self._states['kept']} of them finished before")

    def begin(self, number: int, count: int, scene: Path) -> Any:
        """Begin with a scene."""
        self._bar.close()
        self._count = count
        name = f"{number}/{count} {scene.name}" if self._several else scene.name
        return self._bar.enter_context(progress_bar(name))

    def end(self, outcome: MapOutcome) -> None:
        """Say what became of a scene."""
        self._bar.close()
        self._states[outcome.state] += 1
        if outcome.state == "failed":
            errors.print(f"failed      {outcome.scene}", markup=False, soft_wrap=True)
            return
        say_path("map" if outcome.state == "mapped" else "kept", outcome.files[0])
        for file in () if self._several else outcome.files[1:]:
            say_path(_content(file, outcome.files[0]), file)


def _content(file: Path, of: Path) -> str:
    """Return what a file beside a map holds, in a word."""
    if file.stem.startswith(f"{of.stem}_"):
        return file.stem.removeprefix(f"{of.stem}_")
    return "preview" if file.suffix == ".html" else "polygons"


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
