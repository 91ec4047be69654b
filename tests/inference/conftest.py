"""A tiny trained model and raster files for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from torch import nn

from qhybrid.config import Recipe
from qhybrid.data.classes import ClassMap
from qhybrid.data.statistics import BandStatistics

CLASSES = ClassMap(("field", "forest", "road"), ("#e0c050", "#207020", "#808080"), ((0,), (1,), (2,)))
STATISTICS = BandStatistics((1, 2), (100.0, 90.0), (40.0, 30.0), (0.0, 0.0), (255.0, 255.0), 1)


class Texture(nn.Module):
    """Logits that depend on place and neighbours, so that no wrong window or weight goes unseen."""

    def __init__(self, bands: int = 2, classes: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.mix = nn.Conv2d(bands, classes, 3, padding=1)
        self.batches: list[int] = []
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        rows = torch.linspace(-1, 1, images.shape[2])[:, None]
        columns = torch.linspace(0, 2, images.shape[3])[None]
        return self.mix(images) + (rows * columns)[None, None] * torch.tensor([1.0, -2.0, 0.5])[:, None, None]


@dataclass(frozen=True)
class FakeRun:
    """Has the attributes of a loaded run."""

    model: nn.Module = field(default_factory=Texture)
    recipe: Recipe = field(
        default_factory=lambda: Recipe.model_validate(
            {
                "name": "fake",
                "data": {"dataset": "none"},
                "model": {"name": "none"},
                "prediction": {"batch_size": 3},
            }
        )
    )
    statistics: BandStatistics = STATISTICS
    classes: ClassMap = CLASSES
    bands: tuple[int, ...] = (1, 2)
    patch_size: int = 8
    any_size: bool = True


@pytest.fixture
def run() -> FakeRun:
    return FakeRun()


@pytest.fixture
def write_raster(tmp_path):
    def write(values: np.ndarray, name: str = "scene.tif", **profile) -> Path:
        path = tmp_path / name
        count, height, width = values.shape
        size = {"count": count, "height": height, "width": width, "dtype": values.dtype}
        with rasterio.open(path, "w", driver="GTiff", **size, **profile) as target:
            target.write(values)
        return path

    return write
