"""Fractional gates: rotations of any angle that a device does in one pulse, RX(t) and RZZ(t).

A device may do RZZ for angles of 0 to pi/2 alone. All others follow from these up to a phase:

    RZZ(t) = RZZ(t - pi) Z Z,    RZZ(-t) = X RZZ(t) X    (X on one of the two qubits)

Where an angle depends on the data, the X and Z are rotations by 0 or pi whose angles are computed for each
point, like all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterExpression
from qiskit.circuit.library import RXGate, RZGate, RZZGate, XGate
from qiskit.transpiler import Target

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.devices import Device, GateCalibration
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.merging import AngleMap

Array = NDArray[np.float64]
FRACTIONAL = ("rx", "rzz")
COPIED = {"rx": "sx", "rzz": "cz"}
"""Where nothing is measured of a fractional gate: services report the values of these for them, too."""


@dataclass(frozen=True)
class LinearForm:
    """An angle: offset + sum of factors times parameters of a merged circuit.

    Attributes:
        factors: Index of a parameter, and its factor.
        offset: In radians.
    """

    factors: tuple[tuple[int, float], ...]
    offset: float

    def __call__(self, rows: Array) -> Array:
        """Return the angle for parameters of shape (B, P)."""
        total = np.full(len(rows), self.offset)
        for index, factor in self.factors:
            total += factor * rows[:, index]
        return total


class FoldedAngles:
    """Computes the parameters of a circuit whose RZZ angles are brought into their range.

    Args:
        inner: Computes those of the merged circuit.
        forms: The angles of the gates that depend on the data.
    """

    def __init__(self, inner: AngleMap, forms: Sequence[LinearForm]) -> None:
        self._inner, self.forms = inner, tuple(forms)
        self.num_outputs = inner.num_outputs + 3 * len(self.forms)

    def __call__(self, points: Array) -> Array:
        """Return the parameters in radians, shape (B, P + 3 F): those inside, then three for every gate."""
        rows = self._inner(points)
        columns = [rows]
        for form in self.forms:
            columns.append(np.stack(folded_angle(form(rows)), axis=1))
        return np.concatenate(columns, axis=1)


def folded_angle(angle: Array) -> tuple[Array, Array, Array]:
    """Return the angle of RZZ in 0..pi/2, and the angles (0 or pi) of X around and of Z behind it."""
    turned = np.mod(angle, 2 * np.pi)
    inside = np.mod(turned, np.pi)
    mirrored = inside > np.pi / 2
    # Past pi/2 the nearest multiple of pi is the next one.
    steps = np.floor_divide(turned, np.pi) + mirrored
    return (
        np.clip(np.where(mirrored, np.pi - inside, inside), 0.0, np.pi / 2),
        np.where(mirrored, np.pi, 0.0),
        np.where(steps % 2 == 1, np.pi, 0.0),
    )


def folded_names(forms: Sequence[LinearForm]) -> list[str]:
    """Return the names of the parameters that folding adds, in their order."""
    return [f"b{index:05d}_{part}" for index in range(len(forms)) for part in ("zz", "x", "z")]


def fold_angles(spec: CircuitSpec) -> tuple[CircuitSpec, tuple[LinearForm, ...]]:
    """Return a routed circuit whose RZZ gates have angles of 0 to pi/2, whatever the data are.

    Args:
        spec: The circuit; its inputs are the parameters of the merged circuit.

    Returns:
        The circuit with its further inputs, and the angles that these follow from.

    Raises:
        HardwareError: If an angle is no linear form of the parameters.
    """
    circuit = spec.circuit.copy_empty_like()
    forms: list[LinearForm] = []
    added: list[Parameter] = []
    for one in spec.circuit.data:
        if one.operation.name != "rzz":
            circuit.append(one)
            continue
        angle = one.operation.params[0]
        if isinstance(angle, ParameterExpression) and angle.parameters:
            forms.append(_form(angle, spec))
            three = [Parameter(name) for name in folded_names(forms)[-3:]]
            added += three
            _append(circuit, one.qubits, *three)
        else:
            numbers = folded_angle(np.array([float(angle)]))
            _append(circuit, one.qubits, *(float(number[0]) for number in numbers))
    return replace(spec, circuit=circuit, input_params=(*spec.input_params, *added)), tuple(forms)


def _append(circuit: QuantumCircuit, qubits: Sequence[Any], angle: Any, x: Any, z: Any) -> None:
    """Append RZZ between X and before Z, which are left out where they are known to be nothing."""
    around = [] if x == 0.0 else [XGate() if isinstance(x, float) else RXGate(x)]
    for gate in around:
        circuit.append(gate, [qubits[0]])
    circuit.append(RZZGate(angle), qubits)
    for gate in around:
        circuit.append(gate, [qubits[0]])
    if z != 0.0:
        for qubit in qubits:
            circuit.append(RZGate(z), [qubit])


def _form(angle: ParameterExpression, spec: CircuitSpec) -> LinearForm:
    place = {parameter: index for index, parameter in enumerate(spec.input_params)}
    slopes = {parameter: angle.gradient(parameter) for parameter in angle.parameters}
    if any(isinstance(slope, ParameterExpression) and slope.parameters for slope in slopes.values()):
        raise HardwareError(
            f"Angles of rzz in circuit `{spec.name}` must be linear in the data to be kept within 0..pi/2, "
            f"but one is {angle}. Fix: use_fractional_gates=false."
        )
    offset = float(angle.bind(dict.fromkeys(angle.parameters, 0.0)))
    return LinearForm(tuple((place[p], float(slope)) for p, slope in slopes.items()), offset)


def is_fractional(device: Device) -> bool:
    """Return whether a device has fractional gates."""
    return bool(set(FRACTIONAL) & set(device.basis_gates))


def without_fractional_gates(device: Device) -> Device:
    """Return a device as it is where fractional gates are not asked for."""
    if not is_fractional(device):
        return device
    target = _copied(device.target, leave_out=FRACTIONAL)
    return replace(
        device, target=target, gates=tuple(one for one in device.gates if one.name not in FRACTIONAL)
    )


def with_assumed_gates(device: Device) -> Device:
    """Return a device with fractional gates, of which those that it lacks are as good as `COPIED`.

    Raises:
        HardwareError: If it has no gates whose values could be taken.
    """
    missing = [name for name in FRACTIONAL if name not in device.basis_gates]
    if not {COPIED[name] for name in missing} <= set(device.basis_gates):
        raise HardwareError(
            f"Device {device.name} must have fractional gates, or cz and sx, whose values they would share, "
            f"but has {', '.join(device.basis_gates)}. Fix: use_fractional_gates=false."
        )
    target, gates = _copied(device.target), list(device.gates)
    angle = Parameter("theta")
    for name in missing:
        gate = {"rx": RXGate, "rzz": RZZGate}[name](angle)
        target.add_instruction(gate, dict(target[COPIED[name]].items()))
        gates += [
            GateCalibration(name, one.qubits, one.error, one.ns)
            for one in device.gates
            if one.name == COPIED[name]
        ]
    return replace(device, target=target, gates=tuple(gates))


def _copied(target: Target, leave_out: Sequence[str] = ()) -> Target:
    result = Target(
        num_qubits=target.num_qubits, dt=target.dt, qubit_properties=target.qubit_properties or None
    )
    for name in target.operation_names:
        operation = target.operation_from_name(name)
        if isinstance(operation, type):  # control flow, which is everywhere
            result.add_instruction(operation, name=name)
        elif name not in leave_out:
            result.add_instruction(operation, target[name], name=name)
    return result
