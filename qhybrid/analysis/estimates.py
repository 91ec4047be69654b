"""What figures consist of: a value with sample size and standard error, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
FEWEST = 10
"""Settings below which a standard error says nothing: of two the variance's own would always be 0."""


@dataclass(frozen=True)
class Estimate:
    """A number estimated from a sample.

    Attributes:
        value: The estimate.
        error: Its standard error.
        samples: Independent draws that it comes from.
    """

    value: float
    error: float
    samples: int

    def text(self, digits: int = 3) -> str:
        """Return value and error, as in `0.222 +- 0.004`."""
        return f"{self.value:.{digits}f} +- {self.error:.{digits}f}"

    def scientific(self) -> str:
        """Return value and error with two digits of the value, for numbers of any size."""
        return f"{self.value:.2e} +- {self.error:.0e}"


@dataclass(frozen=True)
class NotComputed:
    """A figure that is not there.

    Attributes:
        reason: Why, and where it is a matter of size with the numbers.
    """

    reason: str

    def __str__(self) -> str:
        """Return the reason behind the words `not computed`."""
        return f"not computed: {self.reason}"


def mean_of(values: Array) -> Estimate:
    """Return the mean of independent draws, with its standard error.

    Args:
        values: Shape (M,), M > 0; the error of a single one counts as 0.
    """
    count = len(values)
    spread = float(values.std(ddof=1)) if count > 1 else 0.0
    return Estimate(float(values.mean()), spread / math.sqrt(count), count)


def variance_of(values: Array) -> tuple[Array, Array]:
    """Return the variances of independent draws and their standard errors sqrt((m4 - v^2) / M).

    Args:
        values: Shape (M, ...), M > 1.

    Returns:
        Variances over the first axis and their errors, each of shape (...).
    """
    count = len(values)
    squares = (values - values.mean(axis=0)) ** 2
    variance = squares.sum(axis=0) / (count - 1)
    excess = np.maximum((squares**2).mean(axis=0) - variance**2, 0.0)
    return variance, np.sqrt(excess / count)
