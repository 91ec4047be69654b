"""Names that noise goes by, and those that a profile lists: a misspelt one would be no noise, unnoticed."""

from __future__ import annotations

import difflib
import warnings
from functools import cache
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit.library import get_standard_gate_name_mapping

from qhybrid.circuits.delays import has_delays
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile
from qhybrid.noise.sections import SYMMETRIC

NOTHING = frozenset({"barrier", "global_phase"})
_ELSEWHERE = {"cnot": "cx", "toffoli": "ccx", "fredkin": "cswap", "cphase": "cp", "phase": "p"}
"""What other tools call Qiskit's gates."""


_NO_GATES = {
    "delay": "t1_us and t2_us act during pauses, and channels with `after: delay`",
    "measure": "errors of read-outs are readout_p01 and readout_p10",
    "reset": "resets have no noise here",
    "barrier": "barriers have no noise",
}
"""What stands in circuits, is no gate, and what a profile has for it; a matrix may have such a label."""


def noise_name(operation: Any) -> str:
    """Return the name a gate's noise goes by: for a labelled matrix its label, as in Aer."""
    label = getattr(operation, "label", None)
    return str(label) if operation.name == "unitary" and label else str(operation.name)


def check_gate_names(profile: NoiseProfile | None, circuit: QuantumCircuit) -> None:
    """Check that the gates a profile lists are Qiskit's or the circuit's own, on as many qubits as they have.

    A gate of Qiskit's that the circuit does not have is no error, since one profile may serve many circuits.
    The gates of a device's profile are left alone: they are what the device has.

    Args:
        profile: The profile; None fits everything.
        circuit: The circuit that it is used for.

    Raises:
        EngineError: If a name is neither one of Qiskit's gates nor in the circuit, or a key has another
            number of qubits than its gate.

    Warns:
        UserWarning: If decay times have nothing that lasts, qubits with values of their own are none of the
            circuit, or a gate is listed on a pair in one direction and used in the other.
    """
    if profile is None:
        return
    _warn_of_no_time(profile, circuit)
    _warn_of_other_qubits(profile, circuit)
    listed = profile.gate_names
    if profile.listed_only:
        own = {key.split()[0] for key in profile.gates}
        listed = tuple(name for name in listed if name not in own)
    if not listed:
        return
    used = {
        noise_name(instruction.operation)
        for instruction in circuit.data
        if instruction.operation.name not in _NO_GATES
    }
    known = used | _standard_names()
    for name in listed:
        if name not in known:
            close = [_ELSEWHERE.get(name), *difflib.get_close_matches(name, sorted(known), n=1)]
            hint = next((f" Did you mean `{found}`?" for found in close if found), "")
            hint = f" Fix: {_NO_GATES[name]}." if name in _NO_GATES else hint
            raise EngineError(
                f"Noise profile `{profile.name}` lists gate `{name}`, which is neither one of Qiskit's nor "
                f"in the circuit, whose gates are {', '.join(sorted(used - NOTHING))}.{hint}"
            )
    if not profile.listed_only:
        _check_places(profile, circuit)


def _check_places(profile: NoiseProfile, circuit: QuantumCircuit) -> None:
    """Check the gates that a profile lists with their qubits: those on other places have other noise."""
    keys = {*profile.gates, *(key for one in profile.channels for key in one.after)}
    placed = {tuple(key.split()) for key in keys if " " in key}
    if not placed:
        return
    sizes = {name: {gate.num_qubits} for name, gate in get_standard_gate_name_mapping().items()}
    used = set()
    for instruction in circuit.data:
        place = (str(circuit.find_bit(qubit).index) for qubit in instruction.qubits)
        used.add((noise_name(instruction.operation), *place))
    for name, *qubits in used:
        sizes.setdefault(name, set()).add(len(qubits))
    for name, *qubits in sorted(placed):
        known = sizes.get(name, {len(qubits)})
        if len(qubits) not in known:
            raise EngineError(
                f"Noise profile `{profile.name}` lists `{' '.join([name, *qubits])}`, but `{name}` acts on "
                f"{min(known)} qubit(s). Fix: as many qubits as the gate has, or its name alone."
            )
        turned = (name, *reversed(qubits))
        if len(qubits) == 2 and name not in SYMMETRIC and turned in used - placed:
            warnings.warn(
                f"Noise profile `{profile.name}` lists `{' '.join([name, *qubits])}`, but the circuit has "
                f"`{' '.join(turned)}`, whose noise is that of `{name}` elsewhere. Fix: list that "
                "direction, too.",
                stacklevel=1,  # the same place for all callers: Python shows a line once
            )


def _warn_of_other_qubits(profile: NoiseProfile, circuit: QuantumCircuit) -> None:
    """Warn of a profile whose qubits are all others than the circuit's."""
    if profile.listed_only:
        return
    parts = [("", tuple(profile.qubits)), *((one.label, one.qubits or ()) for one in profile.channels)]
    for label, listed in parts:
        if listed and min(listed) >= circuit.num_qubits:
            what = f"channel `{label}`" if label else "values"
            places = ", ".join(map(str, sorted(listed)))
            warnings.warn(
                f"Noise profile `{profile.name}` has {what} for qubit(s) {places} alone, but circuit "
                f"`{circuit.name}` has qubits 0 to {circuit.num_qubits - 1}. Fix: renumber them.",
                stacklevel=1,
            )


def _warn_of_no_time(profile: NoiseProfile, circuit: QuantumCircuit) -> None:
    """Warn of decay times where no gate lasts: they are no noise then."""
    parts: list[Any] = [profile, *profile.qubits.values()]
    decays = any(one.t1_us is not None or one.t2_us is not None for one in parts)
    lasts = profile.gate_2q_ns or any(one.gate_1q_ns for one in parts)
    if not decays or lasts or any(gate.ns for gate in profile.gates.values()):
        return
    if not has_delays(circuit):
        warnings.warn(
            f"Noise profile `{profile.name}` has decay times (t1_us, t2_us) and no gate that lasts, so that "
            "nothing decays. Fix: durations (gate_1q_ns, gate_2q_ns, or `ns` of gates).",
            stacklevel=1,
        )


@cache
def _standard_names() -> frozenset[str]:
    return frozenset(get_standard_gate_name_mapping()) - set(_NO_GATES) | {"unitary"}
