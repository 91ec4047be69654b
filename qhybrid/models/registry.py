"""The registry of models, and what an entry says of its model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from qhybrid.config import StrictModel
from qhybrid.data.images.dataset import Task
from qhybrid.engines.base import Engine
from qhybrid.errors import ConfigError, PluginError
from qhybrid.models.workspace_circuits import CircuitKeys
from qhybrid.plugins import Registry

Size = Literal["patch_size", "image_size", "any"]


@dataclass(frozen=True)
class ModelEntry:
    """One model of the registry.

    Attributes:
        options: Class of its keys.
        build: Builds it from checked keys and an engine (None is the noiseless exact one).
        description: One sentence for lists.
        tasks: What its logits are for: one class an image (B, K), one class a pixel (B, K, H, W), or both.
        circuits: Named circuits that its keys are arguments of, whose definition in circuits/ is honoured.
    """

    options: type[StrictModel]
    build: Callable[[Any, Engine | None], nn.Module]
    description: str
    tasks: frozenset[Task]
    circuits: tuple[CircuitKeys, ...] = ()

    @property
    def size(self) -> Size:
        """What its keys need to know of images: a side, height and width, or nothing (`any`)."""
        keys = self.options.model_fields
        if "patch_size" in keys:
            return "patch_size"
        return "image_size" if "image_size" in keys else "any"

    def data_keys(self, in_channels: int, num_classes: int, size: tuple[int, int]) -> dict[str, Any]:
        """Return the keys that data decide, of those that the model has.

        Args:
            in_channels: Bands of the images.
            num_classes: Classes, or 1 for one logit of two classes.
            size: Height and width of the images or of training patches, in pixels.

        Raises:
            ConfigError: If the model takes squares alone, and the images are none.
        """
        keys = self.options.model_fields
        decided: dict[str, Any] = {"in_channels": in_channels, "num_classes": num_classes}
        if "patch_size" in keys and size[0] == size[1]:
            decided["patch_size"] = size[0]
        elif "image_size" in keys:
            decided["image_size"] = list(size)
        elif "patch_size" in keys:
            raise ConfigError(
                f"Images must be square for a model that has `patch_size` alone, but are {size[0]} x "
                f"{size[1]}. Fix: choose a model with `image_size`, or let the data set resize them."
            )
        return {key: value for key, value in decided.items() if key in keys}


MODELS: Registry[ModelEntry] = Registry("model")


def register_model(
    name: str,
    options: type[StrictModel],
    build: Callable[[Any, Engine | None], nn.Module],
    description: str,
    task: Task | Collection[Task],
    *,
    circuits: Sequence[CircuitKeys] = (),
    replace: bool = False,
) -> ModelEntry:
    """Add a model that recipes can name.

    Args:
        name: `model.name` in recipes.
        options: Class of the model's keys, a subclass of `qhybrid.config.StrictModel`. Of `in_channels`,
            `num_classes`, `patch_size` and `image_size`, the data fill in those that it has.
        build: Builds the model from checked keys and an engine, which it hands to its quantum layers.
        description: One sentence for lists.
        task: `segmentation` (logits (B, K, H, W)), `classification` (logits (B, K)), or both.
        circuits: Named circuits that some of its keys are arguments of.
        replace: Whether it may take the place of another model.

    Returns:
        The entry.

    Raises:
        PluginError: If the name is taken, or an argument is of the wrong kind.
    """
    tasks = frozenset([task] if isinstance(task, str) else task)
    if not tasks or not tasks <= set(get_args(Task)):
        raise PluginError(
            f"Argument `task` of model `{name}` must be one or more of {', '.join(get_args(Task))}, but is "
            f"{task!r}."
        )
    if not (isinstance(options, type) and issubclass(options, StrictModel)):
        raise PluginError(
            f"Argument `options` of model `{name}` must be a subclass of qhybrid.config.StrictModel, but is "
            f"{options!r}."
        )
    entry = ModelEntry(options, build, description, tasks, tuple(circuits))
    return MODELS.register(name, entry, replace=replace)
