"""What pictures show of scenes: parts of them, and one whole scene at a lower resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.raster import Window
from qhybrid.data.scenes import SceneReader

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
