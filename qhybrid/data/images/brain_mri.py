"""Data set `brain_mri`: MRI slices of the head in four folders, one a diagnosis.

Source: M. Nickparvar, Brain Tumor MRI Dataset, https://www.kaggle.com/datasets/masoudnickparvar/brain-tumor-mri-dataset,
CC0. Slices carry no patient number: slices of one patient may be in different splits, as in all work on this
set, and slices next to each other are nearly the same: `group_near_duplicates` keeps those in one split.
In the original files the image size tells the class (slices without tumour are rarely 512 x 512), so all
images are resized to one size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from qhybrid.data.images.dataset import ImageArrays, ImageDataset, SamplingUnits
from qhybrid.data.images.partition import FractionOptions
from qhybrid.data.images.pictures import PICTURE_SUFFIXES, list_pictures, picture_groups, stack_pictures
from qhybrid.data.near_duplicates import COMPARED_SIDE
from qhybrid.data.scenes import SPLITS
from qhybrid.errors import DataError

Pairing = Literal["malignant", "any_tumour", "diagnosis"]
_PAIRINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "malignant": {"benign": ("meningioma", "pituitary"), "malignant": ("glioma",)},
    "any_tumour": {"no tumour": ("notumor",), "tumour": ("glioma", "meningioma", "pituitary")},
    "diagnosis": {name: (name,) for name in ("glioma", "meningioma", "notumor", "pituitary")},
}


class BrainMriOptions(FractionOptions):
    """Keys of `data.options`.

    Attributes:
        pairing: The classes: `malignant` is glioma against meningioma and pituitary (slices without tumour
            are left out), `any_tumour` is any tumour against none, `diagnosis` is all four folders.
        size: Side that the images are resized to, in pixels.
        validation: Share of the images for validation; 0 is none.
        test: Share of the images for test.
        seed: Decides which image is in which split; diagnoses have the same share in all splits.
        group_near_duplicates: Correlation above which two images, the one perhaps mirrored or rotated, are
            near-duplicates; these are in one split then, directly or through others. 0.98 is a good choice.
            Absent: they are not looked for, and may be in two splits.
    """

    pairing: Pairing = "malignant"
    size: int = Field(128, ge=4)


class BrainMri(ImageDataset):
    """Brain MRI slices with the class pairing as a key."""

    name = "brain_mri"
    description = "brain MRI slices in folders; glioma against other tumours, or any tumour against none"
    Options = BrainMriOptions
    task = "classification"
    source = "https://www.kaggle.com/datasets/masoudnickparvar/brain-tumor-mri-dataset"
    licence = "CC0"
    layout = "FOLDER/{glioma,meningioma,notumor,pituitary}/*.png or .jpg"
    folders: ClassVar[tuple[str, ...]] = ("glioma", "meningioma", "notumor", "pituitary")

    def __init__(self, folder: Path, options: BrainMriOptions) -> None:
        super().__init__(folder, options)
        self.class_names = tuple(_PAIRINGS[options.pairing])
        self._group_of: dict[str, int] = {}

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, height and width of the images, in pixels."""
        return 1, self.options.size, self.options.size

    def sampling_units(self, ids: Sequence[str]) -> SamplingUnits:
        """Return groups of near-duplicates where they are known, else every image by itself."""
        if not all(name in self._group_of for name in ids):
            return super().sampling_units(ids)
        return SamplingUnits("group of near-duplicates", tuple(str(self._group_of[name]) for name in ids))

    def compared(self) -> ImageDataset:
        """Return the data set with pictures of one size, whatever size they are trained on."""
        return type(self)(self.folder, self.options.model_copy(update={"size": COMPARED_SIDE}))

    def _load(self, split: str) -> ImageArrays:
        pairs = _PAIRINGS[self.options.pairing]
        files, diagnoses, targets = [], [], []
        for target, names in enumerate(pairs.values()):
            for name in names:
                found = self._pictures(name)
                files += found
                diagnoses += [name] * len(found)
                targets += [target] * len(found)
        # Stratified by diagnosis, which is finer than the class.
        groups = partial(picture_groups, files)
        parts = self.options.parts(diagnoses, groups, self.name, self.options.pairing)
        chosen = parts[SPLITS.index(split)]
        ids = [f"{file.parent.name}/{file.stem}" for file in files]
        if self.options.group_near_duplicates is not None:
            self._group_of = dict(zip(ids, groups(self.options.group_near_duplicates)))
        side = self.options.size
        return ImageArrays(
            stack_pictures([files[index] for index in chosen], 1, (side, side)),
            torch.from_numpy(np.array(targets, dtype=np.int64)[chosen]),
            tuple(ids[index] for index in chosen),
        )

    def _pictures(self, name: str) -> list[Path]:
        folder = self.folder / name
        if not folder.is_dir():
            raise self.not_found(folder)
        found = list_pictures(folder)
        if not found:
            raise DataError(
                f"{folder}: must hold pictures ({', '.join(PICTURE_SUFFIXES)}), but holds none. Fix: "
                f"expected is {self.layout}."
            )
        return found
