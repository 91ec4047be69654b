"""Scenes as a patch sampler sees them: decoded in memory where they fit, else read by windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.data.classes import IGNORE_INDEX, ClassMap
from qhybrid.data.contract import InputContract
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneReader
from qhybrid.data.statistics import BandStatistics
from qhybrid.errors import DataError

_OPEN_FILES = 32
"""Images kept open at once for windowed reads, each with its mask."""


@dataclass(frozen=True)
class _Decoded:
    """A whole scene in memory: values (C, H, W), validity (H, W; None where all is valid), labels (H, W)."""

    raw: NDArray[Any]
    valid: NDArray[np.bool_] | None
    labels: NDArray[np.uint8]


class SceneStore:
    """Windows of many scenes.

    Which scenes are kept in memory is settled at the start: in their order, as many as fit. Patches hit
    every scene in proportion to its area, so no other choice would save more reading, and nothing is ever
    decoded twice.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        classes: ClassMap,
        contract: InputContract,
        cache_mb: int = 512,
    ) -> None:
        """Look at every scene once; nothing is decoded yet.

        Args:
            scenes: Scenes with labels.
            classes: The label map.
            contract: What the model is trained on; scenes are read for it.
            cache_mb: Memory for decoded scenes, in MiB.

        Raises:
            DataError: If there are no scenes, one has no labels, a file is unusable, or cannot be what the
                model is trained on.
        """
        if not scenes:
            raise DataError(
                "Patches need at least one scene, but the split is empty. Fix: check the data set's split."
            )
        self.scenes = tuple(scenes)
        self.classes = classes
        self.contract = contract
        self.shapes: list[tuple[int, int]] = []
        self._kept: set[int] = set()
        self._decoded: dict[int, _Decoded] = {}
        self._readers: dict[Path, SceneReader] = {}
        budget = cache_mb << 20
        reader: SceneReader | None = None
        for index, scene in enumerate(self.scenes):
            if scene.mask is None:
                raise DataError(
                    f"{scene.image}: labels are needed for training, but scene {scene.id} has no mask."
                )
            if reader is None:
                reader = SceneReader(scene, None, contract)
            reader.move_to(scene)
            height, width = reader.shape
            size = height * width * (len(contract.bands) * np.dtype(reader.image.info.dtype).itemsize + 2)
            self.shapes.append((height, width))
            if size <= budget:
                budget -= size
                self._kept.add(index)
        if reader is not None:
            reader.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoded": {}, "_readers": {}}

    def _reader(self, index: int) -> SceneReader:
        scene = self.scenes[index]
        if scene.image not in self._readers:
            if len(self._readers) >= _OPEN_FILES:
                self._readers.pop(next(iter(self._readers))).close()
            self._readers[scene.image] = SceneReader(scene, self.classes, self.contract)
        reader = self._readers[scene.image]
        reader.move_to(scene)
        return reader

    def _whole(self, index: int) -> _Decoded:
        if index not in self._decoded:
            reader = self._reader(index)
            window = Window(0, 0, *reader.shape)
            raw, valid = reader.read(window)
            labels = reader.read_labels(window)
            labels[~valid] = IGNORE_INDEX
            self._decoded[index] = _Decoded(raw, None if valid.all() else valid, labels)
        return self._decoded[index]

    def read(self, index: int, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.uint8]]:
        """Read a window of a scene.

        Args:
            index: Which scene.
            window: The rectangle; it may overhang the scene.

        Returns:
            Values (C, h, w), validity (h, w), and class indices (h, w) with `IGNORE_INDEX` where not valid.
        """
        height, width = self.shapes[index]
        inside = (
            window.row >= 0
            and window.col >= 0
            and window.row + window.height <= height
            and window.col + window.width <= width
        )
        if index in self._kept and inside:
            scene = self._whole(index)
            rows = slice(window.row, window.row + window.height)
            cols = slice(window.col, window.col + window.width)
            valid = (
                np.ones((window.height, window.width), dtype=bool)
                if scene.valid is None
                else scene.valid[rows, cols]
            )
            return scene.raw[:, rows, cols], valid, scene.labels[rows, cols]
        reader = self._reader(index)
        raw, valid = reader.read(window)
        labels = reader.read_labels(window)
        labels[~valid] = IGNORE_INDEX
        return raw, valid, labels

    def labelled(self, index: int, window: Window) -> bool:
        """Return whether a window has a pixel with a label, without copying kept scenes."""
        if index in self._kept:
            labels = self._whole(index).labels
            part = labels[window.row : window.row + window.height, window.col : window.col + window.width]
            return bool((part != IGNORE_INDEX).any())
        return bool((self.read(index, window)[2] != IGNORE_INDEX).any())

    def standardised(
        self, index: int, window: Window, statistics: BandStatistics
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Read a window as standardised image (C, h, w) and class indices (h, w)."""
        raw, valid, labels = self.read(index, window)
        return statistics.standardise(raw, valid), labels
