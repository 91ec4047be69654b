"""A noise profile as Qiskit Aer's NoiseModel, made for the gates of one circuit."""

from __future__ import annotations

from qiskit import QuantumCircuit
from qiskit.quantum_info import Kraus
from qiskit_aer.noise import NoiseModel, QuantumError, depolarizing_error, thermal_relaxation_error

from qhybrid.engines.noise.channels import check_depolarizing
from qhybrid.engines.noise.gate_names import noise_name
from qhybrid.engines.noise.instructions import PART_LABEL, instruction_error
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile
from qhybrid.noise.channels.base import checked_kraus
from qhybrid.noise.sections import GateError, PlacedChannel


def aer_noise_model(profile: NoiseProfile, circuit: QuantumCircuit) -> NoiseModel:
    """Return Aer's model of a profile for the gates that a circuit holds; read-out errors included.

    Args:
        profile: The error rates.
        circuit: A flat circuit of one- and two-qubit gates.

    Raises:
        EngineError: If a gate acts on more than two qubits.
    """
    model = NoiseModel(basis_gates=[])
    known: set[tuple[str, tuple[int, ...]]] = set()
    for instruction in circuit.data:
        name = noise_name(instruction.operation)
        qubits = tuple(circuit.find_bit(qubit).index for qubit in instruction.qubits)
        # A part of a gate has no noise, but a whole gate of its name may come later.
        part = getattr(instruction.operation, "label", None) == PART_LABEL
        if part or name.startswith("save_") or name == "measure" or (name, qubits) in known:
            continue
        known.add((name, qubits))
        error = instruction_error(profile, instruction.operation, qubits)
        if error is not None:
            model.add_quantum_error(aer_error(error), name, list(qubits))
    for qubit in range(circuit.num_qubits):
        p01, p10 = profile.readout(qubit)
        if p01 or p10:
            model.add_readout_error([[1 - p10, p10], [p01, 1 - p01]], [qubit])
    return model


def aer_error(error: GateError) -> QuantumError:
    """Return the noise of one gate: depolarizing, then relaxation of each qubit, then the listed channels."""
    size = len(error.relaxations)
    if size > 2:
        raise EngineError(f"Noise must follow gates on one or two qubits, but a gate acts on {size}.")
    check_depolarizing(error.p, size)
    decay: QuantumError | None = None
    for one in error.relaxations:
        single = (
            depolarizing_error(0.0, 1)
            if one is None
            else thermal_relaxation_error(one.t1_us, one.t2_us, one.ns / 1000)
        )
        decay = single if decay is None else decay.expand(single)
    result = depolarizing_error(error.p, size)
    if decay is not None:
        result = result.compose(decay)
    for placed in error.channels:
        result = result.compose(aer_channel(placed, size))
    return result


def aer_channel(placed: PlacedChannel, num_qubits: int) -> QuantumError:
    """Return a channel, from its Kraus operators, as error of a gate on one or two qubits."""
    found = QuantumError(Kraus(list(checked_kraus(placed.channel, len(placed.places)))))
    if len(placed.places) == num_qubits:
        return found
    nothing = depolarizing_error(0.0, 1)
    return found.expand(nothing) if placed.places == (0,) else nothing.expand(found)
