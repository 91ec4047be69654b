"""Writes the official training images that a recipe leaves over as a data set, to choose settings on.

    python benchmarks/left_over_images.py mnist35 --to FOLDER [--data-root DIR]

The result has the recipe's training and validation images as its training files and all others of the two
classes as its test files; the official test images are in neither. A recipe is then judged on them by

    QHYBRID_DATA=FOLDER qhybrid train mnist35 --set data.options.test=null --seeds 0-4 --output FOLDER/runs
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qhybrid.config import load_recipe
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.data.images.mnist import find_idx, read_idx
from qhybrid.workspace import atomic_path, data_root

RUNS = Path(__file__).resolve().parent.parent / "runs"


def write_idx(file: Path, values: NDArray[np.uint8]) -> None:
    """Write an idx file of bytes: a head with the number of axes, big-endian sizes, the values."""
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
    with atomic_path(file) as temporary:
        temporary.write_bytes(head + values.astype(np.uint8).tobytes())


def main() -> None:
    """Split the official training files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", choices=["mnist35", "fashion01"])
    parser.add_argument("--to", type=Path, required=True, help="folder that is given as QHYBRID_DATA")
    parser.add_argument("--data-root", type=Path)
    given = parser.parse_args()
    recipe = load_recipe(RUNS / f"{given.recipe}.yaml")
    dataset = open_image_dataset(recipe.data, data_root(given.data_root))
    images = read_idx(find_idx(dataset.folder, "train-images-idx3-ubyte"), 3)
    labels = read_idx(find_idx(dataset.folder, "train-labels-idx1-ubyte"), 1)
    ids = [name for split in ("train", "val") for name in dataset.load(split).ids]
    used = np.unique([int(name.rsplit("-", 1)[1]) for name in ids])
    members = np.flatnonzero(np.isin(labels, recipe.data.options["classes"]))
    rest = np.setdiff1d(members, used)
    for prefix, chosen in (("train", used), ("t10k", rest)):
        write_idx(given.to / str(recipe.data.root) / f"{prefix}-images-idx3-ubyte", images[chosen])
        write_idx(given.to / str(recipe.data.root) / f"{prefix}-labels-idx1-ubyte", labels[chosen])
    print(f"{len(used)} training and {len(rest)} left-over images in {given.to / str(recipe.data.root)}")


if __name__ == "__main__":
    main()
