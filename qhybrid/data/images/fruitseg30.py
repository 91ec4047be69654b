"""Data set `fruitseg30`: 1,969 photographs of 30 kinds of fruit with masks, 512 x 512 pixels.

Source: FruitSeg30, Mendeley Data, https://data.mendeley.com/datasets/vmt5wxdjr3, CC BY 4.0. Each fruit has a
folder with `Images` and `Mask`; a mask has its image's name, with or without `_mask` behind it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from pydantic import Field

from qhybrid.data.images.dataset import ImageArrays, ImageDataset
from qhybrid.data.images.partition import FractionOptions
from qhybrid.data.images.pictures import list_pictures, picture_groups, stack_pairs
from qhybrid.data.near_duplicates import COMPARED_SIDE
from qhybrid.data.scenes import SPLITS
from qhybrid.errors import DataError


class FruitSeg30Options(FractionOptions):
    """Keys of `data.options`.

    Attributes:
        size: Side that images and masks are resized to, in pixels.
        validation: Share of the images for validation; 0 is none.
        test: Share of the images for test.
        seed: Decides which image is in which split; each fruit has the same share in all splits.
        group_near_duplicates: Correlation above which two images, the one perhaps mirrored or rotated, are
            near-duplicates; these are in one split then, directly or through others. 0.98 is a good choice.
            Absent: they are not looked for, and may be in two splits.
    """

    size: int = Field(128, ge=4)


class FruitSeg30(ImageDataset):
    """FruitSeg30: fruit against background."""

    name = "fruitseg30"
    description = "FruitSeg30, photographs of 30 kinds of fruit with binary masks"
    Options = FruitSeg30Options
    task = "segmentation"
    source = "https://data.mendeley.com/datasets/vmt5wxdjr3"
    licence = "CC BY 4.0"
    layout = "FOLDER/<fruit>/Images/*.jpg and FOLDER/<fruit>/Mask/*.png"
    class_names = ("background", "fruit")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, height and width of the images, in pixels."""
        return 3, self.options.size, self.options.size

    def compared(self) -> ImageDataset:
        """Return the data set with pictures of one size, whatever size they are trained on."""
        return type(self)(self.folder, self.options.model_copy(update={"size": COMPARED_SIDE}))

    def _load(self, split: str) -> ImageArrays:
        pairs, fruits = self._pairs()
        groups = partial(picture_groups, [image for image, _ in pairs])
        parts = self.options.parts(np.array(fruits), groups, self.name)
        chosen = [int(index) for index in parts[SPLITS.index(split)]]
        size = (self.options.size, self.options.size)
        images, masks = stack_pairs([pairs[index] for index in chosen], 3, size)
        return ImageArrays(
            images,
            masks,
            tuple(f"{fruits[index]}/{pairs[index][0].stem}" for index in chosen),
        )

    def _pairs(self) -> tuple[list[tuple[Path, Path]], list[str]]:
        folders = sorted(self.folder.glob("*/Images")) if self.folder.is_dir() else []
        if not folders:
            raise self.not_found(self.folder)
        pairs, fruits = [], []
        for folder in folders:
            masks = folder.parent / "Mask"
            if not masks.is_dir():
                raise self.not_found(masks)
            by_name = {file.stem.removesuffix("_mask"): file for file in list_pictures(masks)}
            for image in list_pictures(folder):
                if image.stem not in by_name:
                    raise DataError(
                        f"{image}: must have a mask in {masks}, but has none. Fix: fetch it again."
                    )
                pairs.append((image, by_name[image.stem]))
                fruits.append(folder.parent.name)
        return pairs, fruits
