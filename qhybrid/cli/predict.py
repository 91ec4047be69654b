"""`qhybrid predict`: map a whole scene with a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qhybrid.cli.console import progress_bar, say_path
from qhybrid.cli.evaluate import (
    RUN_HELP,
    Bands,
    Device,
    EngineOption,
    EngineOptions,
    Noise,
    Scale,
    Shots,
    WhichWeights,
    band_numbers,
    check_which,
    engine_config,
    scale_factor,
)
from qhybrid.cli.lookup import find_run
from qhybrid.config import PredictionConfig, validated


def predict(
    run: Annotated[str, typer.Argument(help=RUN_HELP)],
    scene: Annotated[Path, typer.Argument(help="A raster with the bands that the run was trained on.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The GeoTIFF to write.")],
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Also write a file with one band of probabilities a class."),
    ] = False,
    overlap: Annotated[
        float | None, typer.Option(help="Fraction of a window that neighbours share; otherwise the recipe's.")
    ] = None,
    engine: EngineOption = None,
    engine_option: EngineOptions = None,
    noise: Noise = None,
    shots: Shots = None,
    which: WhichWeights = "best",
    device: Device = "auto",
    bands: Bands = None,
    scale: Scale = None,
) -> None:
    """Map a scene of any size: overlapping windows, blended; the map keeps CRS, transform and nodata."""
    folder, weights = find_run(run), check_which(which)
    chosen = engine_config(engine, engine_option, noise, shots)
    numbers, factor = band_numbers(bands), scale_factor(scale)

    from qhybrid.inference import read_as, write_map
    from qhybrid.training import load_run

    loaded = read_as(load_run(folder, weights), bands=numbers, scale=factor)
    if chosen is not None:
        from qhybrid.engines import make_engine
        from qhybrid.models import use_engine

        use_engine(loaded.model, make_engine(**chosen.arguments()))
    settings = loaded.recipe.prediction
    if overlap is not None:
        settings = validated(PredictionConfig, {**settings.model_dump(), "overlap": overlap}, "--overlap")
    with progress_bar(scene.name) as progress:
        files = write_map(
            loaded,
            scene,
            output,
            probabilities=probabilities,
            settings=settings,
            device=device,
            progress=progress,
        )
    for file in files:
        say_path("map", file)
