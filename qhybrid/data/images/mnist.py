"""Data sets `mnist` and `fashion_mnist`: 28 x 28 grey images in idx files.

MNIST: Y. LeCun, C. Cortes, C. Burges, http://yann.lecun.com/exdb/mnist/, Creative Commons
Attribution-ShareAlike 3.0. Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf, arXiv 1708.07747,
https://github.com/zalandoresearch/fashion-mnist, MIT licence.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from qhybrid.config import StrictModel
from qhybrid.data.images.dataset import ImageArrays, ImageDataset
from qhybrid.data.images.partition import check_digit_classes, stratified_parts
from qhybrid.data.scenes import SPLITS
from qhybrid.errors import DataError

_UNSIGNED_BYTE = 0x08


def find_idx(folder: Path, name: str) -> Path | None:
    """Return the file of that name, plain or with .gz; None if there is neither."""
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def read_idx(path: Path, dimensions: int) -> NDArray[Any]:
    """Read an idx file of unsigned bytes.

    Layout: two zero bytes, the type (8), the number of dimensions, each size as a big-endian 32-bit
    integer, then the values, the last dimension fastest.

    Args:
        path: The file; compressed if its name ends in .gz.
        dimensions: How many the array must have.

    Returns:
        The array, uint8.

    Raises:
        DataError: If the file is damaged, short or too long, or of another type.
    """
    content = _content(path)
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != magic or len(content) < header:
        raise DataError(
            f"{path}: must be an idx file of bytes with {dimensions} dimension(s) (magic number "
            f"{magic.hex()}), but begins with {content[:4].hex() or 'nothing'}. Fix: fetch the file again."
        )
    sizes = [int(size) for size in np.frombuffer(content[4:header], dtype=">u4")]
    if len(content) - header != math.prod(sizes):
        raise DataError(
            f"{path}: its header promises {math.prod(sizes)} values ({' x '.join(map(str, sizes))}), but "
            f"{len(content) - header} follow. Fix: fetch the file again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(sizes)


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}). Fix: fetch the file again.") from error


SIDE = 28


class MnistOptions(StrictModel):
    """Keys of `data.options`.

    Attributes:
        classes: The original classes that are used, 0 to 9; their order gives the new class indices. All
            ten if absent.
        train: Training images, from the official training files.
        validation: Validation images, from the official training files too; 0 is none.
        test: Test images, from the official test files; absent: all of the chosen classes.
        balanced: Draw as many images of each class; otherwise classes keep their shares.
        seed: Decides which images are drawn.
    """

    classes: tuple[int, ...] | None = None
    train: int = Field(5000, ge=1)
    validation: int = Field(1250, ge=0)
    test: int | None = Field(1000, ge=1)
    balanced: bool = True
    seed: int = 0

    @model_validator(mode="after")
    def _classes_exist(self) -> Self:
        check_digit_classes(self.classes)
        return self


class Mnist(ImageDataset):
    """MNIST: handwritten digits, 60,000 for training and 10,000 for test."""

    name = "mnist"
    description = "MNIST, 28 x 28 handwritten digits in idx files, chosen classes"
    Options = MnistOptions
    task = "classification"
    source = "http://yann.lecun.com/exdb/mnist/ or any mirror of the four idx files"
    licence = "CC BY-SA 3.0"
    layout = "FOLDER/{train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz"
    original_names: ClassVar[tuple[str, ...]] = tuple("0123456789")

    def __init__(self, folder: Path, options: MnistOptions) -> None:
        super().__init__(folder, options)
        self.classes = options.classes or tuple(range(10))
        self.class_names = tuple(self.original_names[index] for index in self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Bands, height and width of the images, in pixels."""
        return 1, SIDE, SIDE

    def _load(self, split: str) -> ImageArrays:
        prefix = "t10k" if split == "test" else "train"
        labels = self._read(f"{prefix}-labels-idx1-ubyte", 1)
        images = self._read(f"{prefix}-images-idx3-ubyte", 3)
        if len(images) != len(labels) or images.shape[1:] != (SIDE, SIDE):
            raise DataError(
                f"{self.folder}: {prefix} must have {len(labels)} images of {SIDE} x {SIDE}, one a label, "
                f"but has {' x '.join(map(str, images.shape))}."
            )
        members = np.flatnonzero(np.isin(labels, self.classes))
        chosen = members[self._chosen(split, labels[members])]
        new_index = np.full(256, -1)
        new_index[list(self.classes)] = range(len(self.classes))
        return ImageArrays(
            torch.from_numpy(images[chosen, None].astype(np.float32) / 255),
            torch.from_numpy(new_index[labels[chosen]]),
            tuple(f"{prefix}-{index:05d}" for index in chosen),
        )

    def _chosen(self, split: str, labels: NDArray[Any]) -> NDArray[np.int64]:
        options: MnistOptions = self.options
        if split == "test":
            wanted = len(labels) if options.test is None else options.test
            sizes, part = [wanted], 0
            balanced = options.balanced and options.test is not None
        else:
            sizes, part = [options.train, options.validation], SPLITS.index(split)
            balanced = options.balanced
        seed = options.seed, self.name, "test" if split == "test" else "train"
        try:
            return stratified_parts(labels, sizes, *seed, balanced=balanced)[part]
        except DataError as error:
            raise DataError(
                f"{self.folder}: {error} Fix: lower `data.options.train`, `validation` or `test`."
            ) from error

    def _read(self, name: str, dimensions: int) -> NDArray[Any]:
        file = find_idx(self.folder, name)
        if file is None:
            raise self.not_found(self.folder / name)
        return read_idx(file, dimensions)


class FashionMnist(Mnist):
    """Fashion-MNIST: articles of clothing, in the files and sizes of MNIST."""

    name = "fashion_mnist"
    description = "Fashion-MNIST, 28 x 28 articles of clothing in idx files, chosen classes"
    source = "https://github.com/zalandoresearch/fashion-mnist"
    licence = "MIT"
    original_names = (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    )
