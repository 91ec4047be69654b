"""Names of gates that a noise profile lists: a misspelt one would be no noise at all, unnoticed."""

from __future__ import annotations

import difflib
from functools import cache

from qiskit import QuantumCircuit
from qiskit.circuit.library import get_standard_gate_name_mapping

from qhybrid.engines.noise.instructions import NOTHING, noise_name
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

_ELSEWHERE = {"cnot": "cx", "toffoli": "ccx", "fredkin": "cswap", "cphase": "cp", "phase": "p"}
"""What other tools call Qiskit's gates."""


def check_gate_names(profile: NoiseProfile | None, circuit: QuantumCircuit) -> None:
    """Check that the gates a profile lists are Qiskit's or the circuit's own.

    A gate of Qiskit's that the circuit does not have is no error, since one profile may serve many circuits.
    Profiles of devices are left alone: they list what the device has.

    Args:
        profile: The profile; None fits everything.
        circuit: The circuit that it is used for.

    Raises:
        EngineError: If a name is neither one of Qiskit's gates nor in the circuit.
    """
    if profile is None or profile.listed_only or not profile.gates:
        return
    used = {noise_name(instruction.operation) for instruction in circuit.data}
    known = used | _standard_names()
    for name in dict.fromkeys(key.split()[0] for key in profile.gates):
        if name not in known:
            close = [_ELSEWHERE.get(name), *difflib.get_close_matches(name, sorted(known), n=1)]
            hint = next((f" Did you mean `{found}`?" for found in close if found), "")
            raise EngineError(
                f"Noise profile `{profile.name}` lists gate `{name}`, which is neither one of Qiskit's nor "
                f"in the circuit, whose gates are {', '.join(sorted(used - NOTHING))}.{hint}"
            )


@cache
def _standard_names() -> frozenset[str]:
    return frozenset(get_standard_gate_name_mapping())
