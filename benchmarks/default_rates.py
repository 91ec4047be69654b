"""Which learning rate and schedule should be the default? Three rates, two schedules, five sets, two models.

    python benchmarks/default_rates.py --data-root data --folder rates

Each setting is a short training of the same length; the best validation metric of its epochs counts, and the
test split is not opened. Finished runs are kept in `--folder`, so a second call goes on and prints the table.
About one and a half core-hours.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch

from qhybrid.config import Recipe
from qhybrid.training import train

RATES = (1e-3, 3e-3, 1e-2)
SCHEDULES = ("cosine", "constant")
WIDTHS = [16, 24, 32, 48, 64]
DRONE = [("building", 0), ("clutter", 40), ("vegetation", 80), ("water", 120), ("ground", 160), ("car", 200)]
KOREA = [("building", 10), ("road", 30), ("field", 50), ("forest", 70), ("background", 100)]
DEEPGLOBE = [
    ("agriculture", "#ffff00"), ("forest", "#00ff00"), ("urban", "#00ffff"), ("barren", "#ffffff"),
    ("rangeland", "#ff00ff"), ("water", "#0000ff"),
]  # fmt: skip
COLORS = ("#7b3294", "#5a5a5a", "#e8c547", "#1a7837", "#c7b299", "#2f7ed8")
FRACTIONS = {"train": 0.6, "val": 0.2, "test": 0.2}


def classes(pairs: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    """Return a label map."""
    return [{"name": name, "values": [value], "color": color} for (name, value), color in zip(pairs, COLORS)]


def scenes(
    root: str, label_map: list[tuple[str, Any]], options: dict[str, Any], **data: Any
) -> dict[str, Any]:
    """Return the data section of a set of scenes, with a short epoch."""
    return {
        "dataset": "geotiff_folder", "root": root, "options": options, "classes": classes(label_map),
        "patch_size": 64, "patches_per_epoch": 384, **data,
    }  # fmt: skip


# Chips of one drone scene lie side by side in the order of their numbers: ten of them are one location.
CHIPS = {"fractions": FRACTIONS, "location": r"^(.+-\d{5})"}
DATA: dict[str, dict[str, Any]] = {
    "sentinel2_korea": scenes(
        "sentinel2_korea", KOREA, {"images": "{split}/images", "masks": "{split}/masks"}, bands=[3, 2, 1]
    ),
    "dronedeploy_chips": scenes(
        "dronedeploy_chips", DRONE, {"images": "images", "masks": "masks", "split": CHIPS},
        ignore_values=[255],
    ),
    "isbi2012": {
        "dataset": "isbi2012", "root": "isbi2012",
        "options": {"fold": 1, "validation": 0.2, "pad": 576, "tile": 192},
    },
    "ph2": {"dataset": "ph2", "root": "ph2", "options": {"fold": 1, "validation": 0.2}},
    "deepglobe": scenes(
        "deepglobe", DEEPGLOBE, {"images": "images", "masks": "masks", "split": {"fractions": FRACTIONS}},
        ignore_values=["#000000"],
    ),
}  # fmt: skip
SCENE_MODELS = {
    "circuit": {"name": "hq_unet", "widths": WIDTHS},
    "classical": {"name": "unet", "widths": WIDTHS},
}
IMAGE_WIDTHS = [12, 24, 40, 48, 16]
IMAGE_MODELS: dict[str, dict[str, Any]] = {
    "circuit": {"name": "qu_net", "widths": IMAGE_WIDTHS, "initialization": "he"},
    "classical": {"name": "qu_unet", "widths": IMAGE_WIDTHS, "initialization": "he"},
}
EPOCHS = {"isbi2012": 6, "ph2": 6}


def recipe(data: str, kind: str, rate: float, schedule: str) -> Recipe:
    """Return the recipe of one setting."""
    model = (IMAGE_MODELS if data in EPOCHS else SCENE_MODELS)[kind]
    training = {
        "epochs": EPOCHS.get(data, 10), "batch_size": 8 if data in EPOCHS else 16, "learning_rate": rate,
        "schedule": schedule, "threads": 1, "progress": False, "precision": "32-true",
    }  # fmt: skip
    return Recipe(name=f"{data}-{kind}", data=DATA[data], model=model, training=training)


def score(run: Path) -> float:
    """Return the best validation metric of a run's epochs: mIoU of scenes, IoU of images."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    key = "val_miou" if "val_miou" in rows[0] else "val_iou"
    return max(float(row[key]) for row in rows if row[key])


def table(found: dict[tuple[str, str, float, str], float]) -> None:
    """Print each setting's metric, and its mean distance from the best setting of the same set and model."""
    settings = list(product(RATES, SCHEDULES))
    pairs = sorted({key[:2] for key in found if all((*key[:2], *one) in found for one in settings)})
    print("set and model".ljust(32), *(f"{rate:g} {schedule}".rjust(15) for rate, schedule in settings))
    for pair in pairs:
        print(" ".join(pair).ljust(32), *(f"{found[*pair, *one]:15.4f}" for one in settings))
    best = {pair: max(found[*pair, *one] for one in settings) for pair in pairs}
    if pairs:
        regret = [statistics.mean(best[pair] - found[*pair, *one] for pair in pairs) for one in settings]
        print("mean distance from the best".ljust(32), *(f"{value:15.4f}" for value in regret))
        worst = [max(best[pair] - found[*pair, *one] for pair in pairs) for one in settings]
        print("largest distance from the best".ljust(32), *(f"{value:15.4f}" for value in worst))


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--sets", default=",".join(DATA))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[tuple[str, str, float, str], float] = {}
    for data, kind, rate, schedule in product(arguments.sets.split(","), SCENE_MODELS, RATES, SCHEDULES):
        run = arguments.folder / f"{data}-{kind}-{rate:g}-{schedule}"
        if not (run / "curves.png").is_file():
            started = time.process_time()
            partial = arguments.folder / f"{run.name}.{time.time_ns()}"
            train(recipe(data, kind, rate, schedule), arguments.data_root, partial)
            partial.rename(run)
            print(
                f"{run.name}: {score(run):.4f} in {time.process_time() - started:.0f} core seconds",
                flush=True,
            )
        found[data, kind, rate, schedule] = score(run)
    table(found)


if __name__ == "__main__":
    main()
