"""References for runs on whole images, judged on the model's own images; computed once, then kept."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qhybrid.data.identity import arrays_identity
from qhybrid.data.images import ImageArrays, ImageDataset
from qhybrid.data.images.image_datasets import open_image_dataset
from qhybrid.data.images.partition import grouped_parts, stratified_parts
from qhybrid.errors import DataError, WorkspaceError
from qhybrid.evaluation.classical import BASELINES, OWN, BaselineData, ImageBaseline
from qhybrid.evaluation.image_scoring import score_logits
from qhybrid.evaluation.sampling_error import IMAGE, SampleUnits, UnitTally
from qhybrid.metrics import CLASSIFICATION, METRICS, OWN_KEYS, metrics_of
from qhybrid.metrics.intervals import Intervals
from qhybrid.training.images.metrics import ImageMetrics
from qhybrid.training.images.run import LoadedImageRun, load_image_run
from qhybrid.workspace import cache_dir, write_text
from qhybrid.workspace import data_root as default_data_root

VERSION = 4
"""Of what is kept: a change of any baseline's numbers changes it."""
HELD_OUT = 0.2
"""Share of training that chooses settings where there is no validation split."""
Source = ImageDataset | LoadedImageRun | str | Path


@dataclass(frozen=True, eq=False)
class ScoredBaseline:
    """A reference and what it is worth.

    Attributes:
        label: Its name for readers.
        metrics: All metrics that it has; without those that need probabilities where it has none.
        images: The confusion matrix, and what follows from it.
        intervals: The test set's own sampling error of each metric.
        facts: Settings and what was tried.
    """

    label: str
    metrics: dict[str, float]
    images: ImageMetrics
    intervals: Intervals
    facts: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for metrics.json; undefined ones are None."""
        finite = {key: value if math.isfinite(value) else None for key, value in self.metrics.items()}
        return {
            "label": self.label,
            **self.images.to_dict(),
            "metrics": finite,
            "intervals": self.intervals.to_dict(),
            **self.facts,
        }


def image_baselines(
    source: Source, split: str = "test", *, data_root: str | Path | None = None
) -> dict[str, dict[str, float]]:
    """Return the metrics of all references on a split: `{"rbf_svm": {"accuracy": 0.93, ...}, ...}`.

    Of classification these are `majority_class`, `nearest_neighbour` (Euclidean), `linear_model` (logistic
    regression) and `rbf_svm`; the last two choose among four settings on validation images, or on a seeded
    fifth of training where there are none. Of segmentation they are `majority_class` and `pixel_linear`, a
    linear model that sees one pixel's values and nothing else. Results are kept by the content of all images,
    so that a repeat costs nothing.

    Args:
        source: A data set, or a run on whole images or its folder.
        split: The split that they are judged on.
        data_root: Folder that a run's `data.root` is relative to; QHYBRID_DATA or ./data if absent.

    Raises:
        ConfigError: If the run is one on scenes.
        DataError: If the data are unusable.
    """
    dataset = _dataset(source, data_root)
    found = score_image_baselines(dataset, dataset.load(split))
    return {key: one.metrics for key, one in found.items()}


def _dataset(source: Source, data_root: str | Path | None) -> ImageDataset:
    if isinstance(source, ImageDataset):
        return source
    run = source if isinstance(source, LoadedImageRun) else load_image_run(source)
    return open_image_dataset(run.recipe.data, default_data_root(data_root))


def score_image_baselines(
    dataset: ImageDataset,
    arrays: ImageArrays,
    progress: Callable[[int, int], None] | None = None,
    keys: Sequence[str] | None = None,
) -> dict[str, ScoredBaseline]:
    """Return all references of a data set's task, judged on some of its images.

    Args:
        dataset: The data set, for its training and validation splits.
        arrays: Images to judge on.
        progress: Called with (references done, all of them).
        keys: Which references; all of the task if absent.

    Raises:
        ConfigError: If one of the keys is unknown.
    """
    chosen = [BASELINES.get(key, "keys") for key in keys] if keys is not None else [
        one for _, one in BASELINES.items()
    ]  # fmt: skip
    chosen = [one for one in chosen if dataset.task in one.tasks]
    data = _data(dataset, arrays)
    units = dataset.sampling_units(arrays.ids)
    content = {
        "version": VERSION,
        "task": dataset.task,
        "classes": list(dataset.class_names),
        "images": [arrays_identity(one).parts[0] for one in (data.train, data.choice, arrays)],
        "chosen_on": data.chosen_on,
        "units": [units.kind, list(units.of), units.within],
        "sklearn": version("scikit-learn"),
    }
    found = {}
    for done, one in enumerate(chosen, start=1):
        found[one.key] = _scored(one, data, arrays, dataset, content)
        if progress is not None:
            progress(done, len(chosen))
    return found


def _data(dataset: ImageDataset, arrays: ImageArrays) -> BaselineData:
    train, held_out = dataset.load("train"), "val" not in dataset.splits
    if not held_out:
        choice, chosen_on = dataset.load("val"), "the validation split"
    else:
        chosen_on = f"{100 * HELD_OUT:.0f} % of training, seeded: there is no validation split"
        if len(train) < 2:
            raise DataError(
                "Baselines need a validation split, or at least 2 training images of which one chooses "
                f"settings, but there are {len(train)}. Fix: more training images."
            )
        size = max(1, round(HELD_OUT * len(train)))
        labels = train.targets.numpy() if dataset.task == CLASSIFICATION else [0] * len(train)
        sizes, units = [len(train) - size, size], dataset.sampling_units(train.ids)
        kept, taken = stratified_parts(labels, sizes, 0, "baseline choice")
        if dataset.task == CLASSIFICATION and units.kind != IMAGE:
            # A near-duplicate on the other side would choose what learns by heart.
            with contextlib.suppress(DataError):  # groups too large for a fifth
                kept, taken = grouped_parts(labels, units.of, sizes, 0, "baseline choice")
        train, choice = train.select(kept), train.select(taken)
    return BaselineData(train, choice, chosen_on, held_out, arrays.images, len(dataset.class_names))


def _scored(
    baseline: ImageBaseline,
    data: BaselineData,
    arrays: ImageArrays,
    dataset: ImageDataset,
    content: Mapping[str, Any],
) -> ScoredBaseline:
    """Return a reference from the cache, else computed; code of others is run each time."""
    own = baseline in OWN and all(one.key in OWN_KEYS for one in metrics_of(dataset.task))
    file = _file({**content, "baseline": baseline.key}) if own else None
    known = None if file is None else _read(file)
    if known is not None:
        return known
    said = baseline.predict(data)
    found = score_logits(dataset.task, dataset.class_names, said.logits, arrays.targets)
    units = dataset.sampling_units(arrays.ids)
    tally = UnitTally(
        dataset.task, dataset.class_names, SampleUnits.by_name(units.of, units.kind, units.within)
    )
    tally.add_all(said.logits, arrays.targets)
    kept = {
        key: value for key, value in found.measured.values.items() if said.probabilities or not _needs(key)
    }
    intervals = tally.intervals(found.measured)
    only = Intervals(
        intervals.units,
        {key: one for key, one in intervals.values.items() if key in kept},
        {key: one for key, one in intervals.missing.items() if key in kept},
    )
    result = ScoredBaseline(baseline.label, kept, found.images, only, said.facts)
    if file is not None:
        _write(file, result)
    return result


def _needs(key: str) -> bool:
    """Return whether a metric needs probabilities; of a map without doubts the soft IoU is its IoU."""
    return key in METRICS and METRICS.get(key).probabilities and not key.startswith("soft_iou")


def _file(content: Mapping[str, Any]) -> Path | None:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    try:
        return cache_dir() / "baselines" / f"{digest}.json"
    except WorkspaceError:
        return None


def _read(file: Path) -> ScoredBaseline | None:
    """Return what was kept; None if there is nothing, or nothing whole."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        metrics = {key: math.nan if value is None else value for key, value in content["metrics"].items()}
        return ScoredBaseline(
            content["label"],
            metrics,
            ImageMetrics.from_dict(content["images"]),
            Intervals.from_dict(content["intervals"]),
            content["facts"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, found: ScoredBaseline) -> None:
    finite = {key: value if math.isfinite(value) else None for key, value in found.metrics.items()}
    content = {
        "label": found.label,
        "metrics": finite,
        "images": found.images.to_dict(),
        "intervals": found.intervals.to_dict(),
        "facts": found.facts,
    }
    try:
        write_text(file, json.dumps(content, allow_nan=False) + "\n")
    except WorkspaceError:  # a cache that cannot be written is no error
        return
