"""The gates that composite gates are taken apart into under noise."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

DEFAULT_BASIS = ("rz", "sx", "x", "cx")


def check_basis(basis: Sequence[str]) -> None:
    """Check the names of a basis.

    Raises:
        ValueError: If one is not Qiskit's name of a gate on one or two qubits, or no gate on one qubit has an
            angle, or none acts on two.
    """
    if tuple(basis) == DEFAULT_BASIS:
        return
    from qhybrid.circuits.standard_gates import standard_gates  # loads Qiskit

    known = {name: gate for name, gate in standard_gates().items() if gate.num_qubits in (1, 2)}
    for name in basis:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f". Did you mean `{close[0]}`?" if close else ""
            raise ValueError(f"`basis` must name Qiskit's gates on one or two qubits, but has {name!r}{hint}")
    # Without a rotation Qiskit would approximate gates.
    rotation = any(known[name].params and known[name].num_qubits == 1 for name in basis)
    if not rotation or all(known[name].num_qubits == 1 for name in basis):
        raise ValueError(
            "`basis` must have a gate on one qubit with an angle, such as rz, and a gate on two qubits, such "
            f"as cx, but is {list(basis)}"
        )
