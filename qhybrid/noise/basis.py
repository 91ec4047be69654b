"""The gates that composite gates are taken apart into under noise."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

DEFAULT_BASIS = ("rz", "sx", "x", "cx")


def check_basis(basis: Sequence[str]) -> None:
    """Check the names of a basis.

    Raises:
        ValueError: If one is not Qiskit's name of a gate on one or two qubits, or none acts on one qubit, or
            none on two.
    """
    if tuple(basis) == DEFAULT_BASIS:
        return
    from qhybrid.circuits.standard_gates import standard_gates  # loads Qiskit

    sizes = {name: gate.num_qubits for name, gate in standard_gates().items() if gate.num_qubits in (1, 2)}
    for name in basis:
        if name not in sizes:
            close = difflib.get_close_matches(name, sizes, n=1)
            hint = f". Did you mean `{close[0]}`?" if close else ""
            raise ValueError(f"`basis` must name Qiskit's gates on one or two qubits, but has {name!r}{hint}")
    if {sizes[name] for name in basis} != {1, 2}:
        raise ValueError(f"`basis` must have gates on one qubit and on two, but is {list(basis)}")
