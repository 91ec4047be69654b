"""Data set `even_odd`, for benchmarks/circuit_search.py: is the number of bright cells even or odd?

Images are made up: a grid of cells, each bright or dark by chance, with noise. No circuit had a part in the
labels. But a product of one cosine a cell gives the answer, and circuits compute such products easily.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from pydantic import Field

from qhybrid.config import StrictModel
from qhybrid.data import register_dataset
from qhybrid.data.images.dataset import ImageArrays, ImageDataset
from qhybrid.data.scenes import SPLITS

__version__ = "1.0"
CELL = 4
DARK, BRIGHT = 0.25, 0.75


class EvenOddOptions(StrictModel):
    """Keys of `data.options`.

    Attributes:
        rows: Rows of cells.
        columns: Columns of cells.
        noise: Standard deviation of each pixel.
        train: Training images.
        validation: Validation images.
        test: Test images.
        seed: Decides the images.
    """

    rows: int = Field(2, ge=1)
    columns: int = Field(3, ge=1)
    noise: float = Field(0.15, ge=0)
    train: int = Field(200, ge=1)
    validation: int = Field(200, ge=0)
    test: int = Field(1000, ge=1)
    seed: int = 0


class EvenOdd(ImageDataset):
    """Grids of bright and dark cells."""

    name = "even_odd"
    description = "made up: is the number of bright cells even or odd?"
    Options = EvenOddOptions
    task = "classification"
    source = "made up here"
    licence = "none is needed"
    layout = "nothing: the images are made up"

    def __init__(self, folder: Path, options: EvenOddOptions) -> None:
        super().__init__(folder, options)
        self.class_names = ("even", "odd")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, height and width of the images, in pixels."""
        options: EvenOddOptions = self.options
        return 1, CELL * options.rows, CELL * options.columns

    def _load(self, split: str) -> ImageArrays:
        options: EvenOddOptions = self.options
        count = (options.train, options.validation, options.test)[SPLITS.index(split)]
        draw = np.random.default_rng([options.seed, SPLITS.index(split)])
        cells = options.rows * options.columns
        patterns = np.array(list(itertools.product((0, 1), repeat=cells)))
        bright = patterns[draw.integers(len(patterns), size=count)]
        levels = np.where(bright, BRIGHT, DARK).reshape(count, options.rows, options.columns)
        pixels = levels.repeat(CELL, axis=1).repeat(CELL, axis=2)
        pixels = np.clip(pixels + options.noise * draw.normal(size=pixels.shape), 0, 1)
        return ImageArrays(
            torch.from_numpy(pixels[:, None].astype(np.float32)),
            torch.from_numpy(bright.sum(axis=1) % 2),
            tuple(f"{split}-{index:05d}" for index in range(count)),
        )


register_dataset(EvenOdd)
