"""Milliseconds of drawing a synthetic scene, of a training batch, and of its augmentation.

    python benchmarks/data_loading.py

One process, synthetic scenes, batch 16 x 3 x 128 x 128; medians.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from qhybrid.config import AugmentationConfig, DataConfig
from qhybrid.data.augmentation import PatchAugmentation
from qhybrid.data.patches import RandomPatches
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.statistics import compute_statistics
from qhybrid.data.synthetic import render_scene

BATCH = 16


def milliseconds(work: Callable[[int], object], repeats: int) -> float:
    """Return the median time of a call, in milliseconds; the first two calls are not counted."""
    times = []
    for number in range(repeats + 2):
        start = time.perf_counter()
        work(number)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def main() -> None:
    """Run the benchmark and print one line a stage."""
    torch.set_num_threads(1)
    drawing = milliseconds(lambda n: render_scene(0, "train", n, 512), 5)
    print(f"synthetic scene 512 x 512   {drawing:8.1f} ms")
    with tempfile.TemporaryDirectory() as folder:
        config = DataConfig(dataset="synthetic", patches_per_epoch=BATCH * 64)
        dataset = open_dataset(config, Path(folder))
        bands = compute_statistics(dataset.scenes("train"), None, dataset.classes)
        patches = RandomPatches(dataset.scenes("train"), dataset.classes, bands, config, 0)

        def batch(number: int) -> list[dict[str, torch.Tensor]]:
            return [patches[(number, index)] for index in range(BATCH)]

        print(f"batch from decoded scenes   {milliseconds(batch, 40):8.1f} ms")
        samples = batch(0)
        images = torch.stack([sample["image"] for sample in samples])
        masks = torch.stack([sample["mask"] for sample in samples])
        for name, settings in (
            ("default augmentation", AugmentationConfig()),
            ("with rotation and zoom", AugmentationConfig(rotate_degrees=20, scale=0.2)),
        ):
            augment = PatchAugmentation(settings, bands)
            spent = milliseconds(lambda n, augment=augment: augment(images, masks, n), 20)
            print(f"{name:26s}  {spent:8.1f} ms")


if __name__ == "__main__":
    main()
