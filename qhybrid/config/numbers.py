"""Whole numbers that scripts give as arguments: of any integer type, and never half of one."""

from __future__ import annotations

import operator
from typing import Any

from qhybrid.errors import ConfigError


def whole_number(name: str, value: Any, least: int = 0) -> int:
    """Return a whole number of any integer type, as of NumPy, as Python's own.

    Args:
        name: The argument, for the message.
        value: What was given.
        least: The smallest one that is allowed.

    Raises:
        ConfigError: If it is no whole number (true and false are none), or too small.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise ConfigError(
            f"Argument `{name}` must be a whole number of at least {least}, but is {value!r}. Fix: "
            f"{name}={least}."
        )
    return number
