"""Where the classes are: a bounded sample of the pixels of each class, and patches around them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.raster import Window
from qhybrid.data.scene_store import SceneStore
from qhybrid.seeding import numpy_generator

POSITIONS_PER_CLASS = 65536
"""Pixels of one class that are remembered, 12 bytes each."""
_BLOCK = 1024
"""Side of the blocks in which labels are read, in pixels."""


class ClassPositions:
    """A uniform sample, without replacement, of the pixels of each class in the scenes.

    Labels are read once, block by block, so memory does not grow with the scenes. A pixel is kept if its
    random number is among the smallest of its class; numbers depend on (seed, scene, block) alone.

    Attributes:
        classes: Classes that occur.
    """

    def __init__(self, store: SceneStore, seed: int, limit: int = POSITIONS_PER_CLASS) -> None:
        """Read the labels of all scenes.

        Args:
            store: The scenes. Give one that keeps none in memory, where they are many.
            seed: Seed of the run.
            limit: Pixels of one class that are remembered.
        """
        self._limit = limit
        found: dict[int, tuple[NDArray[np.float64], NDArray[np.int32]]] = {}
        for scene, (height, width) in enumerate(store.shapes):
            for row in range(0, height, _BLOCK):
                for col in range(0, width, _BLOCK):
                    window = Window(row, col, min(_BLOCK, height - row), min(_BLOCK, width - col))
                    labels = store.read(scene, window)[2]
                    random = numpy_generator(seed, "class positions", scene, row, col)
                    self._add_block(found, labels, (scene, row, col), random)
        self.classes = tuple(sorted(found))
        # In the order of scenes and pixels, which does not depend on how blocks were merged.
        self._places = [place[np.lexsort(place.T[::-1])] for _, place in (found[k] for k in self.classes)]

    def _add_block(
        self,
        found: dict[int, tuple[NDArray[np.float64], NDArray[np.int32]]],
        labels: NDArray[np.uint8],
        corner: tuple[int, int, int],
        random: np.random.Generator,
    ) -> None:
        numbers = random.random(labels.shape)
        for label in np.unique(labels[labels != IGNORE_INDEX]).tolist():
            rows, cols = np.nonzero(labels == label)
            drawn = numbers[rows, cols]
            place = np.stack([np.zeros_like(rows), rows, cols], axis=1).astype(np.int32)
            place += np.array(corner, np.int32)
            if label in found:
                drawn = np.concatenate([found[label][0], drawn])
                place = np.concatenate([found[label][1], place])
            if len(drawn) > self._limit:
                kept = np.argpartition(drawn, self._limit)[: self._limit]
                drawn, place = drawn[kept], place[kept]
            found[label] = drawn, place

    def count(self, label: int) -> int:
        """Return how many pixels of a class are remembered."""
        return len(self._places[self.classes.index(label)]) if label in self.classes else 0

    def draw(
        self, shapes: list[tuple[int, int]], size: int, random: np.random.Generator
    ) -> tuple[int, Window]:
        """Draw a class evenly, then a pixel of it, then a patch that holds this pixel.

        Args:
            shapes: Height and width of each scene, in pixels.
            size: Side of the patch, in pixels.
            random: Where the random numbers come from.

        Returns:
            Scene number, and the patch inside of it: all patches that hold the pixel are equally likely.
        """
        places = self._places[int(random.integers(len(self._places)))]
        scene, row, col = (int(value) for value in places[int(random.integers(len(places)))])
        height, width = shapes[scene]
        top = int(random.integers(max(0, row - size + 1), min(row, height - size) + 1))
        left = int(random.integers(max(0, col - size + 1), min(col, width - size) + 1))
        return scene, Window(top, left, size, size)
