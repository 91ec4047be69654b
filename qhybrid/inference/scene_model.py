"""What inference needs from a trained run, and class probabilities of a batch of windows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from qhybrid.config import Recipe
from qhybrid.data.classes import ClassMap
from qhybrid.data.contract import InputContract
from qhybrid.data.contract_reading import ImageReader
from qhybrid.data.raster import RasterInfo
from qhybrid.data.raster_file import bounded_cache
from qhybrid.data.statistics import BandStatistics, contract_of
from qhybrid.errors import ConfigError, DataError
from qhybrid.guidance import SceneTokens

Run = TypeVar("Run")


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
        """What standardises raw values, and the contract that scenes are read for."""
        ...

    @property
    def classes(self) -> ClassMap:
        """The K classes."""
        ...

    @property
    def bands(self) -> tuple[int, ...]:
        """1-based numbers of the C bands in the first training scene, in the model's order."""
        ...

    @property
    def patch_size(self) -> int:
        """Side of the training patches in pixels."""
        ...

    @property
    def any_size(self) -> bool:
        """Whether the model takes windows of any size, or of the training patches' size alone."""
        ...


def input_contract(run: SceneModel) -> InputContract:
    """Return what scenes are read for: what the model was trained on, with what the user decides."""
    return contract_of(run.statistics, run.recipe.data, run.bands)


def scene_tokens(run: SceneModel, keep: bool) -> SceneTokens | None:
    """Return what gives token maps of windows to a model with a frozen ViT; None for one without.

    Args:
        run: The trained model.
        keep: Keep new token maps on disk.
    """
    return SceneTokens.of(run.model, run.statistics, input_contract(run), keep=keep)


def scene_grid(run: SceneModel, image: str | Path) -> RasterInfo:
    """Return the grid that a map of a scene has: that of the file, or the one that it is resampled to.

    Raises:
        DataError: If the scene is unusable, or cannot be what the model was trained on.
    """
    reader = ImageReader(image, input_contract(run).reading(image))
    reader.close()
    return reader.info


def window_cache(run: SceneModel, image: str | Path, size: int) -> AbstractContextManager[None]:
    """Keep no more of a scene in memory than windows of some size need; see `bounded_cache`."""
    reader = ImageReader(image, input_contract(run).reading(image))
    reader.close()
    return bounded_cache(reader.path, math.ceil(size * reader.file_info.height / reader.info.height) + 2)


def read_as(
    run: Run,
    *,
    bands: Sequence[int] | None = None,
    scale: float | None = None,
    resolution: float | None = None,
) -> Run:
    """Return a run whose scenes are read as the user says, where their files do not say it rightly.

    Args:
        run: The trained run.
        bands: 1-based numbers of the scenes' bands, in the model's order; absent: by names, else by place.
        scale: What the scenes' numbers are multiplied with to be encoded as those of training; absent: by
            what the files say.
        resolution: Metres a pixel that scenes are resampled to; absent: what the run's recipe says.

    Raises:
        ConfigError: If scale or resolution is not above 0, or the run is one on whole images.
    """
    for name, number in {"scale": scale, "resolution": resolution}.items():
        if number is not None and not 0 < number < math.inf:
            raise ConfigError(
                f"Argument `{name}` must be a number above 0, but is {number}. Fix: leave it away."
            )
    given = {"bands": None if bands is None else tuple(bands), "scale": scale, "resolution": resolution}
    options = {name: value for name, value in given.items() if value is not None}
    if not options:
        return run
    if not (is_dataclass(run) and isinstance(getattr(run, "statistics", None), BandStatistics)):
        raise ConfigError(
            f"Argument `{next(iter(options))}` is for runs on scenes, but this one was trained on whole "
            "images. Fix: leave it away."
        )
    contract = input_contract(cast(SceneModel, run)).with_options(**options)
    return cast(
        Run, replace(cast(Any, run), statistics=replace(cast(Any, run).statistics, contract=contract))
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
    tokens: torch.Tensor | None = None,
) -> NDArray[np.float32]:
    """Run the model on windows of equal size.

    Args:
        run: The trained model, already placed on `device`.
        windows: B standardised images, each float32 of shape (C, h, w).
        device: Where the model is.
        source: The scene, for messages.
        orientations: 1, 4 or 8: average over rotations by 90 degrees, and over their mirror images.
        tokens: Token maps of the windows, (B, L, C', h, w), for a model with guidance.

    Returns:
        Class probabilities (softmax of the logits), shape (B, K, h, w).

    Raises:
        ConfigError: If the model does not return logits of shape (B, K, h, w).
        DataError: If a logit is not finite.
    """
    images = torch.from_numpy(np.stack(windows)).to(device)
    maps = None if tokens is None else tokens.to(device)
    averaged = []
    for mirrored in (False, True) if orientations == 8 else (False,):
        for turns in range(min(orientations, 4)):
            turned = None if maps is None else _turned(maps, turns, mirrored)
            found = _probabilities(run, _turned(images, turns, mirrored), source, turned)
            averaged.append(_turned(found, -turns, mirrored, back=True))
    return np.asarray(torch.stack(averaged).mean(dim=0).cpu().numpy())


def _turned(images: torch.Tensor, turns: int, mirrored: bool, back: bool = False) -> torch.Tensor:
    """Mirror left-right, then rotate by `turns` right angles; `back` undoes it: rotate first, then mirror."""
    if mirrored and not back:
        images = images.flip(-1)
    images = torch.rot90(images, turns, (-2, -1))
    return images.flip(-1) if mirrored and back else images


def _probabilities(
    run: SceneModel, images: torch.Tensor, source: str, tokens: torch.Tensor | None
) -> torch.Tensor:
    """Return the checked class probabilities of a batch, shape (B, K, h, w)."""
    if run.recipe.training.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        logits = run.model(images) if tokens is None else run.model(images, tokens)
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
