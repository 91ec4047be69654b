"""Data set `ph2`: 200 dermoscopic images with the outline of the lesion, 192 x 256 pixels.

Source: T. Mendonca et al., PH2 - a dermoscopic image database for research and benchmarking, EMBC 2013,
https://www.fc.up.pt/addi/ph2%20database.html; research and education use. The five folds are those of the
Qu-Net authors' public experiment (arXiv 2501.13165): lists of names, which end in .bmp there whatever the
files are.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from qhybrid.config import StrictModel
from qhybrid.data.images.dataset import ImageArrays, ImageDataset, check_fold
from qhybrid.data.images.partition import hold_out
from qhybrid.data.images.pictures import PICTURE_SUFFIXES, list_pictures, stack_pairs
from qhybrid.errors import DataError

_RESTORE = "Fix: restore the original lists."
COLUMNS = ("image_filename", "mask_filename")
Pair = tuple[str, str]


class Ph2Options(StrictModel):
    """Keys of `data.options`.

    Attributes:
        fold: Which of the authors' five folds is the test set, 1 to 5.
        validation: Share of the other images for validation; 0 is the authors' protocol: a fixed number of
            epochs and no validation.
        size: Height and width that images and masks are resized to, in pixels.
        seed: Decides the validation images.
    """

    fold: int = 1
    validation: float = Field(0.0, ge=0, lt=1)
    size: tuple[Annotated[int, Field(ge=4)], Annotated[int, Field(ge=4)]] = (192, 256)
    seed: int = 0


class Ph2(ImageDataset):
    """PH2 with the Qu-Net authors' folds."""

    name = "ph2"
    description = "PH2 skin lesions, 200 dermoscopic images in the Qu-Net authors' five folds"
    Options = Ph2Options
    task = "segmentation"
    source = "https://www.fc.up.pt/addi/ph2%20database.html"
    licence = "research and education use"
    layout = "FOLDER/{images,masks}/IMD*.png and FOLDER/folds/fold_{1..5}_{train,val}.csv"
    folds: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 5)
    class_names = ("skin", "lesion")

    def __init__(self, folder: Path, options: Ph2Options) -> None:
        super().__init__(folder, options)
        check_fold(options.fold, self.folds)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, height and width of the images, in pixels."""
        height, width = self.options.size
        return 3, height, width

    def _load(self, split: str) -> ImageArrays:
        pairs = self._pairs(split)
        images, masks = stack_pairs(
            [(self._file("images", image), self._file("masks", mask)) for image, mask in pairs],
            3,
            self.options.size,
        )
        return ImageArrays(
            images,
            masks,
            tuple(Path(image).stem for image, _ in pairs),
        )

    def _pairs(self, split: str) -> list[Pair]:
        """The authors call the test fold `val`; our validation is a part of their training images."""
        train, test = self._read_fold("train"), self._read_fold("val")
        self._check_lists(train, test)
        if split == "test":
            return test
        options: Ph2Options = self.options
        rest, held = hold_out(range(len(train)), options.validation, options.seed, self.name, options.fold)
        return [train[index] for index in (rest if split == "train" else held)]

    def _read_fold(self, part: str) -> list[Pair]:
        file = self.folder / "folds" / f"fold_{self.options.fold}_{part}.csv"
        if not file.is_file():
            raise self.not_found(file)
        try:
            with file.open(newline="", encoding="utf-8") as handle:
                rows = list(csv.DictReader(handle))
            pairs = [(row[COLUMNS[0]], row[COLUMNS[1]]) for row in rows]
        except (KeyError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{file}: must be CSV with columns {', '.join(COLUMNS)}, but is not.") from error
        for number, (image, mask) in enumerate(pairs, 2):
            if not image or not mask or not Path(mask).stem.startswith(Path(image).stem):
                raise DataError(
                    f"{file}, line {number}: must name an image and its mask, but has "
                    f"{image or '(nothing)'} and {mask or '(nothing)'}. {_RESTORE}"
                )
        return pairs

    def _check_lists(self, train: list[Pair], test: list[Pair]) -> None:
        """Refuse lists that are short, or have an image twice: they would be another experiment."""
        names = Counter(Path(image).stem for image, _ in [*train, *test])
        images = self.folder / "images"
        if not images.is_dir():
            raise self.not_found(images)
        where = f"{self.folder / 'folds'}: the two lists of fold {self.options.fold}"
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            raise DataError(f"{where} have {len(twice)} image(s) twice, for example {twice[0]}. {_RESTORE}")
        left_out = sorted({file.stem for file in list_pictures(images)} - names.keys())
        if left_out:
            raise DataError(
                f"{where} must have every image of {images}, but {len(left_out)} are in neither, for example "
                f"{left_out[0]}. {_RESTORE}"
            )

    def _file(self, kind: str, name: str) -> Path:
        folder = self.folder / kind
        if not folder.is_dir():
            raise self.not_found(folder)
        suffixes = [case for suffix in PICTURE_SUFFIXES for case in (suffix, suffix.upper())]
        candidates = (folder / f"{Path(name).stem}{suffix}" for suffix in suffixes)
        file = next((path for path in candidates if path.is_file()), None)
        if file is None:
            raise DataError(
                f"{folder / name}: the folds name it, but there is no picture of that name (with any of "
                f"{', '.join(PICTURE_SUFFIXES)}). Fix: fetch the data set again."
            )
        return file
