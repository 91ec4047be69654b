"""Read picture files (PNG, JPEG, BMP, TIFF) into arrays of one form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from qhybrid.errors import DataError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_MASK_THRESHOLD = 127


def list_pictures(folder: Path) -> list[Path]:
    """Return the picture files of a folder by name; hidden files and other kinds are passed over."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")
    )


def read_picture(path: Path, bands: int, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Read a picture.

    Args:
        path: The file; 8 or 16 bit, grey, colour or palette. Transparency is dropped.
        bands: 1 (grey) or 3 (red, green, blue).
        size: Height and width to resize to (bilinear, with anti-aliasing); as it is if None.

    Returns:
        Values in [0, 1], shape (bands, H, W).

    Raises:
        DataError: If the file is missing, truncated, or no picture.
    """
    with _opened(path) as picture:
        if picture.mode.startswith(("I", "F")):
            # 16 bit: Pillow's own conversion would clip at 255.
            scaled = np.asarray(picture, dtype=np.float32) / 65535
            picture = Image.fromarray(scaled)
            planes = [_resized(picture, size)] * bands
        else:
            picture = picture.convert("L" if bands == 1 else "RGB")
            planes = [_resized(plane, size) / np.float32(255) for plane in picture.split()]
    return np.stack(planes).astype(np.float32)


def _resized(plane: Image.Image, size: tuple[int, int] | None) -> NDArray[np.float32]:
    if size is not None and plane.size != (size[1], size[0]):
        plane = plane.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(plane, dtype=np.float32)


def read_mask(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.int64]:
    """Read a black and white mask as 0 and 1, shape (H, W); resized by the nearest pixel.

    Raises:
        DataError: As `read_picture`.
    """
    with _opened(path) as picture:
        grey = picture.convert("L")
        if size is not None and grey.size != (size[1], size[0]):
            grey = grey.resize((size[1], size[0]), Image.Resampling.NEAREST)
        return (np.asarray(grey) > _MASK_THRESHOLD).astype(np.int64)


def _opened(path: Path) -> Image.Image:
    try:
        picture = Image.open(path)
        picture.load()
    except FileNotFoundError as error:
        raise DataError(f"{path}: this picture belongs to the data set, but is missing.") from error
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: is not a readable picture, or truncated ({error}). Fix: replace the file."
        ) from error
    return picture


def stack_pictures(files: Sequence[Path], bands: int, size: tuple[int, int] | None = None) -> torch.Tensor:
    """Read pictures of one size as a tensor (N, bands, H, W) with values in [0, 1].

    Raises:
        DataError: If one cannot be read, or differs in size from the first.
    """
    return _stacked(files, [read_picture(file, bands, size) for file in files])


def stack_masks(files: Sequence[Path], size: tuple[int, int] | None = None) -> torch.Tensor:
    """Read masks of one size as a tensor (N, H, W) of 0 and 1.

    Raises:
        DataError: If one cannot be read, or differs in size from the first.
    """
    return _stacked(files, [read_mask(file, size) for file in files])


def _stacked(files: Sequence[Path], arrays: Sequence[NDArray[Any]]) -> torch.Tensor:
    for file, array in zip(files, arrays):
        if array.shape != arrays[0].shape:
            raise DataError(
                f"{file}: must have the {_shape(arrays[0])} pixels of {files[0]}, but has "
                f"{_shape(array)}. Fix: give a common size with `data.options.size`."
            )
    return torch.from_numpy(np.stack(arrays))


def _shape(array: NDArray[Any]) -> str:
    return " x ".join(str(side) for side in array.shape[-2:])
