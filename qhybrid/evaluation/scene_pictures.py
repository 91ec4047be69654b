"""What pictures show of scenes: parts with many classes, and one whole scene at a lower resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.pairs import check_pair
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.errors import DataError
from qhybrid.inference import SceneModel
from qhybrid.training.showing import class_counts, most_varied

SAMPLE_SIDE = 320
CANDIDATES = 32
"""Parts of scenes that are looked at before the most varied ones are chosen."""
OVERVIEW_SIDE = 720
_ROWS = 256


@dataclass(frozen=True, eq=False)
class Sample:
    """A part of a scene for a picture, or a whole scene.

    Attributes:
        title: Name of the scene.
        image: Raw values, shape (C, h, w), NaN where there is no data.
        truth: Class indices or 255, shape (h, w).
        prediction: Class indices or 255, shape (h, w).
        place: Name of the scene and window, which tells parts of one scene apart.
    """

    title: str
    image: NDArray[np.float64]
    truth: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    place: str = ""


@dataclass(frozen=True)
class Part:
    """A part of a scene.

    Attributes:
        scene: Place of the scene in its split.
        window: The part.
    """

    scene: int
    window: Window


def open_labelled(run: SceneModel, scene: Scene) -> SceneReader:
    """Check image and mask of a scene and return a reader of them.

    Raises:
        DataError: If the scene has no mask, or it differs from the image in size or place.
    """
    if scene.mask is None:
        raise DataError(f"{scene.image}: evaluation needs labels, but scene {scene.id} has no mask.")
    check_pair(scene.image, scene.mask)
    reader = SceneReader(scene, run.classes, run.bands, run.recipe.data.nodata)
    reader.close()  # reading opens it again: a split may have more scenes than a process may open files
    return reader


def spread_over(count: int, samples: int) -> list[int]:
    """Return indices of samples, evenly spread over `count` scenes or images."""
    return sorted({int(index) for index in np.linspace(0, count - 1, min(samples, count)).round()})


def varied_parts(run: SceneModel, scenes: Sequence[Scene], number: int) -> list[Part]:
    """Return parts of scenes that together show many classes, the most varied first.

    At most `CANDIDATES` parts, evenly spread over the scenes, are looked at. The same parts are found every
    time.

    Args:
        run: Bands, nodata and classes.
        scenes: Scenes with masks.
        number: Parts at most.

    Raises:
        DataError: If an image or a mask is unusable.
    """
    parts, counts = [], []
    candidates = spread_over(len(scenes), CANDIDATES) if scenes and number else []
    for index in candidates:
        reader = open_labelled(run, scenes[index])
        windows = _grid(reader.shape)
        for place in spread_over(len(windows), max(1, CANDIDATES // len(candidates))):
            parts.append(Part(index, windows[place]))
            counts.append(class_counts(_truth(reader, windows[place]), run.classes.num_classes))
        reader.close()
    return [parts[place] for place in most_varied(counts, number, [part.scene for part in parts])]


def _grid(shape: tuple[int, int]) -> list[Window]:
    """Return windows of `SAMPLE_SIDE` that cover a scene; one that is smaller is one window."""
    sides = [min(length, SAMPLE_SIDE) for length in shape]
    starts = [
        np.linspace(0, length - side, -(-length // side)).astype(int).tolist()
        for length, side in zip(shape, sides, strict=True)
    ]
    return [Window(row, col, *sides) for row in starts[0] for col in starts[1]]


def _truth(reader: SceneReader, window: Window) -> NDArray[np.uint8]:
    """Return labels, 255 where the image has no data."""
    _, valid = reader.read(window)
    return np.asarray(np.where(valid, reader.read_labels(window), IGNORE_INDEX), dtype=np.uint8)


def read_sample(reader: SceneReader, window: Window, prediction: NDArray[np.uint8]) -> Sample:
    """Read what a picture shows of a part of a scene.

    Args:
        reader: Of the scene.
        window: The part.
        prediction: Class indices of the part.
    """
    raw, valid = reader.read(window)
    image = np.where(valid, raw.astype(np.float64), np.nan)
    truth = reader.read_labels(window)
    truth[~valid] = IGNORE_INDEX
    name = reader.scene.id
    return Sample(name, image, truth, prediction, place_of(name, window))


def place_of(scene: str, window: Window) -> str:
    """Return a name of a part of a scene."""
    return f"{scene}:{window.row}:{window.col}:{window.height}:{window.width}"


class Overview:
    """Collects every n-th pixel of a scene while it is predicted block by block.

    Args:
        reader: Of the scene.
    """

    def __init__(self, reader: SceneReader) -> None:
        self.step = max(1, -(-max(reader.shape) // OVERVIEW_SIDE))
        self._reader = reader
        self._labels = np.full(self._shape(*reader.shape), IGNORE_INDEX, dtype=np.uint8)

    def _shape(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // self.step), -(-width // self.step)

    def add(self, labels: NDArray[np.uint8], at: Window) -> None:
        """Take the predicted labels of a block, shape (h, w)."""
        top, left = -at.row % self.step, -at.col % self.step
        kept = labels[top :: self.step, left :: self.step]
        row, col = (at.row + top) // self.step, (at.col + left) // self.step
        self._labels[row : row + kept.shape[0], col : col + kept.shape[1]] = kept

    def sample(self) -> Sample:
        """Return the whole scene; its image and truth are read strip by strip."""
        height, width = self._reader.shape
        images, truths = [], []
        rows = _ROWS // self.step * self.step or self.step
        for row in range(0, height, rows):
            strip = Window(row, 0, min(rows, height - row), width)
            part = read_sample(self._reader, strip, np.empty(0, dtype=np.uint8))
            images.append(part.image[:, :: self.step, :: self.step])
            truths.append(part.truth[:: self.step, :: self.step])
        name = self._reader.scene.id
        shown = "" if self.step == 1 else f", drawn at 1:{self.step}"
        title = f"{name}: {width:,} x {height:,} pixels{shown}"
        image, truth = np.concatenate(images, axis=1), np.concatenate(truths)
        return Sample(title, image, truth, self._labels)
