"""Patches for training (random) and validation (a grid), as torch data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from qhybrid.config import DataConfig
from qhybrid.data.class_positions import ClassPositions
from qhybrid.data.classes import ClassMap
from qhybrid.data.raster import Window
from qhybrid.data.scene_store import SceneStore
from qhybrid.data.scenes import Scene
from qhybrid.data.statistics import BandStatistics, contract_of
from qhybrid.errors import DataError
from qhybrid.seeding import numpy_generator

Sample = dict[str, Tensor]
WindowMaps = Callable[[Scene, Window], Tensor]
"""Gives maps of a window that a model gets beside the image (`tokens` of a sample), shape (L, C, h, w)."""
_ATTEMPTS = 1000
"""Windows tried for one patch before giving up: enough where one window in a hundred has labels."""


def _to_sample(image: NDArray[np.float32], labels: NDArray[np.uint8]) -> Sample:
    return {"image": torch.from_numpy(image), "mask": torch.from_numpy(labels.astype(np.int64))}


def _sample_of(
    store: SceneStore, number: int, window: Window, statistics: BandStatistics, maps: WindowMaps | None
) -> Sample:
    """Return a window of a scene, with its maps where the model gets any."""
    sample = _to_sample(*store.standardised(number, window, statistics))
    return sample if maps is None else {**sample, "tokens": maps(store.scenes[number], window)}


def too_small(scene: Scene, shape: tuple[int, int], config: DataConfig) -> str | None:
    """Return what is wrong with a training scene that has no room for a patch; None if it has.

    Args:
        scene: The scene.
        shape: Its height and width in pixels as it is read, so at `config.resolution` if that is set.
        config: The recipe's section `data`.
    """
    if min(shape) >= config.patch_size:
        return None
    read_at, remedy = "", ""
    if config.resolution is not None:
        read_at, remedy = f" at `data.resolution` {config.resolution:g}", ", or a finer resolution,"
    return (
        f"{scene.image}: a training scene must be at least as large as a patch, but scene {scene.id} has "
        f"{shape[0]} x {shape[1]} pixels{read_at} and `data.patch_size` is {config.patch_size}. Fix: set a "
        f"smaller patch size{remedy} or leave the scene out."
    )


class RandomPatches(Dataset[Sample]):
    """Random windows of scenes: scenes by their number of positions, positions uniformly.

    A fraction of them (`data.class_sampling`) is placed on a pixel of a class drawn evenly instead.

    Patch `index` of epoch `epoch` is a pure function of (seed, epoch, index), whatever the number of workers.
    An index may also be a pair (epoch, index), from a sampler that keeps the epoch itself.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        classes: ClassMap,
        statistics: BandStatistics,
        config: DataConfig,
        seed: int,
        maps: WindowMaps | None = None,
    ) -> None:
        """Prepare sampling.

        Args:
            scenes: Training scenes with labels.
            classes: The label map.
            statistics: Of the training split; scenes are read for their contract.
            config: Patch size, patches in an epoch, nodata, cache.
            seed: Seed of the run.
            maps: What a model with a frozen ViT gets beside the image.

        Raises:
            DataError: If there are no scenes, or a patch is larger than a scene.
        """
        self._store = SceneStore(scenes, classes, contract_of(statistics, config), config.cache_mb)
        self._statistics = statistics
        self._size = config.patch_size
        self._length = config.patches_per_epoch
        self._seed = seed
        self._maps = maps
        # Shared memory: workers that live over several epochs see the change.
        self._epoch = torch.zeros(1, dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]
        positions = []
        for scene, (height, width) in zip(self._store.scenes, self._store.shapes):
            if (problem := too_small(scene, (height, width), config)) is not None:
                raise DataError(problem)
            positions.append((height - self._size + 1) * (width - self._size + 1))
        self._cumulative = np.cumsum(np.array(positions, dtype=np.int64))
        self._on_classes = config.class_sampling
        self._classes: ClassPositions | None = None
        if self._on_classes:  # read now, so that workers get it and do not read all labels again
            unkept = SceneStore(scenes, classes, contract_of(statistics, config), cache_mb=0)
            self._classes = ClassPositions(unkept, seed)

    def __len__(self) -> int:
        return self._length

    @property
    def epoch(self) -> int:
        """The epoch that plain indices refer to."""
        return int(self._epoch[0])

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; call it before the loader is iterated. Worker processes see it too."""
        self._epoch[0] = epoch

    def window(self, epoch: int, index: int) -> tuple[int, Window]:
        """Return scene number and window of a patch.

        Raises:
            DataError: If none of many windows has a labelled pixel.
        """
        if self._classes is not None and self._classes.classes:
            chosen = numpy_generator(self._seed, "class patch", epoch, index)
            if chosen.random() < self._on_classes:
                return self._classes.draw(self._store.shapes, self._size, chosen)
        random = numpy_generator(self._seed, "patch", epoch, index)
        for _ in range(_ATTEMPTS):
            ticket = int(random.integers(self._cumulative[-1]))
            number = int(np.searchsorted(self._cumulative, ticket, side="right"))
            height, width = self._store.shapes[number]
            row = int(random.integers(height - self._size + 1))
            col = int(random.integers(width - self._size + 1))
            window = Window(row, col, self._size, self._size)
            if self._store.labelled(number, window):
                return number, window
        scene = self._store.scenes[number]
        raise DataError(
            f"{scene.image}: patches must have labelled pixels that are not nodata, but {_ATTEMPTS} random "
            f"windows of {len(self._store.scenes)} scene(s) have none (the last: {tuple(window)} here). Fix: "
            "leave out empty scenes, or check `data.nodata` and `data.ignore_values`."
        )

    def __getitem__(self, index: int | tuple[int, int]) -> Sample:
        """Return the patch: image (C, S, S) standardised float32, mask (S, S) int64."""
        epoch, position = index if isinstance(index, tuple) else (self.epoch, index)
        if not 0 <= position < self._length:
            raise IndexError(f"Patch {position} of {self._length}.")
        return _sample_of(self._store, *self.window(epoch, position), self._statistics, self._maps)


class GridPatches(Dataset[Sample]):
    """Windows side by side that cover every scene once; what overhangs a scene is nodata and ignored."""

    def __init__(
        self,
        scenes: Sequence[Scene],
        classes: ClassMap,
        statistics: BandStatistics,
        config: DataConfig,
        patch_size: int | None = None,
        maps: WindowMaps | None = None,
    ) -> None:
        """Plan the windows.

        Args:
            scenes: Scenes with labels.
            classes: The label map.
            statistics: Of the training split; scenes are read for their contract.
            config: Patch size, nodata, cache.
            patch_size: Side of the windows; absent: `config.patch_size`.
            maps: What a model with a frozen ViT gets beside the image.

        Raises:
            DataError: If there are no scenes or a file is unusable.
        """
        self._store = SceneStore(scenes, classes, contract_of(statistics, config), config.cache_mb)
        self._statistics = statistics
        self._maps = maps
        size = config.patch_size if patch_size is None else patch_size
        self.windows = [
            (number, Window(row, col, size, size))
            for number, (height, width) in enumerate(self._store.shapes)
            for row in range(0, height, size)
            for col in range(0, width, size)
        ]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Sample:
        """Return the patch: image (C, S, S) standardised float32, mask (S, S) int64."""
        return _sample_of(self._store, *self.windows[index], self._statistics, self._maps)
