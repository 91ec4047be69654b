"""The work that goes to a device: a trained model and samples of a data set."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qhybrid.errors import HardwareError
from qhybrid.evaluation.image_scoring import score_logits
from qhybrid.guidance import guidance_in
from qhybrid.layers import quantum_layers
from qhybrid.metrics import CLASSIFICATION, SEGMENTATION
from qhybrid.workspace import atomic_path

SAMPLES_FILE = "samples.safetensors"


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs of a model, with the truth where it is known.

    Attributes:
        images: As the model takes them, shape (N, C, H, W).
        targets: Class indices, shape (N,) or (N, H, W), 255 where they do not count; None if not known.
        names: One a sample.
        class_names: Names of the classes; empty if not known.
        task: What is predicted, one of `qhybrid.metrics.TASKS`; if empty it follows from the targets' shape.
        token_maps: Those of a frozen ViT over the samples' ground, (N, L, C', h, w), for a model with one.
    """

    images: Tensor
    targets: Tensor | None
    names: tuple[str, ...]
    class_names: tuple[str, ...] = ()
    task: str = ""
    token_maps: Tensor | None = None

    def save(self, folder: Path) -> None:
        """Write images, targets and token maps to a folder."""
        found = {"images": self.images, "targets": self.targets, "token_maps": self.token_maps}
        tensors = {name: value.contiguous() for name, value in found.items() if value is not None}
        with atomic_path(folder / SAMPLES_FILE) as temporary:
            save_file(tensors, temporary)

    @classmethod
    def load(
        cls, folder: Path, names: tuple[str, ...], class_names: tuple[str, ...], task: str = ""
    ) -> Samples:
        """Read what `save` wrote.

        Raises:
            HardwareError: If the file is missing or damaged.
        """
        try:
            tensors = load_file(folder / SAMPLES_FILE)
        except (OSError, SafetensorError) as error:
            raise HardwareError(
                f"{folder / SAMPLES_FILE} must hold the plan's samples, but cannot be read: {error}. "
                "Fix: copy the plan's folder again, or make a new plan."
            ) from error
        maps = tensors.get("token_maps")
        return cls(tensors["images"], tensors.get("targets"), names, class_names, task, maps)


@dataclass(eq=False)
class Workload:
    """A model and its samples.

    Attributes:
        model: In evaluation mode, its layers on the engine that computes what does not go to the device.
        samples: The samples.
        origin: Where the model comes from, as plain values: `run` and `which` of a run folder.
    """

    model: nn.Module
    samples: Samples
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that there is something to run.

        Raises:
            HardwareError: If there are no samples or no quantum layers, or a frozen ViT and no token maps.
        """
        if not len(self.samples.images):
            raise HardwareError("A plan needs at least one sample, but there is none. Fix: a higher limit.")
        if not quantum_layers(self.model):
            raise HardwareError(
                "The model must have quantum layers to run on a device, but has none. Fix: give the run of a "
                "model with quantum layers."
            )
        if guidance_in(self.model) is not None and self.samples.token_maps is None:
            raise HardwareError(
                "Samples of a model with a frozen ViT must have its token maps, but have none: a window "
                "alone would pass the ViT as if it were a whole tile. Fix: make the plan anew from its run, "
                "or give `Samples(..., token_maps=)`."
            )


def score(outputs: Tensor, samples: Samples) -> dict[str, float]:
    """Return all metrics of outputs, as an evaluation has them; nothing where the truth is not known.

    Args:
        outputs: Logits, shape (N, K) or (N, K, H, W); with one logit its sign decides.
        samples: The samples.

    Warns:
        UserWarning: If a metric of a plugin has failed; it is left out, and what was paid for is kept.
    """
    if samples.targets is None:
        return {}
    classes = max(2, outputs.shape[1])
    names = samples.class_names if len(samples.class_names) == classes else tuple(map(str, range(classes)))
    task = samples.task or (SEGMENTATION if samples.targets.ndim == 3 else CLASSIFICATION)
    found = score_logits(task, names, outputs.float(), samples.targets).measured
    for message in found.failed.values():
        warnings.warn(message, stacklevel=2)
    return found.values


def predicted_labels(outputs: Tensor) -> Tensor:
    """Return the class of every sample or pixel, shape (N,) or (N, H, W)."""
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0).long()
    return outputs.argmax(dim=1)


def stacked(outputs: list[Tensor | None]) -> Tensor:
    """Return the outputs of all samples as one tensor.

    Raises:
        HardwareError: If one is missing.
    """
    missing = [index for index, output in enumerate(outputs) if output is None]
    if missing:
        raise HardwareError(
            f"Every sample must have an output, but {len(missing)} of {len(outputs)} have none (sample "
            f"{missing[0]} is the first). Fix: look for values that are not finite in the model."
        )
    return torch.stack([output for output in outputs if output is not None])


def agreement(first: Tensor, second: Tensor) -> float:
    """Return the fraction of samples or pixels with the same class."""
    return float(np.mean((predicted_labels(first) == predicted_labels(second)).numpy()))


def plain(values: Mapping[str, float]) -> dict[str, float | None]:
    """Return metrics with few enough digits to read; undefined ones are None."""
    return {name: round(value, 6) if math.isfinite(value) else None for name, value in values.items()}
