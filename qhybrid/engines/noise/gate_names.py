"""Names that noise goes by, and those that a profile lists: a misspelt one would be no noise, unnoticed."""

from __future__ import annotations

import difflib
from functools import cache
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit.library import get_standard_gate_name_mapping

from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

NOTHING = frozenset({"barrier", "global_phase"})
_ELSEWHERE = {"cnot": "cx", "toffoli": "ccx", "fredkin": "cswap", "cphase": "cp", "phase": "p"}
"""What other tools call Qiskit's gates."""


def noise_name(operation: Any) -> str:
    """Return the name a gate's noise goes by: for a labelled matrix its label, as in Aer."""
    label = getattr(operation, "label", None)
    return str(label) if operation.name == "unitary" and label else str(operation.name)


def check_gate_names(profile: NoiseProfile | None, circuit: QuantumCircuit) -> None:
    """Check that the gates a profile lists are Qiskit's or the circuit's own.

    A gate of Qiskit's that the circuit does not have is no error, since one profile may serve many circuits.
    The gates of a device's profile are left alone: they are what the device has.

    Args:
        profile: The profile; None fits everything.
        circuit: The circuit that it is used for.

    Raises:
        EngineError: If a name is neither one of Qiskit's gates nor in the circuit.
    """
    if profile is None:
        return
    listed = profile.gate_names
    if profile.listed_only:
        own = {key.split()[0] for key in profile.gates}
        listed = tuple(name for name in listed if name not in own)
    if not listed:
        return
    used = {noise_name(instruction.operation) for instruction in circuit.data}
    known = used | _standard_names()
    for name in listed:
        if name not in known:
            close = [_ELSEWHERE.get(name), *difflib.get_close_matches(name, sorted(known), n=1)]
            hint = next((f" Did you mean `{found}`?" for found in close if found), "")
            raise EngineError(
                f"Noise profile `{profile.name}` lists gate `{name}`, which is neither one of Qiskit's nor "
                f"in the circuit, whose gates are {', '.join(sorted(used - NOTHING))}.{hint}"
            )


@cache
def _standard_names() -> frozenset[str]:
    return frozenset(get_standard_gate_name_mapping()) | {"unitary"}
