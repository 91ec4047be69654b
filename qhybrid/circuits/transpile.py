"""A circuit as a device executes it: its gates, its couplings, its layout; observables follow the layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from qiskit import QuantumCircuit
from qiskit.circuit import Gate
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import Target, generate_preset_pass_manager
from qiskit.transpiler.exceptions import TranspilerError

from qhybrid.errors import CircuitError
from qhybrid.seeding import derive_seed

if TYPE_CHECKING:
    from qhybrid.circuits.spec import CircuitSpec

ROTATIONS = ("rx", "ry", "rz", "p", "rzz", "rxx", "ryy")
DEAD_ERROR = 0.5
"""Gates and read-outs with at least this error are out of order: 1 stands for a failed calibration."""
KEPT = frozenset({"measure", "delay", "reset"})

Cost = Callable[["CircuitSpec"], Any]


def transpile_spec(
    spec: CircuitSpec,
    target: Any,
    seed: int = 0,
    *,
    trials: int = 4,
    cost: Cost | None = None,
    initial_layouts: Sequence[Sequence[int]] = (),
    optimization_level: int = 2,
) -> CircuitSpec:
    """Return a circuit as a device executes it; see `CircuitSpec.transpile`."""
    usable = usable_target(_target(target))
    _check_arguments(spec, usable, trials, initial_layouts)
    circuit = merge_rotations(spec.circuit)
    candidates = []
    for layout in [*initial_layouts, None] if initial_layouts else [None]:
        for trial in range(trials):
            manager = generate_preset_pass_manager(
                optimization_level,
                target=usable,
                initial_layout=None if layout is None else list(layout),
                seed_transpiler=derive_seed(seed, "transpile", trial) % 2**31,
            )
            candidates.append(_routed(spec, manager, circuit))
    judged = cost or (lambda candidate: two_qubit_cost(candidate, usable))
    return min(candidates, key=judged)


def two_qubit_cost(spec: CircuitSpec, target: Target) -> tuple[int, float]:
    """Return the number of two-qubit gates, and the sum of their and the read-outs' errors for equals."""
    count, error = 0, 0.0
    for instruction in spec.circuit.data:
        if len(instruction.qubits) == 2:
            count += 1
            qubits = tuple(spec.circuit.find_bit(qubit).index for qubit in instruction.qubits)
            error += _error(target, instruction.operation.name, qubits)
    read = {qubit for one in spec.observables for _, qubits, _ in one.to_sparse_list() for qubit in qubits}
    return count, error + sum(_error(target, "measure", (qubit,)) for qubit in read)


def _error(target: Target, name: str, qubits: tuple[int, ...]) -> float:
    known = (target[name] or {}).get(qubits) if name in target.operation_names else None
    return 0.0 if known is None else known.error or 0.0


def usable_target(target: Target) -> Target:
    """Return a target without control flow, dead gates, and qubits with a dead gate or read-out."""
    dead = {
        qubits[0]
        for name in target.operation_names
        for qubits, known in (target[name] or {}).items()
        if qubits is not None and len(qubits) == 1 and _dead(known)
    }
    result = Target(
        num_qubits=target.num_qubits, dt=target.dt, qubit_properties=target.qubit_properties or None
    )
    for name in sorted(target.operation_names):
        operation, places = target.operation_from_name(name), target[name]
        if not isinstance(operation, Gate) and name not in KEPT:
            continue
        if places is None:
            result.add_instruction(operation, None, name=name)
            continue
        alive = {q: known for q, known in places.items() if not (_dead(known) or dead & set(q))}
        if alive:
            result.add_instruction(operation, alive, name=name)
    return result


def merge_rotations(circuit: QuantumCircuit) -> QuantumCircuit:
    """Return the circuit without barriers, and with one rotation for several in a row about the same axis.

    Qiskit's transpiler merges constant gates by itself, but not symbolic angles.
    """
    kept: list[Any] = []
    last: dict[Any, int] = {}
    for instruction in circuit.data:
        name, qubits = instruction.operation.name, tuple(instruction.qubits)
        if name == "barrier":
            continue
        places = {last.get(qubit, -1) for qubit in qubits}
        place = places.pop() if len(places) == 1 else -1
        if place >= 0 and name in ROTATIONS and _same_gate(kept[place], name, qubits):
            before = kept[place].operation
            angle = before.params[0] + instruction.operation.params[0]
            kept[place] = kept[place].replace(operation=type(before)(angle))
            continue
        for qubit in qubits:
            last[qubit] = len(kept)
        kept.append(instruction)
    result = circuit.copy_empty_like()
    for instruction in kept:
        result.append(instruction)
    return result


def _same_gate(instruction: Any, name: str, qubits: tuple[Any, ...]) -> bool:
    return instruction.operation.name == name and tuple(instruction.qubits) == qubits


def used_qubits(spec: CircuitSpec) -> tuple[int, ...]:
    """Return the qubits that a gate or an observable acts on, in order."""
    found = {
        spec.circuit.find_bit(qubit).index
        for instruction in spec.circuit.data
        if instruction.operation.name not in ("barrier", "delay")
        for qubit in instruction.qubits
    }
    for observable in spec.observables:
        found.update(qubit for _, qubits, _ in observable.to_sparse_list() for qubit in qubits)
    return tuple(sorted(found))


def restrict_spec(spec: CircuitSpec, qubits: Sequence[int]) -> tuple[QuantumCircuit, list[SparsePauliOp]]:
    """Return circuit and observables on some qubits alone; see `CircuitSpec.restrict`."""
    place = {qubit: index for index, qubit in enumerate(qubits)}
    missing = sorted(set(used_qubits(spec)) - set(place))
    if len(place) < len(qubits) or missing:
        raise CircuitError(
            f"Argument `qubits` must be distinct and hold all qubits that circuit `{spec.name}` uses, but "
            f"{list(qubits)} lacks {missing or 'none and repeats one'}. Fix: spec.used_qubits."
        )
    circuit = QuantumCircuit(len(place), name=spec.circuit.name, global_phase=spec.circuit.global_phase)
    for instruction in spec.circuit.data:
        places = [place.get(spec.circuit.find_bit(qubit).index) for qubit in instruction.qubits]
        kept = [one for one in places if one is not None]
        if instruction.operation.name == "barrier" and kept:
            circuit.barrier(kept)
        elif len(kept) == len(places):
            circuit.append(instruction.operation, kept)
    observables = [
        SparsePauliOp.from_sparse_list(
            [
                (letters, [place[qubit] for qubit in places], factor)
                for letters, places, factor in observable.to_sparse_list()
            ],
            num_qubits=len(place),
        )
        for observable in spec.observables
    ]
    return circuit, observables


def _target(target: Any) -> Target:
    found = getattr(target, "target", target)
    if not isinstance(found, Target):
        raise CircuitError(
            f"Argument `target` must be a Qiskit Target, or a backend or device that has one, but is "
            f"{target!r}. Fix: qhybrid.devices.load_device('fake_torino')."
        )
    return found


def _dead(known: Any) -> bool:
    return known is not None and known.error is not None and known.error >= DEAD_ERROR


def _check_arguments(
    spec: CircuitSpec, target: Target, trials: int, layouts: Sequence[Sequence[int]]
) -> None:
    if trials < 1:
        raise CircuitError(f"Argument `trials` must be at least 1, but is {trials}.")
    if target.num_qubits is not None and target.num_qubits < spec.num_qubits:
        raise CircuitError(
            f"Circuit `{spec.name}` must fit the target, but has {spec.num_qubits} qubits and the target "
            f"{target.num_qubits}."
        )
    for layout in layouts:
        chosen = set(layout)
        known = range(target.num_qubits or 0)
        if len(layout) != spec.num_qubits or len(chosen) < len(layout) or not all(q in known for q in chosen):
            raise CircuitError(
                f"Argument `initial_layouts` must hold lists of {spec.num_qubits} distinct qubits of the "
                f"target, but one is {list(layout)}."
            )


def _routed(spec: CircuitSpec, manager: Any, circuit: QuantumCircuit) -> CircuitSpec:
    try:
        routed = manager.run(circuit)
    except TranspilerError as error:
        raise CircuitError(
            f"Circuit `{spec.name}` cannot be mapped to the target: {error.message}. Fix: circuits must "
            "consist of gates, and need enough connected qubits that are not out of order."
        ) from error
    observables = [observable.apply_layout(routed.layout) for observable in spec.observables]
    return type(spec).from_circuit(routed, spec.input_params, spec.weight_params, observables, spec.name)
