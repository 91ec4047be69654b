"""Maps a scene of LandCover.ai's size, 9000 x 9500 px: pixels a second, and the memory of the process.

    python benchmarks/whole_scene.py                         # all of it: an hour on 2 quiet cores
    python benchmarks/whole_scene.py --rows 320 --turns 3    # a part, for a busy machine
    python benchmarks/whole_scene.py --models reading        # all but the network: read, blend, write
    python benchmarks/whole_scene.py --bands 8 --dtype uint16 --big

Every map is made by a process of its own, so that its peak of resident memory is that of the map. Networks
take turns, and the least processor time of each counts: other work lengthens clocks and spoils caches.
`reading` is a network of one 1x1 convolution: what it takes is what every map takes beside its network.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from timing import table
from torch import nn
from whole_scenes import write_run, write_scene

from qhybrid.data.raster import raster_info
from qhybrid.inference import MapOptions, map_one_scene
from qhybrid.training import load_run

WIDTHS = [16, 32, 64, 128, 256]
MODELS = {
    "hq_unet": {"name": "hq_unet", "widths": WIDTHS},
    "unet": {"name": "unet", "widths": WIDTHS},
    "reading": {"name": "unet", "widths": [2, 2, 2, 2, 2]},
}
"""Model sections; that of `reading` only makes a run folder."""


class Reading(nn.Module):
    """One 1x1 convolution."""

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(bands, classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits (B, K, H, W)."""
        return self.mix(images)


def main() -> None:
    """Make scene and runs, map in processes of their own, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="*", default=["hq_unet", "unet"], choices=list(MODELS))
    parser.add_argument("--height", type=int, default=9000)
    parser.add_argument("--width", type=int, default=9500)
    parser.add_argument("--rows", type=int, help="map these first rows alone")
    parser.add_argument("--bands", type=int, default=3)
    parser.add_argument("--dtype", default="uint8", choices=["uint8", "uint16"])
    parser.add_argument("--big", action="store_true", help="write the scene as BigTIFF")
    parser.add_argument("--probabilities", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep scene and maps here")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(mapped(options)))
        return
    with tempfile.TemporaryDirectory() as made:
        options.folder = options.folder or Path(made)
        scene = options.folder / "scene.tif"
        if not scene.is_file():
            write_scene(scene, options.height, options.width, options.bands, options.dtype, options.big)
        for name in options.models:
            if not (options.folder / name).is_dir():
                write_run(options.folder / name, MODELS[name], options.bands, options.dtype)
        show(options, [measured(name, options) for _ in range(options.turns) for name in options.models])


def measured(name: str, options: argparse.Namespace) -> dict[str, float | str]:
    """Map in another process and return what it took."""
    command = [sys.executable, __file__, "--one", name, "--folder", str(options.folder)]
    for key in ("rows", "bands", "threads"):
        if getattr(options, key) is not None:
            command += [f"--{key}", str(getattr(options, key))]
    command += ["--probabilities"] if options.probabilities else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def mapped(options: argparse.Namespace) -> dict[str, float | str]:
    """Map the scene in this process."""
    torch.set_num_threads(options.threads)
    run = load_run(options.folder / options.one)
    if options.one == "reading":
        run.model.forward = Reading(options.bands, run.classes.num_classes).forward  # type: ignore[method-assign]
    scene = options.folder / "scene.tif"
    info = raster_info(scene)
    rows = min(options.rows or info.height, info.height)
    left, top = info.transform * (0, 0)
    right, bottom = info.transform * (info.width, rows)
    wanted = MapOptions(
        probabilities=options.probabilities,
        box=None if rows == info.height else (left, bottom, right, top),
        overwrite=True,
    )
    before, clock = time.process_time(), time.perf_counter()
    map_one_scene(run, scene, options.folder / f"{options.one}.tif", options=wanted)
    seconds = time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pixels = rows * info.width
    return {
        "model": options.one, "pixels": pixels, "seconds": seconds, "clock": time.perf_counter() - clock,
        "mebibytes": peak, "format": "BigTIFF" if is_big(scene) else "GeoTIFF", "dtype": info.dtype,
    }  # fmt: skip


def is_big(path: Path) -> bool:
    """Return whether a file is a BigTIFF: version 43 in its header, where others have 42."""
    with path.open("rb") as handle:
        head = handle.read(4)
    return int.from_bytes(head[2:], "little" if head[:2] == b"II" else "big") == 43


def show(options: argparse.Namespace, found: list[dict[str, float | str]]) -> None:
    """Print a row a network: its least processor time of all turns, and its largest memory."""
    rows, rates = [], {}
    for name in options.models:
        turns = [one for one in found if one["model"] == name]
        best = min(turns, key=lambda one: float(one["seconds"]))
        rates[name] = float(best["pixels"]) / float(best["seconds"])
        rows.append(
            [
                name,
                f"{float(best['pixels']) / 1e6:.2f}",
                f"{float(best['seconds']):.1f}",
                f"{min(float(one['clock']) for one in turns):.1f}",
                f"{rates[name]:,.0f}",
                f"{max(float(one['mebibytes']) for one in turns):,.0f}",
            ]
        )
    scene = found[0]
    print(f"scene: {options.bands} bands {scene['dtype']}, {scene['format']}, {options.threads} threads")
    heads = ["network", "megapixels", "processor s", "clock s", "pixels a processor second", "peak MiB"]
    print(table(heads, rows))
    if {"hq_unet", "unet"} <= set(rates):
        print(f"HQ-UNet maps {rates['hq_unet'] / rates['unet']:.3f} times the pixels of the U-Net")


if __name__ == "__main__":
    main()
