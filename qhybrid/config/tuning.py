"""Search spaces: which recipe keys are tuned, and from which values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from qhybrid.config.reading import read_yaml, validated
from qhybrid.config.strict import StrictModel
from qhybrid.errors import ConfigError

FIXED = (
    "name",
    "description",
    "seed",
    "data.dataset",
    "data.root",
    "data.options",
    "data.classes",
    "data.ignore_values",
    "data.nodata",
    "data.folds",
    "data.fold",
    "data.color_tolerance",
    "data.fit_masks",
    "data.vector",
    "data.resolution",
    "model.name",
)
"""Keys that decide what is judged, or the random numbers of it: trials that differ cannot be compared."""


class Distribution(StrictModel):
    """Where the values of one recipe key are drawn from: a range, or a list of choices.

    Attributes:
        low: Smallest value.
        high: Largest value.
        log: Draw evenly over the logarithm; for learning rates and other scales.
        integer: Draw whole numbers.
        choices: The values themselves, in place of a range.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _is_a_range_or_choices(self) -> Distribution:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("give either `low` and `high`, or `choices`")
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.integer:
                raise ValueError("`choices` has no `low`, `high`, `log` and `integer`")
            return self
        low, high = self.low or 0.0, self.high or 0.0
        if low > high or (self.log and low <= 0):
            raise ValueError(f"`low` must be {'above 0 and ' if self.log else ''}at most `high`")
        if self.integer and (low % 1 or high % 1):
            raise ValueError("`low` and `high` must be whole numbers where `integer` is true")
        return self

    @property
    def some_value(self) -> Any:
        """One value of it, to check a recipe with."""
        if self.choices is not None:
            return self.choices[0]
        return int(self.low or 0) if self.integer else self.low


class TuneSpace(StrictModel):
    """The search space.

    Attributes:
        space: Recipe keys, as in `training.learning_rate`, with the distributions of their values.
    """

    space: dict[str, Distribution] = Field(min_length=1)

    @model_validator(mode="after")
    def _keys_can_be_tuned(self) -> TuneSpace:
        for key in self.space:
            if any(key == one or key.startswith(f"{one}.") for one in FIXED):
                raise ValueError(
                    f"`{key}` cannot be tuned: it decides what is judged, or the random numbers of it, so "
                    "that its trials could not be compared"
                )
        return self


def load_space(path: str | Path) -> TuneSpace:
    """Read a search space from a YAML file: recipe keys with their distributions.

    Raises:
        ConfigError: If the file or a distribution is invalid.
    """
    return space_of(read_yaml(path), str(path))


def space_of(content: Mapping[str, Any], source: str) -> TuneSpace:
    """Return the search space of recipe keys with their distributions, as a file has them.

    Args:
        content: The keys, by themselves or below `space`.
        source: What they are called in errors.

    Raises:
        ConfigError: If a distribution is invalid.
    """
    keys = content["space"] if set(content) == {"space"} else content
    if not isinstance(keys, Mapping):
        raise ConfigError(f"{source}: must hold recipe keys with distributions, but holds {keys!r}.")
    for key, section in keys.items():
        if isinstance(section, Mapping):  # one by one, since a wrong key is then answered with a near one
            validated(Distribution, section, f"{source}, `{key}`")
    return validated(TuneSpace, {"space": dict(keys)}, source)
