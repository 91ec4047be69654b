"""Classical references for whole images: majority class, nearest neighbour, linear model, RBF-SVM.

None of them needs a graphics card or more than minutes. What has a setting tries four of them on validation
images; test images choose nothing. Memory is bounded: larger images are reduced, and of large training sets a
seeded part is used; the facts of each result say so.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.data.images import ImageArrays
from qhybrid.data.images.partition import stratified_parts
from qhybrid.errors import PluginError
from qhybrid.metrics import CLASSIFICATION, SEGMENTATION
from qhybrid.plugins import Registry
from qhybrid.seeding import numpy_generator

Floats = NDArray[np.float64]

SVM_SETTINGS: tuple[dict[str, Any], ...] = (
    {"C": 3.0, "gamma": "scale"},
    {"C": 3.0, "gamma": 0.02},
    {"C": 10.0, "gamma": "scale"},
    {"C": 10.0, "gamma": 0.02},
)
"""Penalty and width of the kernel; `scale` is 1 / (features x their variance), as in scikit-learn."""
LINEAR_SETTINGS: tuple[dict[str, Any], ...] = tuple({"C": c} for c in (0.01, 0.1, 1.0, 10.0))
MOST_FEATURES = 4096
"""Values of an image at most; larger ones are reduced by averaging."""
MOST_IMAGES = 10_000
"""Training images of the SVM and of the linear model at most."""
MOST_VALUES = 2**25
"""Values of all their training images at most."""
MOST_PIXELS = 200_000
_BLOCK = 2**24
_ITERATIONS = 1000
_SURE = 30.0
"""Logit of what is said without a doubt: its softmax is 1 to single precision."""


@dataclass(frozen=True, eq=False)
class BaselineData:
    """What a baseline may use.

    Attributes:
        train: Images that it is fitted to.
        choice: Images that choose settings: those of the validation split, or a part of training.
        chosen_on: Which of the two, in words.
        held_out: Whether `choice` is a part of training, which the fit with the chosen setting has again.
        images: Images to predict, shape (N, C, H, W).
        num_classes: Number of classes K.
    """

    train: ImageArrays
    choice: ImageArrays
    chosen_on: str
    held_out: bool
    images: Tensor
    num_classes: int

    def whole(self) -> ImageArrays:
        """Return the images of the last fit, when settings are chosen."""
        if not self.held_out:
            return self.train
        one, other = self.train, self.choice
        return ImageArrays(
            torch.cat([one.images, other.images]),
            torch.cat([one.targets, other.targets]),
            (*one.ids, *other.ids),
        )


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a baseline says.

    Attributes:
        logits: Shape (N, K) or (N, K, H, W).
        probabilities: Whether their softmax is what the baseline believes; otherwise the largest one counts
            alone.
        facts: Settings and what was tried, for metrics.json.
    """

    logits: Tensor
    probabilities: bool
    facts: dict[str, Any]


@dataclass(frozen=True)
class ImageBaseline:
    """A reference for whole images.

    Attributes:
        key: Its name in files.
        label: Its name for readers.
        tasks: `classification` or `segmentation`, or both.
        predict: Fits it and predicts.
    """

    key: str
    label: str
    tasks: tuple[str, ...]
    predict: Callable[[BaselineData], Predicted]


BASELINES: Registry[ImageBaseline] = Registry("baseline")


def register_baseline(
    key: str,
    predict: Callable[[BaselineData], Predicted],
    *,
    label: str,
    tasks: Sequence[str] = (CLASSIFICATION,),
    replace: bool = False,
) -> ImageBaseline:
    """Add a reference that `qhybrid evaluate --baselines` computes.

    Args:
        key: Its name in files.
        predict: Fits it to `BaselineData.train` and predicts.
        label: Its name for readers.
        tasks: Of `classification` and `segmentation`.
        replace: Whether it may take the place of another one.

    Raises:
        PluginError: If the key is taken, or a task is unknown.
    """
    if not tasks or set(tasks) - {CLASSIFICATION, SEGMENTATION}:
        raise PluginError(
            f"Tasks of baseline `{key}` must be of {CLASSIFICATION}, {SEGMENTATION}, but are {tasks!r}."
        )
    return BASELINES.register(key, ImageBaseline(key, label, tuple(tasks), predict), replace=replace)


def _majority(data: BaselineData) -> Predicted:
    targets = data.whole().targets
    counts = torch.bincount(targets[targets != IGNORE_INDEX].flatten(), minlength=data.num_classes)
    most = int(counts.argmax())
    shape = (len(data.images), *(data.images.shape[-2:] if targets.ndim > 1 else ()))
    return Predicted(_sure(torch.full(shape, most), data.num_classes), False, {"class": most})


def _sure(labels: Tensor, num_classes: int) -> Tensor:
    """Return logits of labels, shape (N, K, ...)."""
    return torch.nn.functional.one_hot(labels, num_classes).movedim(-1, 1).float() * _SURE


def _nearest(data: BaselineData) -> Predicted:
    """Predict the class of the training image with the smallest Euclidean distance."""
    train = data.whole()
    known, facts = _features(train.images)
    asked, _ = _features(data.images)
    squares = (known**2).sum(axis=1)
    step = max(1, _BLOCK // len(known))
    nearest = [
        (squares - 2 * (asked[start : start + step] @ known.T)).argmin(axis=1)
        for start in range(0, len(asked), step)
    ]
    labels = train.targets[torch.from_numpy(np.concatenate(nearest))]
    return Predicted(_sure(labels, data.num_classes), False, facts)


def _features(images: Tensor) -> tuple[Floats, dict[str, Any]]:
    """Return values as rows, shape (N, D), of images that are reduced where they have too many."""
    bands, height, width = images.shape[1:]
    facts: dict[str, Any] = {}
    if bands * height * width > MOST_FEATURES:
        scale = (MOST_FEATURES / (bands * height * width)) ** 0.5
        size = max(1, int(height * scale)), max(1, int(width * scale))
        images = torch.cat([adaptive_avg_pool2d(part, size) for part in torch.split(images, 256)])
        facts = {"reduced_to": list(size)}
    return images.reshape(len(images), -1).double().numpy(), facts


def _part(arrays: ImageArrays, features: int) -> ImageArrays:
    """Return the training images that fit into memory and time, a seeded part that keeps the shares."""
    most = min(MOST_IMAGES, MOST_VALUES // max(1, features))
    if len(arrays) <= most:
        return arrays
    return arrays.select(stratified_parts(arrays.targets.numpy(), [most], 0, "baseline")[0])


def _svm(data: BaselineData) -> Predicted:
    from sklearn.svm import SVC

    return _by_validation(data, SVM_SETTINGS, lambda setting: SVC(**setting), centred=False)


def _linear(data: BaselineData) -> Predicted:
    # The same model, found in fewer steps.
    return _by_validation(data, LINEAR_SETTINGS, lambda setting: _logistic(**setting), centred=True)


def _logistic(**setting: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=_ITERATIONS, **setting)


def _by_validation(
    data: BaselineData,
    settings: Sequence[dict[str, Any]],
    make: Callable[[dict[str, Any]], Any],
    *,
    centred: bool,
) -> Predicted:
    """Fit each setting to training images, keep the one that is best on those that choose."""
    choice, facts = _features(data.choice.images)
    train = _part(data.train, choice.shape[1])
    inputs, targets = _features(train.images)[0], train.targets.numpy()
    known = np.unique(targets)
    if len(known) == 1:
        labels = torch.full((len(data.images),), int(known[0]))
        return Predicted(_sure(labels, data.num_classes), False, {"classes_in_training": 1})
    centre = inputs.mean(axis=0) if centred else np.zeros(inputs.shape[1])
    truth = data.choice.targets.numpy()
    tried, models = [], []
    remarks: set[str] = set()
    for setting in settings:
        models.append(_fitted(make(setting), inputs - centre, targets, remarks))
        right = float((models[-1].predict(choice - centre) == truth).mean())
        tried.append({**setting, "validation_accuracy": right})
    best = int(np.argmax([one["validation_accuracy"] for one in tried]))
    model = models[best]
    if data.held_out:
        train = _part(data.whole(), choice.shape[1])
        inputs = _features(train.images)[0]
        model = _fitted(make(settings[best]), inputs - centre, train.targets.numpy(), remarks)
    facts |= {"setting": settings[best], "tried": tried, "chosen_on": data.chosen_on}
    facts |= {"training_images": len(train)} | ({"remarks": sorted(remarks)} if remarks else {})
    return _say(model, _features(data.images)[0] - centre, data.num_classes, facts)


def _fitted(model: Any, inputs: Floats, targets: NDArray[Any], remarks: set[str]) -> Any:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(inputs, targets)
    if any(issubclass(one.category, ConvergenceWarning) for one in caught):
        remarks.add(f"not converged after {_ITERATIONS} iterations")
    return model


def _say(model: Any, inputs: Floats, num_classes: int, facts: dict[str, Any]) -> Predicted:
    """Return what a fitted model says; classes that training lacks are never said.

    They have no probability then, and a cross-entropy would be that of the number that stands for 0.
    """
    if not hasattr(model, "predict_proba"):
        return Predicted(_sure(torch.from_numpy(model.predict(inputs)), num_classes), False, facts)
    logits = torch.full((len(inputs), num_classes), -_SURE)
    with np.errstate(divide="ignore"):  # what is sure is clamped below
        said = model.predict_log_proba(inputs)
    logits[:, torch.from_numpy(model.classes_)] = torch.from_numpy(said).float()
    return Predicted(logits.clamp(min=-_SURE), len(model.classes_) == num_classes, facts)


def _pixels(data: BaselineData) -> Predicted:
    """Predict each pixel by its own values: a linear model without a penalty."""
    whole = data.whole()
    inputs, targets = _some_pixels(whole)
    known = np.unique(targets)
    if len(known) == 1:
        return _majority(data)
    centre = inputs.mean(axis=0)
    remarks: set[str] = set()
    model = _fitted(_logistic(C=np.inf), inputs - centre, targets, remarks)
    facts: dict[str, Any] = {"training_pixels": len(targets)}
    facts |= {"remarks": sorted(remarks)} if remarks else {}
    maps = []
    for image in data.images:
        values = image.flatten(1).T.double().numpy() - centre
        said = _say(model, values, data.num_classes, {}).logits
        maps.append(said.T.reshape(data.num_classes, *image.shape[-2:]))
    return Predicted(torch.stack(maps), True, facts)


def _some_pixels(arrays: ImageArrays) -> tuple[Floats, NDArray[np.int64]]:
    """Return values (P, C) and classes (P,) of labelled pixels, as many of every image."""
    rng = numpy_generator(0, "baseline pixels")
    each = max(1, MOST_PIXELS // len(arrays))
    inputs, targets = [], []
    for image, target in zip(arrays.images, arrays.targets, strict=True):
        labels = target.flatten().numpy()
        known = np.flatnonzero(labels != IGNORE_INDEX)
        chosen = known if len(known) <= each else rng.choice(known, each, replace=False)
        inputs.append(image.flatten(1).T[torch.from_numpy(chosen)].double().numpy())
        targets.append(labels[chosen])
    return np.concatenate(inputs), np.concatenate(targets)


OWN = (
    register_baseline(
        "majority_class", _majority, label="majority class", tasks=(CLASSIFICATION, SEGMENTATION)
    ),
    register_baseline("nearest_neighbour", _nearest, label="nearest neighbour"),
    register_baseline("linear_model", _linear, label="linear model"),
    register_baseline("rbf_svm", _svm, label="RBF-SVM"),
    register_baseline("pixel_linear", _pixels, label="colour alone", tasks=(SEGMENTATION,)),
)
"""Those of the package: their results are kept, because their code has a version."""
