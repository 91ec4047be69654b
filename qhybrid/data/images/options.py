"""Keys that several data sets share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from qhybrid.config import StrictModel
from qhybrid.data.images.partition import apportion


class FractionOptions(StrictModel):
    """Keys of data sets that are split by shares.

    Attributes:
        validation: Share of the images for validation; 0 is none.
        test: Share of the images for test.
        seed: Decides which image is in which split.
    """

    validation: float = Field(0.2, ge=0, lt=1)
    test: float = Field(0.16, gt=0, lt=1)
    seed: int = 0

    @model_validator(mode="after")
    def _something_is_left(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test must leave images for training")
        return self

    def sizes(self, count: int) -> list[int]:
        """Return how many of `count` images go to train, validation and test."""
        shares = [1 - self.validation - self.test, self.validation, self.test]
        return [int(size) for size in apportion(count, shares)]


def check_digit_classes(classes: Sequence[int] | None) -> None:
    """Check a choice among ten classes.

    Raises:
        ValueError: If it is not at least two different numbers from 0 to 9.
    """
    if classes is None:
        return
    if len(classes) < 2 or len(set(classes)) < len(classes) or not set(classes) <= set(range(10)):
        raise ValueError("classes must be at least two different numbers from 0 to 9")
