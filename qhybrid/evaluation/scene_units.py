"""Units of a test set of scenes: places where there are five or more, else blocks of the scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.places import connected_places
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene
from qhybrid.evaluation.sampling_error import SampleUnits, UnitTally
from qhybrid.metrics import SCENES, Sample
from qhybrid.metrics.intervals import FEWEST

BLOCK = 128
"""Side of a block in pixels."""
PLACE, WINDOW = "place", "window"
WITHIN_SCENES = "within these scenes"


def window_units(scenes: Sequence[Scene], of: Sequence[int]) -> SampleUnits:
    """Return the units of windows cut out of scenes: places where there are five or more, else each window.

    Args:
        scenes: The scenes of a split.
        of: Which scene each window is of, from 0.
    """
    places = connected_places(scenes)
    found = np.array(places.of, dtype=np.int64)[np.asarray(of, dtype=np.int64)]
    if places.count is not None and len(np.unique(found)) >= FEWEST:
        return SampleUnits(PLACE, found, places=places.count)
    return SampleUnits(WINDOW, np.arange(len(of)), WITHIN_SCENES, places.count)


class SceneTally:
    """Counts what metrics are made of, place by place or block by block.

    Neighbouring blocks are alike, and other places are unlike all of them: over blocks the intervals speak of
    more ground of these scenes, not of scenes elsewhere.

    Args:
        scenes: The scenes.
        shapes: Their heights and widths in pixels.
        class_names: Names of the classes.
    """

    def __init__(
        self, scenes: Sequence[Scene], shapes: Sequence[tuple[int, int]], class_names: Sequence[str]
    ) -> None:
        places = connected_places(scenes)
        self.by_place = places.count is not None and places.count >= FEWEST
        if self.by_place:
            units = SampleUnits(PLACE, np.array(places.of), places=places.count)
            self._first = np.arange(len(scenes))
        else:
            counts = [-(-height // BLOCK) * -(-width // BLOCK) for height, width in shapes]
            self._first = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
            units = SampleUnits(f"block of {BLOCK} px", np.arange(sum(counts)), WITHIN_SCENES, places.count)
        self._columns = [-(-width // BLOCK) for _, width in shapes]
        self.tally = UnitTally(SCENES, class_names, units)
        if not self.by_place:
            self.tally.count_no_samples()

    def add_window(
        self, scene: int, window: Window, labels: NDArray[np.uint8], truth: NDArray[np.uint8]
    ) -> None:
        """Count a window of a scene.

        Args:
            scene: Which scene, from 0.
            window: Where in it.
            labels: Predicted classes, shape (h, w).
            truth: True classes; 255 does not count.
        """
        if self.by_place:
            samples = np.broadcast_to(np.int64(scene), labels.shape)
        else:
            rows = (window.row + np.arange(labels.shape[0])) // BLOCK
            columns = (window.col + np.arange(labels.shape[1])) // BLOCK
            samples = self._first[scene] + rows[:, None] * self._columns[scene] + columns
        self.tally.add_pixels(samples, labels, truth)

    def add_scene(self, scene: int, labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Count a whole scene for metrics of plugins, which look at scenes as a whole."""
        if self.by_place:
            self.tally.add_sample(scene, Sample(labels, truth, self.tally.class_names))
