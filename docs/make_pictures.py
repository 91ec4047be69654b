"""Makes the three pictures of the README from demo-sized runs: `python docs/make_pictures.py`.

    python docs/make_pictures.py [--work runs] [--only map noise plan]

Trains what is missing below the folder `--work` (the recipe `demo`, minutes on two cores; three small
classifiers on scikit-learn's digits, a minute), and keeps it: asked again, it only draws. No data are
downloaded.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

import qhybrid
from qhybrid.devices import load_device

PICTURES = Path(__file__).with_name("pictures")
BACKEND = "fake_nighthawk"
COLUMNS = 10
"""Qubits in a row of the device's square lattice."""
DIGITS = {
    "name": "pictures_digits",
    "data": {"dataset": "digits", "options": {"classes": [3, 5]}},
    "model": {"name": "qcq_cnn"},
    "training": {"epochs": 15, "progress": False},
}
NOISE = "depolarizing_0.05_0.1"
CONDITIONS = {
    "exact values": {},
    "noise on every gate": {"noise": NOISE},
    "noise, and 64 shots": {"noise": NOISE, "shots": 64},
}
COLORS = ("#3949ab", "#e65100", "#00897b")
MUTED = "#616161"


def trained(recipe: Any, folder: Path, **settings: Any) -> qhybrid.Run:
    """Return a run from its folder; train it first if it is not there, or go on with it."""
    if (folder / "recipe.yaml").is_file():
        return qhybrid.resume(folder)  # nothing, where it has ended
    return qhybrid.train(recipe, settings=settings, output=folder)


def save(figure: Figure, name: str) -> None:
    """Write a picture, small enough for a repository."""
    PICTURES.mkdir(exist_ok=True)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, facecolor="white")
    Image.open(drawn).convert("RGB").quantize(192).save(PICTURES / name, optimize=True)
    print(PICTURES / name)


def draw_map(work: Path) -> None:
    """Draw a test scene, its truth and its map by the demo's HQ-UNet."""
    from qhybrid.data.scene_datasets import open_dataset
    from qhybrid.workspace import data_root

    run = trained("demo", work / "pictures_demo")
    dataset = open_dataset(run.recipe.data, data_root())
    scene, output = dataset.scenes("test")[0], run.folder / "picture_map.tif"
    run.predict(scene.image, output, overwrite=True)
    with rasterio.open(scene.image) as file:
        image = np.moveaxis(file.read([1, 2, 3]), 0, 2)
    with rasterio.open(scene.mask) as file:
        truth = file.read(1)
    with rasterio.open(output) as file:
        found = file.read(1)
    colors = np.array(
        [[int(one[place : place + 2], 16) for place in (1, 3, 5)] for one in dataset.classes.colors]
    )
    miou = run.evaluate(diagnose=False)["miou"]
    figure = Figure(figsize=(9, 3.9), layout="constrained")
    axes = figure.subplots(1, 3)
    shown = (image, colors[truth], colors[found])
    for axis, picture, title in zip(
        axes, shown, ("test scene", "truth", f"map, mIoU {miou:.2f} (2 scenes)"), strict=True
    ):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=12)
        axis.set_axis_off()
    patches = [
        Patch(color=color, label=name) for name, color in zip(dataset.classes.names, dataset.classes.colors)
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False, fontsize=11)
    save(figure, "map.png")


def draw_noise(work: Path) -> None:
    """Draw validation loss and accuracy by epoch, of exact, noisy and sampled circuits."""
    figure = Figure(figsize=(7.5, 3.5), layout="constrained")
    axes = figure.subplots(1, 2)
    for color, (name, engine) in zip(COLORS, CONDITIONS.items(), strict=True):
        folder = work / f"pictures_digits_{'_'.join(engine) or 'exact'}"
        settings = {f"engine.{key}": value for key, value in engine.items()}
        history = trained(DIGITS, folder, **settings).history
        for axis, column, factor in zip(axes, ("val_loss", "val_accuracy"), (1, 100), strict=True):
            axis.plot(history["epoch"], factor * history[column], color=color, label=name, linewidth=2)
    for axis, label in zip(axes, ("validation loss", "validation accuracy, %"), strict=True):
        axis.set_xlabel("epoch")
        axis.set_title(label, fontsize=12)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=11)
    save(figure, "noise.png")


def draw_plan(work: Path) -> None:
    """Draw a device's lattice with the qubits that a plan uses, and what the plan says of its price."""
    from qhybrid.cli.main import execute

    run = trained("demo", work / "pictures_demo")
    plans = sorted((run.folder / "hardware").glob(f"{BACKEND}-*/plan.json"))
    if not plans:
        code = execute(
            ["hardware", "plan", str(run.folder), "--limit", "1", "--backend", BACKEND, "--shots", "1024"]
        )
        assert code == 0, "the plan failed; its message is above"
        plans = sorted((run.folder / "hardware").glob(f"{BACKEND}-*/plan.json"))
    plan, device = json.loads(plans[-1].read_text(encoding="utf-8")), load_device(BACKEND)
    copies = [set(place) for circuit in plan["circuits"].values() for place in circuit["places"]]
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axis, text = figure.subplots(1, 2, width_ratios=(1.45, 1))
    for gate in device.two_qubit_gates:
        (y, x), (v, u) = (divmod(qubit, COLUMNS) for qubit in gate.qubits)
        inside = any(set(gate.qubits) <= copy for copy in copies)
        axis.plot(
            [x, u],
            [y, v],
            color=COLORS[0] if inside else "#d0d0d0",
            linewidth=2.4 if inside else 0.8,
            zorder=1,
        )
    for qubit in range(device.num_qubits):
        row, column = divmod(qubit, COLUMNS)
        inside = any(qubit in copy for copy in copies)
        axis.scatter(column, row, s=62 if inside else 22, color=COLORS[0] if inside else "#bdbdbd", zorder=2)
    axis.set_aspect("equal")
    axis.invert_yaxis()
    axis.set_axis_off()
    axis.set_title(f"{BACKEND}: {device.num_qubits} qubits", fontsize=12)
    text.set_axis_off()
    for number, (label, value) in enumerate(plan_lines(plan)):
        text.text(0, 0.93 - 0.155 * number, label, color=MUTED, fontsize=10.5)
        text.text(0, 0.86 - 0.155 * number, value, fontsize=13)
    save(figure, "plan.png")


def plan_lines(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a plan says of its work and price, as (label, value)."""
    (circuit,) = plan["circuits"].values()
    copies, predicted = len(circuit["places"]), plan["predicted"]
    executions = sum(one["executions"] for one in plan["rounds"])
    return [
        (
            "circuit",
            f"{circuit['name']}, {circuit['qubits']} qubits" + (f", {copies} copies" if copies > 1 else ""),
        ),
        ("two-qubit gates, depth", f"{circuit['two_qubit_gates']}, {circuit['two_qubit_depth']}"),
        ("work", f"{len(plan['samples'])} window of a scene, {executions:,} executions"),
        ("estimated QPU seconds", f"{plan['qpu_seconds']:.1f}"),
        ("mIoU, exact values", f"{predicted['exact']['miou']:.4f}"),
        ("mIoU to expect on the device", f"{predicted['device_and_shots']['miou']:.4f}"),
    ]


DRAW = {"map": draw_map, "noise": draw_noise, "plan": draw_plan}


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs"), help="folder of the runs")
    parser.add_argument("--only", nargs="+", choices=list(DRAW), default=list(DRAW))
    arguments = parser.parse_args()
    for name in arguments.only:
        DRAW[name](arguments.work)


if __name__ == "__main__":
    main()
