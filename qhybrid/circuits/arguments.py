"""Checks that the circuit builders share."""

from __future__ import annotations

from collections.abc import Collection

from qhybrid.errors import CircuitError


def check_integer(name: str, value: object, least: int) -> None:
    """Check an integer argument.

    Raises:
        CircuitError: If it is not an integer, or below `least`.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise CircuitError(f"Argument `{name}` must be an integer of at least {least}, but is {value!r}.")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Check an argument that has a few allowed values.

    Raises:
        CircuitError: If it is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        allowed = " or ".join(f"`{choice}`" for choice in choices)
        raise CircuitError(f"Argument `{name}` must be {allowed}, but is {value!r}.")


def is_word(value: object, letters: str) -> bool:
    """Return whether a value is a text of at least one letter, all of them among `letters`."""
    return isinstance(value, str) and value != "" and set(value) <= set(letters)
