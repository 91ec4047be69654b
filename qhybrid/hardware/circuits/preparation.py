"""From a layer's circuit to what a device executes: bind, merge, route, and measure in every basis."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np
from qiskit import QuantumCircuit

from qhybrid.circuits.delays import has_delays
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.circuits.transpile import MEASUREMENT, is_known, usable_target
from qhybrid.devices import Device
from qhybrid.engines.shots.strings import MeasuredStrings, PauliString, as_observable, measured_strings
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.fractional import FoldedAngles, fold_angles
from qhybrid.hardware.circuits.merging import AngleMap, merge_runs
from qhybrid.hardware.circuits.native import NativeGates
from qhybrid.hardware.circuits.packing import disjoint_places
from qhybrid.hardware.circuits.prepared import Copy, PreparedCircuit, Variant
from qhybrid.hardware.model.requests import LayerCircuit
from qhybrid.hardware.service_kinds import rules_of
from qhybrid.hardware.settings import HardwareSettings, Mitigation
from qhybrid.noise import NoiseProfile, QubitNoise

LEAST_CONTRAST = 0.1
"""1 - p01 - p10: qubits that read 0 and 1 nearly alike say nothing."""
TWIRL_PULSES, PULSE = 2, "sx"
"""Pulses of a general gate on one qubit, and their gate."""
READOUT_SECONDS = 1.5e-6
"""Length of a read-out where the device reports none."""


def bound_circuit(layer: LayerCircuit) -> CircuitSpec:
    """Return a layer's circuit with its weights as numbers."""
    return layer.bound()


def prepare_circuit(
    key: str,
    bound: CircuitSpec,
    device: Device | None,
    noise: NoiseProfile | None,
    settings: HardwareSettings,
) -> PreparedCircuit:
    """Map a circuit to a device.

    Args:
        key: The layer circuit's key.
        bound: The circuit with its weights bound.
        device: The device; None for a simulator without one.
        noise: The device's error rates.
        settings: Layout seeds, copies, zero-noise factors.

    Raises:
        CircuitError: If the circuit does not fit the device.
        HardwareError: If the device's gates do not suffice, or it has not enough room for the copies.
    """
    if has_delays(bound.circuit):
        warnings.warn(
            f"Circuit `{bound.name}` has delays, which are not executed on devices: qubits wait for each "
            "other alone.",
            stacklevel=1,  # the same place for all callers: Python shows a line once
        )
    merged, angle_map = merge_runs(bound)
    if device is None:
        return _assemble(key, [(merged, tuple(range(merged.num_qubits)))], angle_map, None, None, settings)
    gates = NativeGates(device.basis_gates)
    merged = replace(merged, circuit=gates.open_rotations(merged.circuit))
    routed = merged.transpile(device, settings.seed, trials=settings.layouts)
    angles: AngleMap | FoldedAngles = angle_map
    if "rzz" in rules_of(settings).limited_angles:
        routed, forms = fold_angles(routed)
        angles = FoldedAngles(angle_map, forms) if forms else angle_map
    wanted = settings.copies
    places = disjoint_places(routed, usable_target(device.target), wanted)
    mapped = [(routed.restrict(routed.used_qubits), place) for place in places]
    return _assemble(key, mapped, angles, device, noise, settings)


def _assemble(
    key: str,
    mapped: Sequence[tuple[CircuitSpec, tuple[int, ...]]],
    angle_map: AngleMap | FoldedAngles,
    device: Device | None,
    noise: NoiseProfile | None,
    settings: HardwareSettings,
) -> PreparedCircuit:
    first = mapped[0][0]
    gates = NativeGates(None if device is None else device.basis_gates)
    strings = measured_strings(first.observables, first.num_qubits)
    folds, raised = _factors(first.circuit, settings.mitigation)
    variants = tuple(
        Variant(group, fold, noise) for group in strings.bases for fold in folds for noise in raised
    )
    products = settings.mitigation.readout
    copies = tuple(
        Copy(
            place,
            tuple(_measured_spec(spec, strings, variant, gates, products) for variant in variants),
            place_noise(noise, place, settings.mitigation),
        )
        for spec, place in mapped
    )
    if products:
        _check_readout(first.name, copies)
    seconds = 0.0 if device is None else mean_seconds(copies, device, settings.mitigation)
    qubits = device.num_qubits if device is not None else first.num_qubits
    return PreparedCircuit(key, first.name, angle_map, strings, variants, copies, qubits, seconds)


def _factors(circuit: QuantumCircuit, mitigation: Mitigation) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return how often two-qubit gates are repeated, and factors to which their noise is raised.

    A circuit without any is executed once: each repetition would be the same circuit, paid for again. What
    a plugin makes of its factors is its own.
    """
    folds, raised = mitigation.zne or (1,), mitigation.pea or (1.0,)
    if mitigation.method is not None or any(
        len(one.qubits) == 2 and one.operation.name != "barrier" for one in circuit.data
    ):
        return folds, raised
    return (1,), (1.0,)


def _check_readout(name: str, copies: Sequence[Copy]) -> None:
    """Check that read-out errors of the calibration can be undone.

    Raises:
        HardwareError: If a qubit reads 0 and 1 nearly alike, or the wrong way round.
    """
    for copy in copies:
        for index, qubit in enumerate(copy.physical):
            p01, p10 = (0.0, 0.0) if copy.noise is None else copy.noise.readout(index)
            if not 1 - p01 - p10 > LEAST_CONTRAST:
                raise HardwareError(
                    f"Circuit `{name}` must be on qubits that read 0 and 1 differently, but by its "
                    f"calibration qubit {qubit} reads 1 in {100 * p10:.0f} % of the shots after 0 and in "
                    f"{100 * (1 - p01):.0f} % after 1: its errors cannot be undone. Fix: plan again after "
                    "the next calibration, other `seed` or `copies`, another device, or --mitigation none."
                )


def place_noise(
    noise: NoiseProfile | None, place: Sequence[int], mitigation: Mitigation
) -> NoiseProfile | None:
    """Return error rates of some qubits, numbered anew; twirled read-outs err alike for 0 and 1."""
    if noise is None:
        return None
    own = noise.restrict(place)
    if not mitigation.measure_twirling:
        return own
    qubits = dict(own.qubits)
    for qubit in range(len(place)):
        mean = sum(own.readout(qubit)) / 2
        rates = {"readout_p01": mean, "readout_p10": mean}
        qubits[qubit] = qubits.get(qubit, QubitNoise()).model_copy(update=rates)
    return own.model_copy(update={"qubits": qubits})


def _measured_spec(
    spec: CircuitSpec, strings: MeasuredStrings, variant: Variant, gates: NativeGates, products: bool
) -> CircuitSpec:
    """Return the circuit of one variant with Z strings as observables: those of its group come first."""
    letters = {qubit: "IXYZ"[one] for index in variant.group for qubit, one in strings.strings[index]}
    circuit = gates.read_out(folded(spec.circuit, variant.fold), letters)
    # Nobody sees the global phase, which the transpiler makes a long sum of all parameters.
    circuit.global_phase = 0.0
    observables = tuple(
        as_observable(string, spec.num_qubits) for string in z_strings(strings, variant, products)
    )
    return replace(spec, circuit=circuit, observables=observables)


def z_strings(strings: MeasuredStrings, variant: Variant, products: bool) -> tuple[PauliString, ...]:
    """Return the Z strings that a variant estimates, its group's first.

    Args:
        strings: Strings of the observables.
        variant: The variant.
        products: Also those on parts of their qubits, which undoing read-out errors needs.
    """
    own = [tuple((qubit, 3) for qubit, _ in strings.strings[index]) for index in variant.group]
    parts: list[PauliString] = []
    if products:
        for string in own:
            for mask in range(1, 2 ** len(string) - 1):
                parts.append(tuple(one for bit, one in enumerate(string) if mask >> bit & 1))
    return tuple(dict.fromkeys([*own, *parts]))


def folded(circuit: QuantumCircuit, factor: int) -> QuantumCircuit:
    """Return the circuit with every two-qubit gate G as G (G^-1 G)^((factor - 1) / 2)."""
    result = circuit.copy_empty_like()
    for instruction in circuit.data:
        gates = [instruction.operation]
        if len(instruction.qubits) == 2 and instruction.operation.name != "barrier":
            gates += [instruction.operation.inverse(), instruction.operation] * ((factor - 1) // 2)
        for number, gate in enumerate(gates):
            if number:
                result.barrier(instruction.qubits)
            result.append(gate, instruction.qubits)
    return result


def mean_seconds(copies: Sequence[Copy], device: Device, mitigation: Mitigation) -> float:
    """Return the length of the measured circuits on average: each of them is executed as often.

    Args:
        copies: Places that execute side by side; the slowest decides.
        device: The device.
        mitigation: Twirled gates take time of their own.
    """
    lengths = [
        [circuit_seconds(spec.circuit, copy, device, mitigation.gate_twirling) for spec in copy.specs]
        for copy in copies
    ]
    return float(np.mean(np.max(lengths, axis=0)))


def circuit_seconds(circuit: QuantumCircuit, copy: Copy, device: Device, twirled: bool = False) -> float:
    """Return the length of a circuit on the device, gates as early as possible, read-out included.

    Args:
        circuit: The circuit on the qubits of a copy.
        copy: Its place.
        device: The device.
        twirled: Whether two-qubit gates are twirled: a general gate on one qubit, two pulses, then stands in
            front of each of them and of the read-out, and takes in what was there.
    """
    ends = [0.0] * circuit.num_qubits
    pulses = [TWIRL_PULSES * duration(device, PULSE, (q,)) if twirled else 0.0 for q in copy.physical]
    for instruction in circuit.data:
        places = [circuit.find_bit(qubit).index for qubit in instruction.qubits]
        qubits = tuple(copy.physical[place] for place in places)
        name = instruction.operation.name
        if twirled and len(places) == 1:
            continue
        dressed = len(places) == 2 and name != "barrier"
        starts = max(ends[place] + (pulses[place] if dressed else 0.0) for place in places)
        for place in places:
            ends[place] = starts + duration(device, name, qubits)
    reads = [duration(device, MEASUREMENT, (qubit,)) for qubit in copy.physical]
    last = max((end + pulse for end, pulse in zip(ends, pulses, strict=True)), default=0.0)
    return last + (max(reads, default=0.0) or READOUT_SECONDS)


def duration(device: Device, name: str, qubits: tuple[int, ...]) -> float:
    """Return seconds of a gate or read-out: the device's median where it is not known there, 0 if nowhere."""
    if name == "barrier":
        return 0.0
    places = device.target[name] or {} if name in device.target.operation_names else {}
    known = places.get(qubits)
    if known is not None and is_known(known.duration):
        return float(known.duration)
    others = [one.duration for one in places.values() if one is not None and is_known(one.duration)]
    return float(median(others)) if others else 0.0
