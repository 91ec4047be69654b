"""Look at the scenes of a data set: every file to its last block, or in a quick way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qhybrid.config import DataConfig
from qhybrid.data.check_findings import DataCheck, Example, Moments, SplitFindings
from qhybrid.data.check_likeness import SmallCopy
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.contract import InputContract, ReadOptions
from qhybrid.data.pairs import check_pair
from qhybrid.data.patches import too_small
from qhybrid.data.raster import Window
from qhybrid.data.scenes import Scene, SceneDataset, SceneReader
from qhybrid.data.splits import find_leaks
from qhybrid.data.statistics import BLOCK_PIXELS
from qhybrid.errors import DataError

EXAMPLES = 6
"""Scenes or images of each split on the contact sheet."""
EXAMPLE_SIDE = 160
"""Their longer side, in pixels."""
Progress = Callable[[int, int], None]


def check_scenes(
    dataset: SceneDataset,
    config: DataConfig,
    splits: Sequence[str],
    *,
    quick: bool = False,
    contract: InputContract | None = None,
    progress: Progress | None = None,
) -> DataCheck:
    """Look at the scenes of some splits, and for places that are in several of them.

    Args:
        dataset: The data set.
        config: The recipe's section `data`.
        splits: Which splits.
        quick: Of images read the first and last blocks alone, and of the masks of the training split too,
            which its statistics read.
        contract: What scenes are read for; that of the first usable one if absent.
        progress: Called with (scenes done, scenes in all).
    """
    classes = dataset.classes
    check = DataCheck("scenes", classes.names, "pixels", classes.colors)
    listed = {split: _listed(dataset, split, check) for split in splits}
    contract = contract or _contract(listed, config)
    total, done = sum(len(scenes) for scenes, _ in listed.values()), 0
    for split, (scenes, _) in listed.items():
        found = check.splits[split] = SplitFindings()
        shown = set(np.linspace(0, len(scenes) - 1, EXAMPLES).astype(int)) if scenes else set()
        reader = _Reader(dataset, contract, found)
        no_room: list[str] = []
        for index, scene in enumerate(scenes):
            try:
                assert contract is not None  # there is a scene
                if quick:
                    reader.look(scene, labels=split != "train")
                else:
                    reader.read(scene, index in shown)
                problem = too_small(scene, reader.shape, config) if split == "train" else None
                no_room += [problem] if problem is not None else []
            except DataError as error:
                check.add("file", [split], error)
                reader.forget()
            done += 1
            if progress is not None:
                progress(done, total)
        reader.forget()
        if no_room:
            more = f" ({len(no_room)} of {len(scenes)} training scenes are too small.)" if no_room[1:] else ""
            check.add("file", [split], no_room[0] + more)
        _note_number_types(split, reader.number_types, check)
    lonely = dataset.masks_without_image()
    if lonely:
        names = ", ".join(str(path) for path in lonely[:5])
        check.add(
            "file",
            splits,
            f"{len(lonely)} mask(s) have no image: {names}{', ...' if len(lonely) > 5 else ''}. Fix: add the "
            "images, or move the masks away.",
            severe=not quick,
        )
    _find_leaks(dataset, {split: whole for split, (_, whole) in listed.items()}, check)
    return check


def _listed(dataset: SceneDataset, split: str, check: DataCheck) -> tuple[tuple[Scene, ...], bool]:
    """Return the scenes of a split whose masks fit, and whether these are all; record the others."""
    try:
        return dataset.scenes(split), True
    except DataError as error:
        first = error
    try:
        candidates = dataset.candidates(split)
    except DataError:
        candidates = ()
    fitting = []
    for scene in candidates:
        try:
            if scene.mask is not None:
                check_pair(scene.image, scene.mask, dataset.classes)
            fitting.append(scene)
        except DataError as error:
            check.add("file", [split], error)
    if len(fitting) == len(candidates):
        check.add("file" if candidates else "split", [split], first)
    return tuple(fitting), False


def _contract(listed: dict[str, tuple[tuple[Scene, ...], bool]], config: DataConfig) -> InputContract | None:
    """Return what all scenes are read for: what the first training scene is, or the first usable one.

    Returns:
        The contract; None where there are no scenes.

    Raises:
        DataError: If no scene is usable.
    """
    first: DataError | None = None
    for split in sorted(listed, key=lambda split: split != "train"):
        for scene in listed[split][0]:
            try:
                return InputContract.of_scene(scene.image, config.bands, ReadOptions.of(config))
            except DataError as error:
                first = first or error
    if first is not None:
        raise first
    return None


def _note_number_types(split: str, types: dict[str, Scene], check: DataCheck) -> None:
    """Record scenes of different number types, whose values may have different ranges."""
    if len(types) > 1:
        shown = ", ".join(f"{name} ({scene.image})" for name, scene in types.items())
        check.add(
            "statistics",
            [split],
            f"Scenes of split {split} should have one number type, but have {shown}. Fix: see whether "
            "their values "
            "mean the same; if not, convert them.",
            severe=False,
        )


class _Reader:
    """Reads scenes of one split into its findings; files that scenes share stay open.

    Attributes:
        number_types: Number type of the files, each with the first scene that has it.
        shape: Height and width of the last scene in pixels, as it is read.
    """

    def __init__(self, dataset: SceneDataset, contract: InputContract | None, found: SplitFindings) -> None:
        self._classes = dataset.classes
        self._contract = contract
        self._found = found
        self._open: SceneReader | None = None
        self._looked_at: set[Path] = set()
        self.number_types: dict[str, Scene] = {}
        self.shape = (0, 0)

    def forget(self) -> None:
        """Close the files."""
        if self._open is not None:
            self._open.close()
        self._open = None

    def _opened(self, scene: Scene) -> SceneReader:
        if self._open is None:
            self._open = SceneReader(scene, self._classes, self._contract)
        else:
            self._open.move_to(scene)
        self.number_types.setdefault(self._open.image.info.dtype, scene)
        return self._open

    def _count(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._found.count += 1
        self._found.pixels += shape[0] * shape[1]
        self._found.smallest = min(self._found.smallest, *shape)

    def look(self, scene: Scene, labels: bool) -> None:
        """Open a scene, decode the first and last blocks of its files, and read its labels if asked.

        Files end with the last row, or with the first one where a format counts from below (BMP).
        """
        reader = self._opened(scene)
        height, width = reader.shape
        if scene.image not in self._looked_at:
            info = reader.image.info
            for row in (0, info.height - 1):
                reader.image.read(Window(row, 0, 1, info.width))
            self._looked_at.add(scene.image)
        if scene.mask is not None and labels:
            for window in row_blocks(height, width):
                self._count_labels(reader.read_labels(window))
        elif scene.mask is not None and scene.window is None:
            for row in (0, height - 1):
                reader.read_labels(Window(row, 0, 1, width))
        self._count(reader.shape)

    def read(self, scene: Scene, shown: bool) -> None:
        """Read all of a scene."""
        reader, found = self._opened(scene), self._found
        height, width = reader.shape
        copy = SmallCopy(height, width)
        step = max(1, -(-max(height, width) // EXAMPLE_SIDE))
        pieces: list[tuple[NDArray[np.float32], NDArray[np.uint8]]] = []
        moments, counted, valid_pixels = (
            Moments(len(reader.image.bands)),
            np.zeros(IGNORE_INDEX + 1, np.int64),
            0,
        )
        for window in row_blocks(height, width):
            raw, valid = reader.read(window)
            labels = np.full(valid.shape, IGNORE_INDEX, np.uint8)
            if scene.mask is not None:
                labels = reader.read_labels(window)
            labels[~valid] = IGNORE_INDEX
            moments.add(raw.reshape(len(raw), -1) if valid.all() else raw[:, valid])
            copy.add(window.row, raw, valid)
            counted += np.bincount(labels.ravel(), minlength=IGNORE_INDEX + 1)
            valid_pixels += int(valid.sum())
            if shown:
                rows = slice(-window.row % step, None, step)
                small = np.where(valid[rows, ::step], raw[:3, rows, ::step].astype(np.float32), np.nan)
                pieces.append((small, labels[rows, ::step]))
        self._count(reader.shape)
        found.valid = (found.valid or 0) + valid_pixels
        self._add_labels(counted)
        found.moments = merged(found.moments, moments)
        found.names.append(scene.id)
        found.copies.append(copy.finish())
        if shown:
            image, mask = (np.concatenate(parts, axis=-2) for parts in zip(*pieces))
            found.examples.append(Example(scene.id, image, mask if scene.mask is not None else None))

    def _count_labels(self, labels: NDArray[np.uint8]) -> None:
        self._add_labels(np.bincount(labels.ravel(), minlength=IGNORE_INDEX + 1))

    def _add_labels(self, counted: NDArray[np.int64]) -> None:
        counted = counted[: self._classes.num_classes]
        known = self._found.per_class
        self._found.per_class = counted.copy() if known is None else known + counted


def merged(known: Moments | None, more: Moments) -> Moments:
    """Return the moments of two sets of values together.

    Raises:
        DataError: If they have different numbers of bands.
    """
    if known is None:
        return more
    if len(known.mean) != len(more.mean):
        raise DataError(
            f"All scenes must have the same bands, but one has {len(more.mean)} and those before it "
            f"{len(known.mean)}. Fix: set `data.bands` to bands that every scene has."
        )
    known.merge(more)
    return known


def row_blocks(height: int, width: int) -> list[Window]:
    """Return windows of whole rows that cover a scene, so that strips and tiles are decoded once."""
    rows = max(1, min(height, BLOCK_PIXELS // width))
    return [Window(row, 0, min(rows, height - row), width) for row in range(0, height, rows)]


def _find_leaks(dataset: SceneDataset, whole: dict[str, bool], check: DataCheck) -> None:
    """Record which splits show the same ground.

    Args:
        dataset: The data set.
        whole: Whether all scenes of a split could be listed, by split.
        check: Where it is recorded.
    """
    usable = [split for split, complete in whole.items() if complete]
    try:
        where = {scene: split for split in usable for scene in dataset.scenes(split)}
        leaks = find_leaks(dataset, usable)
    except DataError as error:
        check.add("leak", usable, f"Places that are in two splits could not be looked for: {error}")
        return
    pairs: dict[tuple[str, ...], list[tuple[Scene, Scene]]] = {}
    for first, second in leaks:
        both = tuple(sorted((where[first], where[second]), key=usable.index))
        pairs.setdefault(both, []).append((first, second))
    check.overlapping = {(first.id, second.id) for found in pairs.values() for first, second in found}
    for both, found in pairs.items():
        first, second = found[0]
        check.add(
            "leak",
            both,
            f"{len(found)} pair(s) of scenes in different splits show the same ground "
            f"({' and '.join(both)}), for "
            f"example {first.image} and {second.image}: results look better than they are. Fix: split "
            "by location "
            "(`data.options.split`).",
        )
