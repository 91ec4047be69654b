"""Tiny copies of the image data sets' layouts, written with tools other than the readers under test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from image_folders import write_idx, write_picture


@pytest.fixture(scope="session")
def mnist_folder(tmp_path_factory) -> Path:
    """60 training and 40 test images; the pixels at the corners tell class and index."""
    folder = tmp_path_factory.mktemp("mnist")
    for prefix, count, suffix in (("train", 60, ".gz"), ("t10k", 40, "")):
        labels = np.arange(count) % 10
        images = np.zeros((count, 28, 28))
        images[:, 0, 0], images[:, 27, 27] = labels, np.arange(count)
        write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels)
    return folder


@pytest.fixture(scope="session")
def isbi_folder(tmp_path_factory) -> Path:
    """30 images of 16 x 16; the pixel (0, 0) is the index, labels are white left of a line."""
    folder = tmp_path_factory.mktemp("isbi2012")
    for index in range(30):
        label = np.zeros((16, 16))
        label[:, : 4 + index % 8] = 255
        image = 100 - label / 4
        image[0, 0] = index
        write_picture(folder / "images" / f"{index}.png", image)
        write_picture(folder / "labels" / f"{index}.png", label)
    return folder


@pytest.fixture(scope="session")
def mri_folder(tmp_path_factory) -> Path:
    """Four diagnoses with 25, 10, 20 and 15 images of different sizes."""
    folder = tmp_path_factory.mktemp("brain_mri")
    counts = {"glioma": 25, "meningioma": 10, "notumor": 20, "pituitary": 15}
    for grey, (name, count) in enumerate(counts.items(), start=1):
        for index in range(count):
            side = 10 + index % 3
            write_picture(folder / name / f"{name}_{index}.png", np.full((side, side), 40 * grey))
    return folder


@pytest.fixture(scope="session")
def fruit_folder(tmp_path_factory) -> Path:
    """Three fruits with ten images each, masks named as in the published set."""
    folder = tmp_path_factory.mktemp("fruitseg30")
    for fruit in ("Apple", "Banana", "Cherry"):
        for index in range(10):
            mask = np.zeros((16, 16))
            mask[4:12, 4 : 6 + index % 5] = 255
            write_picture(folder / fruit / "Images" / f"{index}.jpg", np.stack([mask] * 3, axis=-1))
            write_picture(folder / fruit / "Mask" / f"{index}_mask.png", mask)
    return folder
