"""A run on whole images: a split in memory, features of a fixed filter computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qhybrid.config import DataConfig
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.identity import DataIdentity, arrays_identity
from qhybrid.data.images import ImageArrays, ImageDataset
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.errors import ConfigError, DataError
from qhybrid.evaluation.image_baselines import ScoredBaseline, score_image_baselines
from qhybrid.evaluation.image_report import write_image_report
from qhybrid.evaluation.image_scoring import image_samples, score_logits
from qhybrid.evaluation.measuring import Measured, Tally
from qhybrid.evaluation.other_data import OtherData, class_places
from qhybrid.evaluation.sampling_error import SampleUnits, UnitTally
from qhybrid.evaluation.scoring import drawn_order, spread_over
from qhybrid.evaluation.subject.predictions import REMEDY, KeptPredictions, PredictionWriter
from qhybrid.evaluation.subject.results import Evaluation, ModelInputs, Options, ShownSample
from qhybrid.evaluation.subject.subject import Subject, gray
from qhybrid.inference.scene_model import place_model
from qhybrid.layers import cached_features
from qhybrid.metrics import CLASSIFICATION, Totals
from qhybrid.training.images.defaults import evaluation_batch
from qhybrid.training.images.metrics import class_logits
from qhybrid.training.images.run import LoadedImageRun
from qhybrid.training.metrics import ConfusionMatrix, SegmentationMetrics

SHOWN = {"classification": 200, "segmentation": 4}
VALUES_A_CALL = 2**21
"""Input values that go through the model at once: whole test sets of small images."""


class ImageSubject(Subject):
    """A run on whole images."""

    run: LoadedImageRun

    def __init__(
        self,
        run: LoadedImageRun,
        split: str,
        samples: int | None,
        data_root: Path,
        other: OtherData | None = None,
    ) -> None:
        self._take_run(run, split)
        self.class_names, self.task = run.class_names, run.task
        self._data = run.recipe.data if other is None else other.data
        dataset = open_image_dataset(self._data, data_root if other is None else other.data_root)
        arrays = (
            dataset.load(split)
            if other is None
            else _other_images(run, dataset, split, other.name, other.folder)
        )
        self._arrays = arrays if samples is None else arrays.select(range(min(samples, len(arrays))))
        self._dataset = dataset
        self._units = self.sampling_units(self._arrays.ids)
        self._shown = spread_over(len(self._arrays), SHOWN[self.task])
        self._features: Tensor | None = None

    def evaluate(self, options: Options | None = None) -> Evaluation:
        """Evaluate all images; see `Subject.evaluate`."""
        options = options or Options()
        logits = torch.cat(list(self._predict(options)))
        found = score_logits(self.task, self.class_names, logits, self._arrays.targets)
        units = UnitTally(self.task, self.class_names, self._units)
        units.add_all(logits, self._arrays.targets)
        return Evaluation(
            self.task,
            found.measured,
            found.images.counts,
            tuple(found.labels[index].numpy().astype(np.uint8) for index in self._shown),
            self._kept(logits, found.labels) if options.keep else b"",
            images=found.images,
            logits=logits,
            intervals=units.intervals(found.measured),
        )

    def _kept(self, logits: Tensor, labels: Tensor) -> bytes:
        writer = PredictionWriter()
        if self.task == CLASSIFICATION:
            writer.add_logits(logits.numpy())
        else:
            for one in labels:
                writer.add_map(one.numpy())
        return writer.content()

    def _predict(self, options: Options) -> Iterator[Tensor]:
        """Yield logits batch by batch, on the CPU."""
        place = place_model(self.run, options.device) if options.as_trained else self._place()
        inputs, network = self._inputs(place)
        size = max(1, VALUES_A_CALL // max(1, inputs[0].numel()))
        if options.as_trained:
            size = evaluation_batch(self.run.task, self.recipe.training.batch_size)
        for start in range(0, len(inputs), size):
            with torch.no_grad():
                logits: Tensor = network(inputs[start : start + size].to(place))
            yield logits.float().cpu()
            if options.progress is not None:
                options.progress(min(start + size, len(inputs)), len(inputs))

    def _place(self) -> torch.device:
        return next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))

    def _inputs(self, place: torch.device) -> tuple[Tensor, Any]:
        """Return what goes into the model, and the part of the model that takes it."""
        images, model = self._arrays.images, self.model
        if not hasattr(model, "forward_features"):
            return images, model
        layer: Any = model.quanvolution
        if getattr(layer.filter, "engine", self._exact) is not self._exact:
            return cached_features(layer, images.to(place)), model.forward_features
        if self._features is None:
            self._features = cached_features(layer, images.to(place))
        return self._features, model.forward_features

    def measure_kept(self, file: Path | None, counts: SegmentationMetrics, tally: Tally) -> Measured:
        """Compute metrics of kept predictions; see `Subject.measure_kept`."""
        targets = self._arrays.targets
        if file is not None and self.task == CLASSIFICATION:
            kept = KeptPredictions(file)
            logits = torch.from_numpy(kept.logits().copy())
            if logits.shape[0] != len(targets) or logits.ndim != 2:
                raise DataError(f"{file}: holds other samples than the test set has. {REMEDY}")
            found = score_logits(self.task, self.class_names, logits, targets, tally)
            kept.check(found.images.counts.matrix, counts.matrix)
            return found.measured
        if file is not None and tally.counting:
            kept, confusion = KeptPredictions(file), ConfusionMatrix(len(self.class_names), self.class_names)
            for one, truth in zip(kept.maps(len(targets)), targets, strict=True):
                kept.check_shape(one, tuple(truth.shape))
                labels = torch.from_numpy(one)
                confusion.update(labels, truth)
                tally.add_all(image_samples(self.class_names, labels[None], truth[None]))
            kept.check(confusion.compute().matrix, counts.matrix)
        return tally.measure(Totals(counts))

    def samples(self) -> list[ShownSample]:
        """Return evenly spread images; see `Subject.samples`."""
        arrays = self._arrays
        return [
            ShownSample(
                arrays.ids[index],
                gray(arrays.images[index].numpy()),
                arrays.targets[index].numpy().astype(np.uint8),
            )
            for index in self._shown
        ]

    def inputs(self, limit: int | None, seed: int | None = None) -> ModelInputs | None:
        """Return evenly spread or random images; see `Subject.inputs`."""
        count = len(self._arrays)
        if not count:
            return None
        wanted = count if limit is None else min(limit, count)
        order = spread_over(count, wanted) if seed is None else sorted(drawn_order(count, seed)[:wanted])
        chosen = self._arrays.select(order)
        return ModelInputs(chosen.images, chosen.targets, chosen.ids)

    def sampling_units(self, names: Sequence[str]) -> SampleUnits:
        """Return what the data set takes for independent; see `Subject.sampling_units`."""
        units = self._dataset.sampling_units(names)
        return SampleUnits.by_name(units.of, units.kind, units.within)

    def write_report(
        self, target: Path, facts: Mapping[str, Any], found: Evaluation, baselines: Mapping[str, Any]
    ) -> None:
        """Write metrics.json, predictions.csv, confusion.png and samples.png."""
        assert found.logits is not None
        assert found.images is not None
        probabilities = class_logits(found.logits).softmax(dim=1)
        write_image_report(
            target, self.run, facts, found.images, self._arrays, probabilities, baselines, self._units
        )

    def facts(self, options: Options) -> dict[str, Any]:
        """Return data set and split."""
        data = self._data.model_dump(mode="json", include={"dataset", "options"})
        return {"data": data, "split": self.split}

    def baselines(self) -> dict[str, ScoredBaseline]:
        """Return majority class, nearest neighbour, linear model and SVM, or colour alone; see `Subject`."""
        return score_image_baselines(self._dataset, self._arrays)

    def identify(self) -> DataIdentity:
        """Return the hash of images and targets; see `Subject.identify`."""
        return arrays_identity(self._arrays)

    def data_identity(self, identity: DataIdentity) -> dict[str, Any]:
        """Hash of images and targets."""
        return dict(identity.parts[0])


def _loads(config: DataConfig, split: str, folder: Path) -> bool:
    """Return whether a data set is there without its folder: it reads no files."""
    try:
        open_image_dataset(config.model_copy(update={"root": str(folder)}), folder).load(split)
    except (ConfigError, DataError):
        return False
    return True


def _other_images(
    run: LoadedImageRun, dataset: ImageDataset, split: str, name: str, folder: Path | None
) -> ImageArrays:
    """Return a split of other images with the model's numbers of the classes.

    Raises:
        ConfigError: If the model does not fit them, or does not know one of their classes.
    """
    if folder is not None and _loads(run.recipe.data, split, folder / "nowhere"):
        raise ConfigError(
            f"{folder}: images are read from a folder, but data set {dataset.name} is the same whatever "
            "the folder holds. Fix: give a recipe."
        )
    wanted = (run.task, run.meta.in_channels, *run.meta.image_size)
    if (dataset.task, *dataset.image_shape) != wanted:
        found = (dataset.task, *dataset.image_shape)
        raise ConfigError(
            f"{name}: images must be as the model was trained on (task, bands, rows, columns: {wanted}), but "
            f"are {found}. Fix: set `data.options` so that they are."
        )
    places = torch.tensor(class_places(run.class_names, dataset.class_names, name))
    arrays = dataset.load(split)
    targets = arrays.targets
    known = targets != IGNORE_INDEX
    mapped = torch.where(known, places[torch.where(known, targets, 0)], targets)
    return ImageArrays(arrays.images, mapped, arrays.ids)
