"""Data set `digits`: the 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn.

Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49 (its test set), CC BY 4.0. Nothing has to be fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch
from pydantic import model_validator

from qhybrid.data.images.dataset import ImageArrays, ImageDataset
from qhybrid.data.images.partition import FractionOptions, check_digit_classes
from qhybrid.data.near_duplicates import duplicate_groups, near_duplicates
from qhybrid.data.scenes import SPLITS

SIDE = 8
_LARGEST_VALUE = 16


class DigitsOptions(FractionOptions):
    """Keys of `data.options`.

    Attributes:
        classes: The digits that are used; their order gives the class indices. All ten if absent.
        validation: Share of the images for validation; 0 is none.
        test: Share of the images for test.
        seed: Decides which image is in which split; digits have the same share in all splits.
        group_near_duplicates: Correlation above which two images are near-duplicates; these are in one split
            then, directly or through others. Different digits reach 0.98. Absent: they are not looked for.
    """

    classes: tuple[int, ...] | None = None

    @model_validator(mode="after")
    def _classes_exist(self) -> Self:
        check_digit_classes(self.classes)
        return self


class Digits(ImageDataset):
    """Scikit-learn's digits: the default that needs no download."""

    name = "digits"
    description = "scikit-learn's 8 x 8 handwritten digits; comes with the installation"
    Options = DigitsOptions
    task = "classification"
    source = "scikit-learn (https://doi.org/10.24432/C50P49)"
    licence = "CC BY 4.0"
    layout = "nothing: it comes with scikit-learn"

    def __init__(self, folder: Path, options: DigitsOptions) -> None:
        super().__init__(folder, options)
        self.classes = options.classes or tuple(range(10))
        self.class_names = tuple(str(digit) for digit in self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, height and width of the images, in pixels."""
        return 1, SIDE, SIDE

    def _load(self, split: str) -> ImageArrays:
        from sklearn.datasets import load_digits

        found = load_digits()
        members = np.flatnonzero(np.isin(found.target, self.classes))
        options: DigitsOptions = self.options

        def groups(limit: float) -> list[int]:
            pairs = near_duplicates(found.images[members], limit=limit, turned=False)
            return duplicate_groups(len(members), pairs)

        parts = options.parts(found.target[members], groups, self.name)
        chosen = members[parts[SPLITS.index(split)]]
        new_index = np.full(10, -1)
        new_index[list(self.classes)] = range(len(self.classes))
        return ImageArrays(
            torch.from_numpy(found.images[chosen, None].astype(np.float32) / _LARGEST_VALUE),
            torch.from_numpy(new_index[found.target[chosen]]),
            tuple(f"digit-{index:04d}" for index in chosen),
        )
