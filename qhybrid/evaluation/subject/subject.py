"""A trained run with a split of its data: the one face for evaluation, sweeps, hardware and the report."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from qhybrid.config import Recipe
from qhybrid.data.identity import DataIdentity
from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine
from qhybrid.errors import CheckpointError
from qhybrid.evaluation.measuring import Measured, Tally
from qhybrid.evaluation.sampling_error import SampleUnits
from qhybrid.evaluation.subject.results import Evaluation, ModelInputs, Options, ShownSample
from qhybrid.layers import QuantumLayer, quantum_layers
from qhybrid.metrics import CLASSIFICATION, Metric
from qhybrid.models import use_engine
from qhybrid.training.metrics import SegmentationMetrics
from qhybrid.training.run_folder import WEIGHTS

Array = NDArray[Any]


class Subject(ABC):
    """A trained run and a split of its data.

    Attributes:
        task: One of `qhybrid.metrics.TASKS`.
        folder: The run folder.
        split: Which split.
        run: The loaded run.
        recipe: Its recipe.
        model: The network in evaluation mode.
        which: Weights of the `best` or of the `last` epoch.
        epoch: Epoch of the weights.
        class_names: Names of the K classes.
        colors: Their colours as `#rrggbb`; empty where classes have none.
    """

    task: str
    folder: Path
    split: str
    run: Any
    recipe: Recipe
    model: nn.Module
    which: str
    epoch: int
    class_names: tuple[str, ...]
    colors: tuple[str, ...] = ()

    def _take_run(self, run: Any, split: str) -> None:
        """Take over what all runs have, and remember the engines of the run's recipe."""
        self.run, self.split = run, split
        self.folder, self.recipe, self.model = run.folder, run.recipe, run.model
        self.which, self.epoch = run.which, run.meta.epoch
        self._own = {name: layer.engine for name, layer in self.layers.items()}
        # It runs the layers that a cell of a sweep leaves alone.
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
    def evaluate(self, options: Options | None = None) -> Evaluation:
        """Evaluate the whole split on the engines that are set.

        Raises:
            DataError: If the split is empty, or an image or mask is unusable.
        """

    @abstractmethod
    def measure_kept(self, file: Path | None, counts: SegmentationMetrics, tally: Tally) -> Measured:
        """Compute metrics of predictions that were kept; no engine is used.

        Args:
            file: The predictions; None where only the confusion matrix is left.
            counts: The confusion matrix of the same predictions.
            tally: The metrics.

        Raises:
            DataError: If the file is damaged, or of other samples.
        """

    @abstractmethod
    def samples(self) -> list[ShownSample]:
        """Return the sample pictures whose predictions `evaluate` keeps."""

    @abstractmethod
    def sampling_units(self, names: Sequence[str]) -> SampleUnits:
        """Return which of the samples that `inputs` gave may be taken for independent.

        Args:
            names: Their names.
        """

    @abstractmethod
    def inputs(self, limit: int | None, seed: int | None = None) -> ModelInputs | None:
        """Return samples as the model takes them, evenly spread over the split; None if there is none.

        Args:
            limit: How many; all if None. Of scenes a sample is a window of the training patches' size with a
                label in it.
            seed: Chooses samples at random instead, in the split's order.
        """

    @abstractmethod
    def write_report(
        self, target: Path, facts: Mapping[str, Any], found: Evaluation, baselines: Mapping[str, Any]
    ) -> None:
        """Write the files of an evaluation to a folder; see `evaluate_run`."""

    @abstractmethod
    def facts(self, options: Options) -> dict[str, Any]:
        """Return what metrics.json says of the data."""

    @abstractmethod
    def baselines(self) -> Mapping[str, Any]:
        """Return the references that need little training, by name: objects with `to_dict`."""

    @abstractmethod
    def identify(self) -> DataIdentity:
        """Return the identity of the split's images and labels as they are on disk now, or were loaded.

        Raises:
            DataError: If a file is missing or cannot be read.
        """

    @abstractmethod
    def data_identity(self, identity: DataIdentity) -> dict[str, Any]:
        """Return what tells the results on this split from others; the same wherever the data lie.

        Args:
            identity: From `identify`.
        """

    def earlier_identity(self, identity: DataIdentity) -> dict[str, Any] | None:
        """Return what earlier versions told the split by; None where that has not changed.

        It did not cover all bytes: results under it hold only if no file has changed since they were made.

        Args:
            identity: From `identify`.
        """
        return None


def input_of(run: Any) -> dict[str, Any] | None:
    """Return what the scenes of a run are read for, for JSON; None of runs on whole images."""
    statistics = getattr(run, "statistics", None)
    contract = None if statistics is None else statistics.contract
    return None if contract is None else contract.to_dict()


def can_measure(task: str, metric: Metric, kept: bool) -> bool:
    """Return whether a metric can be computed of what is kept of an evaluation.

    Args:
        task: The task.
        metric: The metric.
        kept: Whether predictions were kept; otherwise only the confusion matrix is there.
    """
    probabilities = kept and task == CLASSIFICATION
    return (probabilities or not metric.probabilities) and (kept or metric.count is None)


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
