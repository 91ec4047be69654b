"""`qhybrid evaluate`: metrics of a trained run on a split, on any engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qhybrid.cli.console import console, image_metrics_table, metrics_table, progress_bar, say_path
from qhybrid.cli.lookup import RECIPE_IN_RUN, find_run
from qhybrid.cli.train import DATA_ROOT_HELP
from qhybrid.config import EngineConfig, apply_overrides, load_recipe, validated
from qhybrid.workspace import data_root as find_data_root

if TYPE_CHECKING:
    from qhybrid.training.metrics import SegmentationMetrics
    from qhybrid.training.run_folder import Which

BASELINES = {"majority_class": "majority class", "color_classifier": "colour alone"}
RUN_HELP = "A run folder, or runs/NAME for its newest run."
EngineOption = Annotated[
    str | None, typer.Option(help="Engine that executes the circuits: exact or aer; otherwise the recipe's.")
]
EngineOptions = Annotated[
    list[str] | None, typer.Option("--engine-option", help="Option of the engine, as in method=statevector.")
]
Noise = Annotated[
    str | None, typer.Option(help="Noise profile: a YAML file, or a name that `qhybrid noise list` shows.")
]
Shots = Annotated[int | None, typer.Option(help="Shots of every measured basis; otherwise exact values.")]
Device = Annotated[str, typer.Option(help="Where the model runs: auto, cpu or cuda.")]
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
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Also score the majority class and colour alone.")
    ] = False,
) -> None:
    """Evaluate a trained run on all scenes or images of a split: one confusion matrix."""
    folder = find_run(run)
    recipe = load_recipe(folder / RECIPE_IN_RUN)
    chosen = engine_config(engine, engine_option, noise, shots)
    weights = check_which(which)

    from qhybrid.data.images.image_datasets import is_image_dataset
    from qhybrid.evaluation import evaluate_image_run, evaluate_run, evaluation_folder

    target = output or evaluation_folder(folder, split, chosen or recipe.engine, weights)
    if is_image_dataset(recipe.data.dataset):
        if baselines:
            raise typer.BadParameter("is for runs on scenes", param_hint="--baselines")
        with progress_bar(f"{split} split") as progress:
            found = evaluate_image_run(
                folder, split, chosen, find_data_root(data_root), target, weights, progress, device=device
            )
        console.print(image_metrics_table(f"{split} split", {recipe.name: found}))
        say_path("metrics", target)
        return
    with progress_bar(f"{split} split") as progress:
        metrics = evaluate_run(
            folder,
            split,
            chosen,
            find_data_root(data_root),
            target,
            weights,
            progress,
            baselines=baselines,
            device=device,
        )
    references = read_baselines(target) if baselines else {}
    console.print(metrics_table(f"{split} split", {recipe.name: metrics, **references}))
    say_path("metrics", target)


def read_baselines(evaluation: Path) -> dict[str, SegmentationMetrics]:
    """Return what an evaluation with baselines wrote about them, by the names that tables use."""
    from qhybrid.training.metrics import SegmentationMetrics

    written = json.loads((evaluation / "metrics.json").read_text(encoding="utf-8"))
    return {
        BASELINES[name]: SegmentationMetrics.from_dict(found) for name, found in written["baselines"].items()
    }


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
