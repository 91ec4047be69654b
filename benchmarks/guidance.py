"""What a frozen ViT costs: seconds per megapixel of a map, the part that is the ViT, and training steps.

    python benchmarks/guidance.py --vit FOLDER            # a ViT as `transformers` saves it
    python benchmarks/guidance.py                         # a ViT-S/14 of random weights, of the same cost

Processor time, the smallest of some rounds; nothing is read from or kept in the cache. A step without cache
is that with given maps and one tile a patch through the ViT: the worst case, in which no two patches of a
batch share a tile and none is in memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin

from qhybrid.config import Recipe, validated
from qhybrid.data.classes import ClassMap
from qhybrid.data.scenes import Scene
from qhybrid.data.statistics import compute_statistics
from qhybrid.guidance import FrozenViT, guidance_in
from qhybrid.guidance.tiles import token_count
from qhybrid.inference.scene import iterate_probabilities
from qhybrid.models import build_model

SMALL = {
    "model_type": "dinov2",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "image_size": 518,
    "patch_size": 14,
}
CLASSES = ClassMap(tuple("abcde"), ("#000000",) * 5, tuple((number,) for number in range(5)))


def smallest(work: Callable[[], Any], rounds: int) -> float:
    """Return the smallest processor time of some calls, in seconds."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def step_of(model: torch.nn.Module, batch: int, patch: int) -> Callable[[], None]:
    """Return one training step on random patches, with token maps given."""
    image = torch.randn(batch, 3, patch, patch)
    target = torch.randint(5, (batch, patch, patch))
    guidance = guidance_in(model)
    maps = []
    if guidance is not None:
        options = guidance.options
        side = token_count(patch, options.patch / options.scale)
        maps = [torch.randn(batch, options.maps, options.token_channels, side, side).half()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(image, *maps), target).backward()
        optimizer.step()

    step()  # the first one plans circuits and allocates
    return step


def map_seconds(model: torch.nn.Module, side: int, patch: int, folder: Path) -> tuple[float, float]:
    """Return the processor seconds of mapping a scene of side x side pixels, and those of them in the ViT."""
    file = folder / "scene.tif"
    values = np.random.default_rng(0).integers(0, 255, (3, side, side), dtype=np.uint8)
    profile = {
        "driver": "GTiff",
        "count": 3,
        "dtype": "uint8",
        "height": side,
        "width": side,
        "crs": "EPSG:2180",
    }
    with rasterio.open(file, "w", transform=from_origin(0, 0, 1, 1), **profile) as target:
        target.write(values)
    statistics = compute_statistics([Scene("scene", file, None, "")])
    if (guidance := guidance_in(model)) is not None:
        guidance.see(statistics)
    recipe = validated(
        Recipe, {"name": "x", "data": {"dataset": "synthetic"}, "model": {"name": "unet"}}, "x"
    )
    run = SimpleNamespace(
        model=model,
        recipe=recipe,
        statistics=statistics,
        classes=CLASSES,
        bands=(1, 2, 3),
        patch_size=patch,
        any_size=False,
    )
    inside = 0.0
    maps = FrozenViT.maps

    def timed(self: FrozenViT, image: torch.Tensor) -> torch.Tensor:
        nonlocal inside
        start = time.process_time()
        found = maps(self, image)
        inside += time.process_time() - start
        return found

    FrozenViT.maps = timed  # type: ignore[method-assign]
    try:
        start = time.process_time()
        for _ in iterate_probabilities(run, file):
            pass
        return time.process_time() - start, inside
    finally:
        FrozenViT.maps = maps  # type: ignore[method-assign]


def cells(row: dict[str, float | None]) -> tuple[str, ...]:
    """Return a row of the table."""
    uncached = row["step_without_cache"]
    return (
        f"{row['parameters']:,}",
        f"{row['step']:.2f}",
        "-" if uncached is None else f"{uncached:.1f}",
        f"{row['seconds_per_megapixel']:.2f}",
        f"{row['part_of_vit']:.0%}",
    )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vit", help="folder of a ViT; random weights if absent")
    parser.add_argument("--widths", type=int, nargs=5, default=[32, 48, 64, 128, 192])
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=1024, help="side of the mapped scene in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the numbers there")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    vit = {"backbone": given.vit} if given.vit else {"backbone": "random", "config": SMALL}
    vit["cache"] = False  # type: ignore[assignment]
    base = {"in_channels": 3, "num_classes": 5, "patch_size": given.patch, "widths": given.widths}
    sections = {
        "hq_unet": {"name": "hq_unet", **base},
        "unet_vit_concat": {"name": "unet_vit_concat", **base, "guidance": vit},
        "unet + DMCAF": {"name": "unet", **base, "guidance": vit},
        "hqf_net": {"name": "hqf_net", **base, "guidance": vit},
    }
    rows: dict[str, dict[str, float | None]] = {}
    tile = None
    titles = ("parameters", "step, cached", "not cached", "s / Mpixel", "of it ViT")
    print(f"{'model':<18}" + "".join(f"{title:>14}" for title in titles))
    for name, section in sections.items():
        torch.manual_seed(0)
        model = build_model(section)
        guidance = guidance_in(model)
        if guidance is not None and tile is None:
            image = torch.randn(1, 3, guidance.options.tile, guidance.options.tile)
            guidance.vit.maps(image)  # loads the weights
            tile = smallest(partial(guidance.vit.maps, image), given.rounds)
        step = smallest(step_of(model, given.batch, given.patch), given.rounds)
        with tempfile.TemporaryDirectory() as folder:
            whole, inside = map_seconds(model, given.side, given.patch, Path(folder))
        area = given.side**2 / 1e6
        rows[name] = {
            "parameters": sum(one.numel() for one in model.parameters()),
            "step": step,
            "step_without_cache": step + given.batch * tile if guidance is not None and tile else None,
            "seconds_per_megapixel": whole / area,
            "part_of_vit": inside / whole,
        }
        print(f"{name:<18}" + "".join(f"{cell:>14}" for cell in cells(rows[name])), flush=True)
    print(f"one tile through the ViT: {tile:.2f} s")
    if given.json:
        given.json.write_text(
            json.dumps({"vit": given.vit or "random ViT-S/14", "tile": tile, "rows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
