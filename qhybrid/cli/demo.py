"""`qhybrid demo`: the main job on generated scenes, nothing to download."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qhybrid.api.lookup import find_recipe, run_folder
from qhybrid.cli.console import metrics_table, progress_bar, say, say_path, say_table, short
from qhybrid.cli.evaluate import read_baselines
from qhybrid.cli.train import train_and_hint
from qhybrid.config import load_recipe
from qhybrid.workspace import data_root

if TYPE_CHECKING:
    from qhybrid.config import Recipe
    from qhybrid.evaluation import Evaluation

Results = Mapping[str, Mapping[str, "float | None"]]
"""Metrics by the name of what was evaluated."""


def demo(
    output: Annotated[Path | None, typer.Option(help="New folder; otherwise runs/demo/<time>.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Replace a value of the recipe: training.epochs=3.")
    ] = None,
    diagnose: Annotated[
        bool, typer.Option("--diagnose/--no-diagnose", help="Say whether the model uses its circuit.")
    ] = True,
) -> None:
    """Train HQ-UNet on generated scenes, compare it with two baselines, and map a test scene."""
    started = time.monotonic()
    recipe = load_recipe(find_recipe("demo"), set_)
    say("Training HQ-UNet, whose deepest block is a 16-qubit circuit, on generated aerial scenes ...")
    with run_folder(output, recipe.name) as folder:
        train_and_hint(recipe, data_root(), folder)
    found = _evaluated(folder, diagnose)
    results: Results = {"HQ-UNet": found.metrics, **read_baselines(found.folder)}
    say_table(metrics_table("test split", results))
    say(_verdict(results))
    if found.circuit_use is not None:
        say(str(found.circuit_use.get("sentence", found.circuit_use["line"])))
    scene, truth, written = _map_test_scene(recipe, folder)
    for label, path in (
        ("scene", scene),
        ("its truth", truth),
        ("its map", written),
        ("pictures", folder / "evaluation"),
        ("run", folder),
    ):
        say_path(label, path)
    say(f"Done in {time.monotonic() - started:.0f} s. Map another scene with:")
    say(f"  qhybrid predict {short(folder)} SCENE.tif -o map.tif")


def _evaluated(folder: Path, diagnose: bool) -> Evaluation:
    """Evaluate the model and what it must beat, on the same pixels."""
    from qhybrid.evaluation import evaluate_run

    with progress_bar("test split") as progress:
        return evaluate_run(
            folder, "test", data_root=data_root(), baselines=True, progress=progress, diagnose=diagnose
        )


def _verdict(results: Results) -> str:
    scores = {name: found["miou"] or 0.0 for name, found in results.items()}
    ours = scores.pop("HQ-UNet")
    name, best = max(scores.items(), key=lambda pair: pair[1])
    if ours > best:
        return f"HQ-UNet's mIoU is {ours - best:.3f} above the best baseline ({name})."
    return f"HQ-UNet's mIoU is {best - ours:.3f} BELOW {name}: it has not learned enough. Train for longer."


def _map_test_scene(recipe: Recipe, folder: Path) -> tuple[Path, Path, Path]:
    from qhybrid.data.scene_datasets import open_dataset
    from qhybrid.inference import MapOptions, write_map
    from qhybrid.training import load_run

    scene = open_dataset(recipe.data, data_root()).scenes("test")[0]
    with progress_bar("map") as progress:
        again = MapOptions(overwrite=True)
        (written,) = write_map(
            load_run(folder), scene.image, folder / "map.tif", options=again, progress=progress
        )
    return scene.image, scene.mask or scene.image, written
