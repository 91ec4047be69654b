"""Read picture files (PNG, JPEG, BMP, TIFF) into arrays of one form."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from qhybrid.data.near_duplicates import COMPARED_SIDE, duplicate_groups, near_duplicates
from qhybrid.errors import DataError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_MASK_THRESHOLD = 127
_NAMED = 20
_TWELVE_BITS = 4095.5 / 65535
_EXIF_ORIENTATION = 0x0112


def list_pictures(folder: Path) -> list[Path]:
    """Return the picture files of a folder by name; hidden files and other kinds are ignored."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".")
    )


def read_picture(path: Path, bands: int, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Read a picture.

    Args:
        path: The file; grey, colour or palette. 8 bit counts from 0 to 255, 16 bit from 0 to 65,535 (scale
            pictures of 12 bit beforehand), floating point from 0 to 1. Transparency is dropped.
        bands: 1 (grey) or 3 (red, green, blue).
        size: Height and width to resize to (bilinear, with anti-aliasing); as it is if None.

    Returns:
        Values in [0, 1], shape (bands, H, W).

    Raises:
        DataError: If the file is missing, truncated, or no picture, or its values are out of range.
    """
    with _opened(path) as picture:
        if picture.mode.startswith(("I", "F")):
            # Pillow's own conversion would clip at 255.
            scaled = np.asarray(picture, dtype=np.float32) / (1 if picture.mode == "F" else 65535)
            if not (scaled.min() >= 0 and scaled.max() <= 1):
                raise DataError(
                    f"{path}: values of floating point must lie from 0 to 1 and whole ones from 0 to 65,535, "
                    "but some do not. Fix: scale the pictures."
                )
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
    """Read a mask as 0 and 1, shape (H, W); resized by the nearest pixel.

    A mask of black and one other value is 1 where it is not black, whatever that value (1, 255, a colour).
    One of more values, as compression makes them, is 1 where its brightness is above 127 of 255.

    Raises:
        DataError: As `read_picture`, or if a mask of several values has none that bright.
    """
    with _opened(path) as picture:
        plain = picture if picture.mode.startswith(("I", "F")) else picture.convert("RGB")
        values = np.asarray(plain)
        largest = values if values.ndim == 2 else values.max(axis=-1)
        if len(np.unique(largest[largest != 0])) <= 1:
            mask = largest != 0
        else:
            mask = np.asarray(picture.convert("L")) > _MASK_THRESHOLD
            if not mask.any():
                raise DataError(
                    f"{path}: a mask must be black and one other value, or black and white, but has several "
                    f"values up to {largest.max():g}. Fix: write the object white (255)."
                )
        found = Image.fromarray(mask.astype(np.uint8))
        if size is not None and found.size != (size[1], size[0]):
            found = found.resize((size[1], size[0]), Image.Resampling.NEAREST)
        return np.asarray(found).astype(np.int64)


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

    Pictures of 16 bit that are all as dark as ones of 12 bit, and those with several pages, are warned of.

    Raises:
        DataError: If one cannot be read, or differs in size from the first.
    """
    images = _stacked(files, _each(files, lambda file: read_picture(file, bands, size)))
    _warn_of_kinds(files, images)
    return images


def _warn_of_kinds(files: Sequence[Path], images: torch.Tensor) -> None:
    """Warn of pictures of 16 bit that are all nearly black, and of pages that are not read."""
    deep, paged = [], []
    for place, file in enumerate(files):
        with Image.open(file) as picture:
            deep += [place] if picture.mode.startswith("I") else []
            paged += [file] if getattr(picture, "n_frames", 1) > 1 else []
    largest = float(images[deep].max()) if deep else 0.0
    if 0 < largest <= _TWELVE_BITS:
        warnings.warn(
            f"{files[deep[0]]}: no value of {len(deep)} pictures of 16 bit is above {65535 * largest:.0f}, "
            "as where only 12 bits or fewer are used; they are read as nearly black (65,535 is white). Fix: "
            "scale the pictures.",
            stacklevel=3,
        )
    if paged:
        warnings.warn(
            f"{paged[0]}: has several pages, of which only the first is read ({len(paged)} pictures are so). "
            "Fix: a file a page.",
            stacklevel=3,
        )


def picture_groups(files: Sequence[Path], limit: float) -> list[int]:
    """Return the group of near-duplicates that each picture is in, by the position of the first one in it.

    Pictures are compared in grey at `COMPARED_SIDE`, whatever size they are trained on. Groups are found once
    in a process for the same files.

    Args:
        files: The pictures.
        limit: Correlation above which two are near-duplicates; mirrored and rotated copies count.

    Raises:
        DataError: If one cannot be read.
    """
    known = []
    for file in files:
        try:
            found = file.stat()
        except OSError as error:
            raise DataError(f"{file}: this picture belongs to the data set, but is missing.") from error
        known.append((file, found.st_size, found.st_mtime_ns, found.st_ino))
    return list(_picture_groups(tuple(known), limit))


@lru_cache(maxsize=4)
def _picture_groups(known: tuple[tuple[Path, int, int, int], ...], limit: float) -> tuple[int, ...]:
    side = COMPARED_SIDE
    # A byte a pixel: thousands of pictures fit into memory.
    small = _each(
        [file for file, *_ in known],
        lambda file: (255 * read_picture(file, 1, (side, side))[0]).round().astype(np.uint8),
    )
    images = np.stack(small) if small else np.zeros((0, side, side), dtype=np.uint8)
    return tuple(duplicate_groups(len(images), near_duplicates(images, limit=limit)))


def stack_masks(files: Sequence[Path], size: tuple[int, int] | None = None) -> torch.Tensor:
    """Read masks of one size as a tensor (N, H, W) of 0 and 1.

    Raises:
        DataError: If one cannot be read, or differs in size from the first.
    """
    return _stacked(files, _each(files, lambda file: read_mask(file, size)))


def _each(files: Sequence[Path], read: Callable[[Path], NDArray[Any]]) -> list[NDArray[Any]]:
    """Read files, and name all that cannot be read, or the first ones if they are many."""
    arrays, problems = [], []
    for file in files:
        try:
            arrays.append(read(file))
        except DataError as error:
            problems.append(str(error))
    if problems:
        rest = [f"... and {len(problems) - _NAMED} more."] if len(problems) > _NAMED else []
        raise DataError("\n".join([*problems[:_NAMED], *rest]))
    return arrays


def stack_pairs(
    files: Sequence[tuple[Path, Path]], bands: int, size: tuple[int, int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read images and their masks, as `stack_pictures` and `stack_masks` do.

    Both are read as they are stored; it is warned of images that EXIF turns and whose masks it does not.

    Raises:
        DataError: Also if a mask has other pixels than its image.
    """
    turned = []
    for image, mask in files:
        with _opened(image) as first, _opened(mask) as second:
            turned += [image] if _turn(first) != _turn(second) else []
            if first.size != second.size:
                raise DataError(
                    f"{mask}: must have the {first.size[1]} x {first.size[0]} pixels of {image}, but has "
                    f"{second.size[1]} x {second.size[0]}. Fix: replace the file."
                )
    if turned:
        warnings.warn(
            f"{turned[0]}: EXIF says that it is to be shown mirrored or turned, and its mask does not; both "
            "are read as they are stored, and labels that were drawn on the picture as it is shown lie "
            "elsewhere. Fix: if they do, turn the pixels (mogrify -auto-orient), else remove the tag "
            f"({len(turned)} images are so).",
            stacklevel=2,
        )
    images = stack_pictures([image for image, _ in files], bands, size)
    return images, stack_masks([mask for _, mask in files], size)


def _turn(picture: Image.Image) -> int:
    """Return the orientation that EXIF says; 1 where it says none."""
    return int(picture.getexif().get(_EXIF_ORIENTATION, 1))


def _stacked(files: Sequence[Path], arrays: Sequence[NDArray[Any]]) -> torch.Tensor:
    if not arrays:
        raise DataError("There are no pictures in this split. Fix: give it a larger share of the images.")
    for file, array in zip(files, arrays):
        if array.shape != arrays[0].shape:
            raise DataError(
                f"{file}: must have the {_shape(arrays[0])} pixels of {files[0]}, but has "
                f"{_shape(array)}. Fix: give a common size with `data.options.size`."
            )
    return torch.from_numpy(np.stack(arrays))


def _shape(array: NDArray[Any]) -> str:
    return " x ".join(str(side) for side in array.shape[-2:])
