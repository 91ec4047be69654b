"""Data set `isbi2012`: 30 labelled electron-microscopy sections of a fly's nerve cord, 512 x 512 pixels.

Source: I. Arganda-Carreras et al., Crowdsourcing the creation of image segmentation algorithms for
connectomics, Frontiers in Neuroanatomy 9 (2015) 142; https://imagej.net/events/isbi-2012-segmentation-challenge.
Free for research use. The labels of the challenge's own test images are not public, so tests are folds of
the 30 labelled images. These are neighbouring sections of one stack, 50 nm apart. Folds are drawn at random
unless `block` is set: most test images have a neighbour in training then, so that scores say little about
other tissue.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch.nn import functional

from qhybrid.config import StrictModel
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.images.dataset import ImageArrays, ImageDataset, SamplingUnits, check_fold
from qhybrid.data.images.partition import fold_parts, hold_out
from qhybrid.data.images.pictures import stack_pairs
from qhybrid.errors import ConfigError, DataError

IMAGES = 30
UNIT = 3
"""Neighbouring sections that are one unit when a sampling error is computed, where folds have no blocks."""


class Isbi2012Options(StrictModel):
    """Keys of `data.options`.

    Attributes:
        fold: Which of the five folds is the test set, 1 to 5.
        validation: Share of the other images for validation; 0 is none.
        size: Side that the images are resized to, in pixels; 512 as they are.
        pad: Side that the images are padded to by reflection; padded pixels count neither in loss nor in
            metrics. Absent: no padding.
        tile: Side of the square tiles that every image is cut into, in pixels; absent: whole images. All
            tiles of an image are in one split; metrics by image are by tile then.
        positive: What counts as class 1: the cells (white in the labels) or their membranes (black).
        seed: Decides the folds and the validation images.
        block: Folds and validation consist of whole blocks of this many neighbouring sections, 6 at most so
            that there are five; absent: of single sections.
        gap: Sections beside a block of the test or validation split that are in no split, so that none of
            them is a neighbour of a training section.
    """

    fold: int = 1
    validation: float = Field(0.2, ge=0, lt=1)
    size: int = Field(512, ge=4)
    pad: int | None = Field(None, ge=4)
    tile: int | None = Field(None, ge=4)
    positive: Literal["cell", "membrane"] = "cell"
    seed: int = 0
    block: int | None = Field(None, ge=1, le=6)
    gap: int = Field(0, ge=0, le=5)

    @model_validator(mode="after")
    def _gaps_are_beside_blocks(self) -> Self:
        if self.gap and self.block is None:
            raise ValueError("`gap` is for blocks: give `block`, the sections of one")
        return self


class Isbi2012(ImageDataset):
    """ISBI-2012 with five folds."""

    name = "isbi2012"
    description = "ISBI-2012 electron microscopy, 30 labelled 512 x 512 images in five folds"
    Options = Isbi2012Options
    task = "segmentation"
    source = "https://imagej.net/events/isbi-2012-segmentation-challenge"
    licence = "research use"
    layout = "FOLDER/{images,labels}/0.png ... 29.png"
    folds: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 5)

    def __init__(self, folder: Path, options: Isbi2012Options) -> None:
        super().__init__(folder, options)
        check_fold(options.fold, self.folds)
        side = options.pad or options.size
        if not options.size <= side < 2 * options.size:
            raise ConfigError(
                f"Key `data.options.pad` must be from {options.size}, the size, to less than twice that, but "
                f"is {options.pad}."
            )
        if options.tile is not None and side % options.tile:
            raise ConfigError(
                f"Key `data.options.tile` must divide the side {side} of the images, but is {options.tile}."
            )
        self.class_names = ("membrane", "cell") if options.positive == "cell" else ("cell", "membrane")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, height and width of the images, in pixels."""
        side = self.options.tile or self.options.pad or self.options.size
        return 1, side, side

    def _load(self, split: str) -> ImageArrays:
        options: Isbi2012Options = self.options
        chosen = [int(index) for index in self._members(split)]
        size = (options.size, options.size)
        files = [(self._file("images", index), self._file("labels", index)) for index in chosen]
        images, cells = stack_pairs(files, 1, size)
        targets = cells if options.positive == "cell" else 1 - cells
        arrays = ImageArrays(images, targets, tuple(f"section-{index:02d}" for index in chosen))
        if options.pad is not None:
            arrays = _padded(arrays, options.pad)
        return arrays if options.tile is None else _tiles(arrays, options.tile)

    def sampling_units(self, ids: Sequence[str]) -> SamplingUnits:
        """Return blocks of neighbouring sections: `data.options.block` of them, else `UNIT`."""
        length = self.options.block or UNIT
        of = tuple(f"{_section(name) // length}" for name in ids)
        kind = "section" if length == 1 else f"block of {length} sections"
        return SamplingUnits(kind, of, "within this stack")

    def adjacent(self, first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
        """Return the neighbouring sections in two splits; see `ImageDataset.adjacent`."""
        known = {_section(name): name for name in reversed(first)}
        found: dict[int, tuple[str, str]] = {}
        for name in second:
            section = _section(name)
            beside = known.get(section - 1) or known.get(section + 1)
            if beside is not None:
                found.setdefault(section, (beside, name))
        return [found[section] for section in sorted(found)]

    def _members(self, split: str) -> NDArray[np.int64]:
        options: Isbi2012Options = self.options
        if options.block is not None:
            return self._members_of_blocks(split, options.block)
        parts = fold_parts(IMAGES, len(self.folds), options.seed, self.name)
        test = parts[options.fold - 1]
        if split == "test":
            return test
        others = np.setdiff1d(np.arange(IMAGES), test)
        train, validation = hold_out(others, options.validation, options.seed, self.name, options.fold)
        return train if split == "train" else validation

    def _members_of_blocks(self, split: str, length: int) -> NDArray[np.int64]:
        """Return the sections of a split of whole blocks, without those in gaps."""
        options: Isbi2012Options = self.options
        blocks = np.array_split(np.arange(IMAGES), np.arange(length, IMAGES, length))
        parts = fold_parts(len(blocks), len(self.folds), options.seed, self.name, "blocks")
        test = parts[options.fold - 1]
        others = np.setdiff1d(np.arange(len(blocks)), test)
        rest, held = hold_out(others, options.validation, options.seed, self.name, options.fold)
        sections = {
            name: np.concatenate([blocks[index] for index in chosen] or [np.zeros(0, dtype=np.int64)])
            for name, chosen in (("train", rest), ("val", held), ("test", test))
        }
        # Test sections all stay; validation gives way to them, and training to both.
        apart = {"train": ("val", "test"), "val": ("test",), "test": ()}[split]
        found = sections[split]
        for other in apart:
            distance = np.abs(found[:, None] - sections[other][None]).min(axis=1, initial=IMAGES)
            found = found[distance > options.gap]
        return found

    def _file(self, kind: str, index: int) -> Path:
        folder = self.folder / kind
        if not folder.is_dir():
            raise self.not_found(folder)
        file = folder / f"{index}.png"
        if not file.is_file():
            raise DataError(f"{file}: must be there ({self.layout}), but is missing. Fix: fetch it again.")
        return file


def _section(name: str) -> int:
    """Return the place in the stack of an image or a tile, as of `section-07-row0-column1`."""
    return int(name.split("-")[1])


def _padded(arrays: ImageArrays, side: int) -> ImageArrays:
    """Pad images by reflection and targets with the ignored label, as much on all sides."""
    before = (side - arrays.images.shape[-1]) // 2
    after = side - arrays.images.shape[-1] - before
    around = (before, after, before, after)
    return ImageArrays(
        functional.pad(arrays.images, around, mode="reflect"),
        functional.pad(arrays.targets, around, value=IGNORE_INDEX),
        arrays.ids,
    )


def _tiles(arrays: ImageArrays, side: int) -> ImageArrays:
    """Cut images into square tiles, row by row."""
    count, bands, height, width = arrays.images.shape
    rows, columns = height // side, width // side
    images = arrays.images.view(count, bands, rows, side, columns, side).permute(0, 2, 4, 1, 3, 5)
    targets = arrays.targets.view(count, rows, side, columns, side).permute(0, 1, 3, 2, 4)
    places = [f"row{row}-column{column}" for row in range(rows) for column in range(columns)]
    ids = tuple(f"{name}-{place}" for name in arrays.ids for place in places)
    return ImageArrays(
        torch.reshape(images, (-1, bands, side, side)), torch.reshape(targets, (-1, side, side)), ids
    )
