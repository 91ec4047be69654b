"""What inference needs from a trained run, and class probabilities of a batch of windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from qhybrid.config import Recipe
from qhybrid.data.classes import ClassMap
from qhybrid.data.raster import RasterInfo
from qhybrid.data.statistics import BandStatistics
from qhybrid.errors import ConfigError, DataError


class TrainedModel(Protocol):
    """A trained network and how it was trained."""

    @property
    def model(self) -> nn.Module:
        """Maps images (B, C, H, W) to logits."""
        ...

    @property
    def recipe(self) -> Recipe:
        """The recipe of the run."""
        ...


class SceneModel(TrainedModel, Protocol):
    """A trained model with all that is needed to apply it to raw scenes; a loaded run is one.

    Its network maps standardised images (B, C, H, W) to logits (B, K, H, W).
    """

    @property
    def statistics(self) -> BandStatistics:
        """What standardises raw values."""
        ...

    @property
    def classes(self) -> ClassMap:
        """The K classes."""
        ...

    @property
    def bands(self) -> tuple[int, ...]:
        """1-based numbers of the C bands to read, in this order."""
        ...

    @property
    def patch_size(self) -> int:
        """Side of the training patches in pixels."""
        ...

    @property
    def any_size(self) -> bool:
        """Whether the model takes windows of any size, or of the training patches' size alone."""
        ...


def check_scene(run: SceneModel, info: RasterInfo) -> None:
    """Check that a scene has the bands that the model was trained on.

    Raises:
        DataError: If it has too few bands, or other ones where the recipe means "all bands".
    """
    needed = max(run.bands)
    every = info.data_bands() if run.recipe.data.bands is None else None
    if info.count < needed or (every is not None and len(every) != len(run.bands)):
        kept = f" ({len(every)} without alpha)" if every is not None and len(every) != info.count else ""
        raise DataError(
            f"{info.path}: the model was trained on band(s) {', '.join(map(str, run.bands))}, but the scene "
            f"has {info.count} band(s){kept}. Fix: predict scenes with the bands of the training data, or "
            "train with `data.bands` set to the bands that all scenes share."
        )


def check_window_size(run: SceneModel, window_size: int | None) -> int:
    """Return the side of the windows: the given one, else the training patches'.

    Raises:
        ConfigError: If the model does not take windows of the given size.
    """
    size = run.patch_size if window_size is None else window_size
    if size < 1 or (size != run.patch_size and not run.any_size):
        allowed = "at least 1" if run.any_size else f"{run.patch_size}, the training patch size of this model"
        raise ConfigError(f"Argument `window_size` must be {allowed}, but is {size}. Fix: leave it away.")
    step = math.lcm(*getattr(run.model, "size_multiple", (1, 1)))
    if size % step:
        raise ConfigError(
            f"Argument `window_size` must be a multiple of {step} here, but is {size}. Fix: leave it away."
        )
    return size


def place_model(run: TrainedModel, device: str | torch.device | None) -> torch.device:
    """Put the model in evaluation mode, in the memory order of its training, and on a device.

    Args:
        run: The trained model.
        device: Where to run it; "auto" is the GPU if there is one; None leaves it where it is.

    Returns:
        The device of the model.

    Raises:
        ConfigError: If the device does not exist.
    """
    run.model.eval()
    if run.recipe.training.channels_last:
        run.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if device is None:
        return next((parameter.device for parameter in run.model.parameters()), torch.device("cpu"))
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        chosen = torch.device(name)
        run.model.to(chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"Argument `device` must be usable, but {device!s} is not: {reason}") from error
    return chosen


def window_probabilities(
    run: SceneModel,
    windows: Sequence[NDArray[Any]],
    device: torch.device,
    source: str,
    orientations: int = 1,
) -> NDArray[np.float32]:
    """Run the model on windows of equal size.

    Args:
        run: The trained model, already placed on `device`.
        windows: B standardised images, each float32 of shape (C, h, w).
        device: Where the model is.
        source: The scene, for messages.
        orientations: 1, 4 or 8: average over rotations by 90 degrees, and over their mirror images.

    Returns:
        Class probabilities (softmax of the logits), shape (B, K, h, w).

    Raises:
        ConfigError: If the model does not return logits of shape (B, K, h, w).
        DataError: If a logit is not finite.
    """
    images = torch.from_numpy(np.stack(windows)).to(device)
    averaged = [
        _turned(_probabilities(run, _turned(images, turns, mirrored), source), -turns, mirrored, back=True)
        for mirrored in ((False, True) if orientations == 8 else (False,))
        for turns in range(min(orientations, 4))
    ]
    return np.asarray(torch.stack(averaged).mean(dim=0).cpu().numpy())


def _turned(images: torch.Tensor, turns: int, mirrored: bool, back: bool = False) -> torch.Tensor:
    """Mirror left-right, then rotate by `turns` right angles; `back` undoes it: rotate first, then mirror."""
    if mirrored and not back:
        images = images.flip(-1)
    images = torch.rot90(images, turns, (-2, -1))
    return images.flip(-1) if mirrored and back else images


def _probabilities(run: SceneModel, images: torch.Tensor, source: str) -> torch.Tensor:
    """Return the checked class probabilities of a batch, shape (B, K, h, w)."""
    if run.recipe.training.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = run.model(images)
    expected = (len(images), run.classes.num_classes, *images.shape[2:])
    if tuple(logits.shape) != expected:
        raise ConfigError(
            f"A model that maps scenes must return logits of shape {expected}, but this one returned "
            f"{tuple(logits.shape)}."
        )
    if not bool(torch.isfinite(logits).all()):
        raise DataError(
            f"{source}: the model's logits must be finite, but some are NaN or infinite. Fix: look for "
            "values far outside those of the training data, or for weights of a diverged training."
        )
    probabilities: torch.Tensor = logits.float().softmax(dim=1)
    return probabilities
