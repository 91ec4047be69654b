"""What is evaluated in a sweep: a trained run with its test set, loaded once for many engines."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from qhybrid.config import Recipe
from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine
from qhybrid.errors import CheckpointError
from qhybrid.layers import QuantumLayer, quantum_layers
from qhybrid.models import use_engine
from qhybrid.training.run_folder import WEIGHTS

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Outcome:
    """The result of one cell.

    Attributes:
        metrics: Numbers by name, the headline first; larger is better but for `cross_entropy`.
        confusion: Counts of images or pixels, rows = truth, shape (K, K).
        count: Images or pixels that were counted.
        shown: Predicted class of each sample picture: shape () for an image's class, (h, w) for a label map.
    """

    metrics: dict[str, float]
    confusion: Array
    count: int
    shown: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class ShownSample:
    """One sample picture of the test set.

    Attributes:
        title: Its name.
        picture: Colours for the eye, uint8 of shape (h, w, 3).
        truth: Class indices, shape () or (h, w).
    """

    title: str
    picture: Array
    truth: Array


class Subject(ABC):
    """A trained run and its test set.

    Attributes:
        folder: The run folder.
        recipe: The run's recipe.
        model: The network in evaluation mode.
        epoch: Epoch of the weights.
        class_names: Names of the K classes.
        colors: Their colours as `#rrggbb`; empty where classes have none.
    """

    folder: Path
    recipe: Recipe
    model: nn.Module
    epoch: int
    class_names: tuple[str, ...]
    colors: tuple[str, ...] = ()

    def _keep_own_engines(self) -> None:
        """Remember the engines of the run's recipe, and what runs the layers that a cell leaves alone."""
        self._own = {name: layer.engine for name, layer in self.layers.items()}
        self._exact = make_engine("exact")

    @property
    def layers(self) -> dict[str, QuantumLayer]:
        """The quantum layers by name."""
        return dict(quantum_layers(self.model))

    def use(self, engine: Engine, layers: list[str] | None) -> None:
        """Put quantum layers on an engine, and all others on the noiseless exact one.

        Args:
            engine: The engine.
            layers: Names of the layers; all of them if None.

        Raises:
            ConfigError: If the model has no quantum layers, or none of a name.
        """
        use_engine(self.model, self._exact)
        use_engine(self.model, engine, layers)

    def use_own(self) -> None:
        """Put quantum layers on the engines of the run's recipe."""
        for name, layer in self.layers.items():
            layer.engine = self._own[name]

    @abstractmethod
    def evaluate(self) -> Outcome:
        """Evaluate the whole test set on the engines that are set."""

    @abstractmethod
    def samples(self) -> list[ShownSample]:
        """Return the sample pictures whose predictions `evaluate` keeps."""

    @property
    @abstractmethod
    def data_identity(self) -> dict[str, Any]:
        """What tells this test set from others; the same wherever the data lie."""


def weights_hash(folder: Path, which: str) -> str:
    """Return the SHA-256 of a run's weights file.

    Raises:
        CheckpointError: If there is none.
    """
    file = folder / which / WEIGHTS
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"{file} cannot be read ({error.strerror}). Fix: train the run first."
        ) from error


def gray(image: Array) -> Array:
    """Return values in [0, 1] of shape (C, h, w) as colours, uint8 of shape (h, w, 3)."""
    bands = image[:3] if len(image) >= 3 else image[[0, 0, 0]]
    return np.asarray((np.moveaxis(bands, 0, -1).clip(0, 1) * 255).round(), dtype=np.uint8)
