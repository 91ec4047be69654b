"""Which parameters of a circuit are meant, and in which order: names, vectors and patterns.

An entry is one of

- a name as the circuit has it, `theta` or `x[3]`;
- a vector, `x` or `x[*]`: `x[0]`, `x[1]`, ...;
- a pattern, in which each `*` stands for any text: `x_*`, `w_*_1`.

A vector or pattern gives its parameters in the order of the numbers in their names: `x_2` before `x_10`.
OpenQASM has no brackets in names; Qiskit writes `x[3]` as `_x_3_`, which is read as `x[3]` here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from qhybrid.errors import CircuitError

_EXPORTED = re.compile(r"_(.+)_(\d+)_")
SHOWN = 12


def select_parameters(
    names: Sequence[str], inputs: Sequence[str], weights: Sequence[str], source: str
) -> tuple[list[str], list[str]]:
    """Return the names of inputs and weights, in order.

    Args:
        names: Names of all parameters of the circuit.
        inputs: Entries of the key `inputs`.
        weights: Entries of the key `weights`.
        source: What names them, for messages.

    Raises:
        CircuitError: If an entry stands for no parameter, or a parameter is in neither list, in both, or
            twice in one.
    """
    chosen = {
        key: [name for entry in entries for name in _matching(entry, names, f"{source}: key `{key}`")]
        for key, entries in (("inputs", inputs), ("weights", weights))
    }
    for key, found in chosen.items():
        twice = sorted({name for name in found if found.count(name) > 1}, key=_order)
        if twice:
            raise CircuitError(
                f"{source}: key `{key}`: each parameter must be given once, but {_list(twice)} more often."
            )
    both = [name for name in chosen["inputs"] if name in set(chosen["weights"])]
    if both:
        raise CircuitError(
            f"{source}: keys `inputs` and `weights`: a parameter must be in one of them, but {_list(both)} "
            "in both."
        )
    left = sorted(set(names) - set(chosen["inputs"]) - set(chosen["weights"]), key=_order)
    if left:
        raise CircuitError(
            f"{source}: keys `inputs` and `weights`: every parameter must be in one of them, but "
            f"{_list(left)} in neither. Fix: list it as input (data) or as weight (trained)."
        )
    return chosen["inputs"], chosen["weights"]


def _matching(entry: str, names: Sequence[str], place: str) -> list[str]:
    if entry in names:
        return [entry]
    for pattern in (entry, f"{entry}[*]"):
        expression = re.compile(".*".join(re.escape(part) for part in pattern.split("*")))
        found = [
            name for name in names if expression.fullmatch(name) or expression.fullmatch(_in_brackets(name))
        ]
        if found:
            return sorted(found, key=_order)
    close = difflib.get_close_matches(entry, [*names, *map(_in_brackets, names)], n=1)
    hint = f" Did you mean `{close[0]}`?" if close else ""
    if any(re.fullmatch(rf"{re.escape(entry)}_\d.*", name) for name in names):
        hint = f" Fix: `{entry}_*`, if all that begin so are meant."
    known = sorted(names, key=_order)
    shown = ", ".join(known[:SHOWN]) + (", ..." if len(known) > SHOWN else "")
    raise CircuitError(
        f"{place}: no gate of the circuit has a parameter `{entry}`. Its parameters: {shown or 'none'}.{hint}"
    )


def _in_brackets(name: str) -> str:
    """Return a name with the brackets that Qiskit's export to OpenQASM replaces."""
    match = _EXPORTED.fullmatch(name)
    return f"{match[1]}[{match[2]}]" if match else name


def _order(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", _in_brackets(name))
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{shown} {'is' if len(names) == 1 else 'are'}"
