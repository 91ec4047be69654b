"""Processor time and memory of mapping a scene, against the plain loop that most projects write.

    python benchmarks/mapping.py [--side 1024] [--turns 3] [--model unet] [--window 128] [--peer-batch 16]

Both map the same generated scene (3 bands, uint8, GeoTIFF) with the same network and weights, windows of
equal size and an overlap of 0.5, and write a compressed GeoTIFF of classes. The plain loop is inference as in
the examples of segmentation_models_pytorch: a batch of windows is read and normalised, goes forward and
through softmax, is weighted by a two-dimensional Hann window and summed in an array of the size of the scene;
at the end the sums are divided by the sum of the weights, and their argmax is written. `qhybrid` is
`write_map`, with its file format as the second name. Each turn runs all of them in processes of their own,
in changing order: processor time (user and system, of one thread) of the mapping alone, without imports and
building the network; the peak of resident memory of the process, and that before mapping began.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from rasterio.windows import Window
from torch import nn

from qhybrid.config import Recipe
from qhybrid.data.classes import ClassMap
from qhybrid.data.statistics import BandStatistics
from qhybrid.inference import MapOptions, write_map
from qhybrid.models import build_model

CLASSES = 5
BATCH = 16
MEAN, STD = (110.0, 100.0, 90.0), (50.0, 45.0, 40.0)
WAYS = ("plain loop", "qhybrid gtiff", "qhybrid cog")


STATISTICS = BandStatistics((1, 2, 3), MEAN, STD, (0.0,) * 3, (255.0,) * 3, 1)
LABELS = ClassMap(
    tuple("abcde"),
    ("#000000", "#ff0000", "#00ff00", "#0000ff", "#ffffff"),
    tuple((index,) for index in range(CLASSES)),
)


@dataclass(frozen=True)
class Run:
    """What `write_map` needs of a trained run."""

    model: nn.Module
    recipe: Recipe
    patch_size: int
    statistics: BandStatistics = STATISTICS
    classes: ClassMap = LABELS
    bands: tuple[int, ...] = (1, 2, 3)
    any_size: bool = True


def network(name: str, window: int) -> nn.Module:
    """Return the network at its default widths, with fixed weights."""
    torch.manual_seed(0)
    shape = {"in_channels": 3, "num_classes": CLASSES, "patch_size": window}
    return build_model({"name": name, **shape}).eval()


def write_scene(path: Path, side: int) -> None:
    """Write a scene of smooth fields with noise, tiled as most are."""
    random = np.random.default_rng(0)
    coarse = random.integers(30, 220, (3, side // 32 + 2, side // 32 + 2))
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "tiled": True, "blockxsize": 256}
    profile |= {"blockysize": 256, "height": side, "width": side, "compress": "deflate", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=from_origin(4e5, 5e6, 0.5, 0.5), **profile) as file:
        for row in range(0, side, 256):
            height = min(256, side - row)
            rows, cols = (row + np.arange(height)) // 32, np.arange(side) // 32
            values = coarse[:, rows][:, :, cols] + random.integers(-20, 20, (3, height, side))
            file.write(values.astype(np.uint8), window=Window(0, row, side, height))


def starts(length: int, size: int) -> list[int]:
    """Return where windows start, half a window apart, the last one at the end."""
    return [*range(0, length - size, size // 2), length - size]


def plain_loop(model: nn.Module, scene: Path, output: Path, size: int, batch: int) -> None:
    """Map a scene as the examples of segmentation_models_pytorch do."""
    hann = np.hanning(size + 2)[1:-1]
    weight = np.outer(hann, hann).astype(np.float32)
    mean = np.array(MEAN, dtype=np.float32)[:, None, None]
    std = np.array(STD, dtype=np.float32)[:, None, None]
    with rasterio.open(scene) as source:
        height, width = source.shape
        sums = np.zeros((CLASSES, height, width), dtype=np.float32)
        weights = np.zeros((height, width), dtype=np.float32)
        places = [(r, c) for r in starts(height, size) for c in starts(width, size)]
        for first in range(0, len(places), batch):
            chosen = places[first : first + batch]
            images = [
                (source.read(window=Window(c, r, size, size)).astype(np.float32) - mean) / std
                for r, c in chosen
            ]
            with torch.no_grad():
                results = model(torch.from_numpy(np.stack(images))).softmax(dim=1).numpy()
            for (r, c), result in zip(chosen, results):
                sums[:, r : r + size, c : c + size] += result * weight
                weights[r : r + size, c : c + size] += weight
        labels = (sums / weights).argmax(axis=0).astype(np.uint8)
        profile = {**source.profile, "count": 1}
    with rasterio.open(output, "w", **profile) as target:
        target.write(labels, 1)


def map_once(way: str, scene: Path, output: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Map in this process; return processor seconds, and memory before and at its peak, in MB."""
    torch.set_num_threads(1)
    model = network(arguments.model, arguments.window)
    content = {"name": "b", "data": {"dataset": "none"}, "model": {"name": arguments.model}}
    recipe = Recipe.model_validate({**content, "prediction": {"batch_size": BATCH, "overlap": 0.5}})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    start = time.process_time()
    if way == "plain loop":
        plain_loop(model, scene, output, arguments.window, arguments.peer_batch)
    else:
        options = MapOptions(file_format=way.split()[1])
        write_map(Run(model, recipe, arguments.window), scene, output, options=options)
    seconds = time.process_time() - start
    return {
        "seconds": seconds,
        "before": before,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def in_own_process(way: str, scene: Path, output: Path) -> dict[str, float]:
    """Map in a process of its own, so that peaks of memory are not those of another way."""
    command = [sys.executable, __file__, *sys.argv[1:], "--once", way, str(scene), str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def agreement(one: Path, other: Path) -> float:
    """Return the share of equal pixels of two maps."""
    with rasterio.open(one) as first, rasterio.open(other) as second:
        return float((first.read(1) == second.read(1)).mean())


def compare(arguments: argparse.Namespace) -> None:
    """Print pixels per processor second, ratios and memory."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        scene = Path(folder) / "scene.tif"
        write_scene(scene, arguments.side)
        for turn in range(arguments.turns):
            for way in WAYS if turn % 2 == 0 else reversed(WAYS):
                output = Path(folder) / f"{way}.tif"
                output.unlink(missing_ok=True)
                found[way].append(in_own_process(way, scene, output))
        equal = agreement(Path(folder) / f"{WAYS[0]}.tif", Path(folder) / f"{WAYS[1]}.tif")
    pixels = arguments.side**2
    print(f"{arguments.model}, {arguments.side} x {arguments.side} px, windows of {arguments.window} px")
    plain = [turn["seconds"] for turn in found[WAYS[0]]]
    for way in WAYS:
        seconds = [turn["seconds"] for turn in found[way]]
        ratios = [theirs / ours for theirs, ours in zip(plain, seconds)]
        peak, before = (max(turn[key] for turn in found[way]) for key in ("peak", "before"))
        print(
            f"{way:<14} {pixels / statistics.median(seconds) / 1e3:8.1f} kpx/s   "
            f"{statistics.median(ratios):5.2f} times the plain loop [{min(ratios):.2f}, {max(ratios):.2f}]   "
            f"peak {peak:6.0f} MB, of which {before:.0f} before mapping"
        )
    print(f"equal pixels: {100 * equal:.3f} %")


def main() -> None:
    """Run the comparison, or one mapping of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--window", type=int, default=128)
    parser.add_argument("--peer-batch", type=int, default=BATCH)
    parser.add_argument("--once", nargs=3, metavar=("WAY", "SCENE", "OUTPUT"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.once:
        way, scene, output = arguments.once
        print(json.dumps(map_once(way, Path(scene), Path(output), arguments)))
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
