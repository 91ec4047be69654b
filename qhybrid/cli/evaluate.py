"""`qhybrid evaluate`: metrics of a trained run on a split, on any engine."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qhybrid.api.lookup import find_recipe, find_run
from qhybrid.cli.console import (
    Reference,
    evaluation_table,
    progress_bar,
    references_table,
    say,
    say_circuit_use,
    say_path,
    say_table,
)
from qhybrid.cli.hashing import hashing_bar
from qhybrid.cli.train import DATA_ROOT_HELP
from qhybrid.config import EngineConfig, apply_overrides, validated
from qhybrid.workspace import data_root as find_data_root

if TYPE_CHECKING:
    from qhybrid.training.run_folder import Which

RUN_HELP = "A run folder, or runs/NAME for its newest run."
EngineOption = Annotated[
    str | None,
    typer.Option(help="Engine that executes the circuits, as in aer; otherwise the recipe's."),
]
EngineOptions = Annotated[
    list[str] | None, typer.Option("--engine-option", help="Option of the engine, as in method=statevector.")
]
Noise = Annotated[
    str | None, typer.Option(help="Noise profile: a YAML file, or a name that `qhybrid noise list` shows.")
]
Shots = Annotated[int | None, typer.Option(help="Shots of every measured basis; otherwise exact values.")]
Device = Annotated[str, typer.Option(help="Where the model runs: auto, cpu or cuda.")]
Bands = Annotated[
    str | None,
    typer.Option(
        "--bands", help="Numbers of the scenes' bands in the model's order, as in 3,2,1; otherwise by name."
    ),
]
Scale = Annotated[
    str | None,
    typer.Option(
        "--scale", help="Factor that turns the scenes' numbers into those of training, as in 1/257 or 255."
    ),
]
Resolution = Annotated[
    float | None,
    typer.Option(help="Metres a pixel that scenes are resampled to; otherwise as the recipe says."),
]
Diagnose = Annotated[
    bool,
    typer.Option(
        "--diagnose/--no-diagnose",
        help="End with a line on whether the model uses its circuits, of few samples.",
    ),
]
WhichWeights = Annotated[str, typer.Option("--which", help="Weights of the `best` or of the `last` epoch.")]


def evaluate(
    run: Annotated[str, typer.Argument(help=RUN_HELP)],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    engine: EngineOption = None,
    engine_option: EngineOptions = None,
    noise: Noise = None,
    shots: Shots = None,
    which: WhichWeights = "best",
    data_root: Annotated[Path | None, typer.Option(help=DATA_ROOT_HELP)] = None,
    output: Annotated[Path | None, typer.Option(help="Folder for metrics and pictures.")] = None,
    device: Device = "auto",
    on: Annotated[
        str | None,
        typer.Option(help="Judge on other data: a recipe, or a folder of images and masks."),
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Also score references: majority class and colour alone; of classes of images also nearest "
            "neighbour, linear model and RBF-SVM.",
        ),
    ] = False,
    bands: Bands = None,
    scale: Scale = None,
    resolution: Resolution = None,
    diagnose: Diagnose = True,
) -> None:
    """Evaluate a trained run on all scenes or images of a split: one confusion matrix."""
    folder = find_run(run)
    chosen = engine_config(engine, engine_option, noise, shots)
    weights = check_which(which)
    numbers, factor = band_numbers(bands), scale_factor(scale)

    from qhybrid.api import Run
    from qhybrid.errors import MetricError
    from qhybrid.metrics import CLASSIFICATION
    from qhybrid.training.run_folder import read_recipe

    recipe = read_recipe(folder)
    chosen = routed(chosen)
    other = on if on is None or Path(on).exists() else find_recipe(on)
    failed = None
    with progress_bar(f"{split} split") as progress, hashing_bar():
        try:
            found = Run(folder).evaluate(
                split,
                engine=chosen,
                data_root=find_data_root(data_root),
                output=output,
                which=weights,
                progress=progress,
                baselines=baselines,
                device=device,
                bands=numbers,
                scale=factor,
                resolution=resolution,
                on=other,
                diagnose=diagnose,
            )
        except MetricError as error:
            failed, found = error, error.evaluation
    target = found.folder
    references = read_references(target) if baselines else {}
    title = f"{split} split" if found.on is None else f"{found.on}, {split} split"
    beside = {} if found.task == CLASSIFICATION else {name: one for name, (one, _) in references.items()}
    say_table(evaluation_table(title, recipe.name, found, beside))
    if references and not beside:
        say_table(references_table("references on the same images", references))
    say_circuit_use(found)
    if vit := json.loads((target / "metrics.json").read_text(encoding="utf-8")).get("frozen_vit"):
        say(f"{'frozen ViT':<12}{vit}")
    say_path("metrics", target)
    if failed is not None:
        raise failed


def band_numbers(text: str | None) -> tuple[int, ...] | None:
    """Return the checked value of `--bands`."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise typer.BadParameter(
            f"must be band numbers from 1, as in 3,2,1, but is {text}", param_hint="--bands"
        )
    return tuple(map(int, parts))


def scale_factor(text: str | None) -> float | None:
    """Return the checked value of `--scale`, a number or a fraction of two."""
    if text is None:
        return None
    try:
        above, _, below = text.partition("/")
        factor = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        factor = math.nan
    if not 0 < factor < math.inf:
        raise typer.BadParameter(
            f"must be a number above 0, as in 1/257 or 255, but is {text}", param_hint="--scale"
        )
    return factor


def routed(engine: EngineConfig | None) -> EngineConfig | None:
    """Return the engine that routes circuits to the device of a device's noise profile, and say so."""
    if engine is None:
        return None
    from qhybrid.evaluation import routed_to_its_device

    chosen = routed_to_its_device(engine)
    if chosen != engine:
        device = chosen.options["backend"]
        say(f"noise       {engine.noise} is of a device: circuits are routed to {device} (engine `routed`)")
    return chosen


def read_baselines(evaluation: Path) -> dict[str, dict[str, float | None]]:
    """Return what an evaluation with baselines wrote about them, by the names that tables use."""
    return {name: dict(metrics) for name, (metrics, _) in read_references(evaluation).items()}


def read_references(evaluation: Path) -> dict[str, Reference]:
    """Return the same, each with its intervals where it has some."""
    from qhybrid.evaluation.baselines import LABELS
    from qhybrid.metrics import metrics_in
    from qhybrid.metrics.intervals import Intervals

    written = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
    found: dict[str, Reference] = {}
    for name, one in written.get("baselines", {}).items():
        intervals = Intervals.from_dict(one["intervals"]) if "intervals" in one else None
        found[one.get("label") or LABELS[name]] = metrics_in(one), intervals
    return found


def engine_config(
    engine: str | None, options: list[str] | None, noise: str | None = None, shots: int | None = None
) -> EngineConfig | None:
    """Return the engine that the options ask for; None if they ask for nothing."""
    if engine is None and not options and noise is None and shots is None:
        return None
    content = {
        "kind": engine or "exact",
        "noise": noise,
        "shots": shots,
        "options": apply_overrides({}, options or [], "--engine-option"),
    }
    return validated(EngineConfig, content, "--engine")


def check_which(which: str) -> Which:
    """Return the checked value of `--which`."""
    if which == "best":
        return "best"
    if which == "last":
        return "last"
    raise typer.BadParameter(f"must be best or last, but is {which}", param_hint="--which")
