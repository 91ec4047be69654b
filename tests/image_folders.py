"""Tiny copies of image data sets, written with tools other than the readers under test."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write bytes in the idx format; compressed if the name ends in .gz."""
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_picture(path: Path, array: np.ndarray) -> None:
    """Write an array of bytes, shape (H, W) or (H, W, 3), as a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)


def write_ph2(folder: Path) -> None:
    """Write 20 images of 32 x 48, five folds of 4; the lists say .bmp, the files are .png."""
    names = [f"IMD{index:03d}" for index in range(20)]
    rng = np.random.default_rng(0)
    for name in names:
        mask = np.zeros((32, 48))
        mask[8:24, int(rng.integers(3, 18)) : 36] = 255
        write_picture(folder / "images" / f"{name}.png", np.stack([mask * 0.7 + 40] * 3, axis=-1))
        write_picture(folder / "masks" / f"{name}.png", mask)
    (folder / "folds").mkdir()
    for fold in range(5):
        test = names[fold::5]
        for part, chosen in (("train", [name for name in names if name not in test]), ("val", test)):
            lines = ["image_filename,mask_filename", *(f"{name}.bmp,{name}.bmp" for name in chosen)]
            (folder / "folds" / f"fold_{fold + 1}_{part}.csv").write_text("\n".join(lines) + "\n")
