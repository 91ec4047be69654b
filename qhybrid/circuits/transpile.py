"""A circuit as a device executes it: its gates, its couplings, its layout; observables follow the layout."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import Gate
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import Target, generate_preset_pass_manager
from qiskit.transpiler.exceptions import TranspilerError

from qhybrid.errors import CircuitError
from qhybrid.seeding import derive_seed

ROTATIONS = ("rx", "ry", "rz", "p", "rzz", "rxx", "ryy")
DEAD_ERROR = 0.5
"""Gates and read-outs with at least this error are out of order: 1 stands for a failed calibration."""
PANIC = "PanicException"
"""What an assertion of Qiskit's compiled parts raises; not an `Exception`."""
MEASUREMENT = "measure"
KEPT = frozenset({"measure", "delay", "reset"})

Observables = Sequence[SparsePauliOp]


def transpiled(
    name: str,
    circuit: QuantumCircuit,
    target: Target,
    seed: int,
    *,
    trials: int,
    initial_layouts: Sequence[Sequence[int]],
    optimization_level: int,
) -> Iterator[QuantumCircuit]:
    """Yield a circuit as a device executes it, once for each layout that is tried.

    See `CircuitSpec.transpile` for the arguments.
    """
    _check_arguments(name, circuit, target, trials, initial_layouts)
    merged = merge_rotations(circuit)
    for layout in [*initial_layouts, None] if initial_layouts else [None]:
        for trial in range(trials):
            manager = generate_preset_pass_manager(
                optimization_level,
                target=target,
                initial_layout=None if layout is None else list(layout),
                seed_transpiler=derive_seed(seed, "transpile", trial) % 2**31,
            )
            try:
                yield manager.run(merged)
            except BaseException as error:
                # Qiskit 2.6 fails to copy some expressions, and panics where no layout is possible.
                if not isinstance(error, TranspilerError | TypeError) and type(error).__name__ != PANIC:
                    raise
                raise CircuitError(
                    f"Circuit `{name}` cannot be mapped to the target: {getattr(error, 'message', error)}. "
                    "Fix: circuits must consist of gates, and need enough connected qubits that are not out "
                    f"of order; or an optimization_level below {optimization_level}."
                ) from error


def follow_layout(
    circuit: QuantumCircuit, observables: Iterable[SparsePauliOp], applied: bool | None
) -> tuple[SparsePauliOp, ...]:
    """Return observables on the qubits of a circuit that may have been transpiled.

    Args:
        circuit: The circuit; without a layout the observables stay as they are.
        observables: On the qubits that the circuit had before, or has now.
        applied: Whether they are on the circuit's present qubits (`SparsePauliOp.apply_layout`). None: those
            with as many qubits as the circuit had before are mapped; others stay.

    Raises:
        CircuitError: If `applied` is False, and one has another number of qubits than the circuit had.

    Warns:
        UserWarning: If `applied` is None, the circuit has as many qubits as before, and it matters.
    """
    given = tuple(observables)
    layout = None if applied else layout_of(circuit)
    if layout is None:
        return given
    before = virtual_qubits(circuit)
    wrong = [one.num_qubits for one in given if one.num_qubits != before]
    if applied is False and wrong:
        raise CircuitError(
            f"Argument `observables` must act on the {before} qubits that circuit `{circuit.name}` had "
            f"before it was transpiled, but one has {wrong[0]}. Fix: say layout_applied=True if they are on "
            "the device's qubits."
        )
    mapped = tuple(one.apply_layout(layout) if one.num_qubits == before else one for one in given)
    same_size = before == circuit.num_qubits
    if applied is None and same_size and any(one != other for one, other in zip(given, mapped)):
        warnings.warn(
            f"Circuit `{circuit.name}` has been transpiled, and its observables are taken to be on its "
            f"{before} qubits before that. Fix: say layout_applied=True if they are on the device's qubits "
            "(apply_layout) already, else layout_applied=False.",
            stacklevel=3,
        )
    return mapped


def layout_of(circuit: QuantumCircuit) -> Any:
    """Return the layout of a circuit that has been transpiled; None if it has not.

    OpenQASM on a device's qubits (`$3`) is read with a layout that moves nothing, and that does not say which
    qubits were there before; its qubits are those of the device.

    Raises:
        CircuitError: If a layout moves qubits, and does not say which ones were there before.
    """
    layout = circuit.layout
    if layout is None or (layout._input_qubit_count is not None and layout._output_qubit_list is not None):
        return layout
    places = layout.initial_layout.get_virtual_bits()
    stays = all(place == layout.input_qubit_mapping.get(qubit) for qubit, place in places.items())
    if layout.final_layout is None and stays:
        return None
    raise CircuitError(
        f"Circuit `{circuit.name}` has a layout that does not say which qubits it had before it was "
        "transpiled. Fix: observables on its present qubits, and layout_applied=True."
    )


def virtual_qubits(circuit: QuantumCircuit) -> int:
    """Return the number of qubits that a circuit had before it was transpiled, if it was."""
    layout = layout_of(circuit)
    return int(circuit.num_qubits) if layout is None else len(layout.final_index_layout(filter_ancillas=True))


def two_qubit_cost(circuit: QuantumCircuit, observables: Observables, target: Target) -> tuple[int, float]:
    """Return the number of two-qubit gates, and the sum of their and the read-outs' errors for equals."""
    count, error = 0, 0.0
    for instruction in circuit.data:
        if len(instruction.qubits) == 2:
            count += 1
            qubits = tuple(circuit.find_bit(qubit).index for qubit in instruction.qubits)
            error += _error(target, instruction.operation.name, qubits)
    read = {qubit for one in observables for _, qubits, _ in one.to_sparse_list() for qubit in qubits}
    return count, error + sum(_error(target, "measure", (qubit,)) for qubit in read)


def _error(target: Target, name: str, qubits: tuple[int, ...]) -> float:
    known = (target[name] or {}).get(qubits) if name in target.operation_names else None
    return known.error if known is not None and is_known(known.error) else 0.0


def is_known(value: float | None) -> bool:
    """Return whether a calibration gives an error or a time: a number that is not negative."""
    return value is not None and math.isfinite(value) and value >= 0


def holes_of(target: Target) -> tuple[set[int], set[tuple[str, tuple[int, ...]]]]:
    """Return qubits and two-qubit gates of which the calibration does not say all that it says of others.

    What is not known is not perfect: a decay time of zero or none, a gate or read-out without an error.
    A target that reports nothing of a kind at all, as one without noise does, has no holes of that kind.

    Args:
        target: The device's target.

    Returns:
        Qubits, and (name, qubits) of gates on pairs.
    """
    qubits: set[int] = set()
    properties = target.qubit_properties or []
    for key in ("t1", "t2"):
        times = [getattr(one, key, None) for one in properties]
        unknown = {qubit for qubit, time in enumerate(times) if not is_known(time) or not time}
        if len(unknown) < len(times):
            qubits |= unknown
    pairs: set[tuple[str, tuple[int, ...]]] = set()
    for name in target.operation_names:
        places = target[name] or {}
        if not isinstance(target.operation_from_name(name), Gate) and name != MEASUREMENT:
            continue
        unknown_places = {
            place for place, known in places.items() if known is None or not is_known(known.error)
        }
        if len(unknown_places) == len(places):
            continue
        qubits |= {place[0] for place in unknown_places if len(place) == 1}
        pairs |= {(name, place) for place in unknown_places if len(place) == 2}
    return qubits, pairs


def usable_target(target: Target) -> Target:
    """Return a target without control flow, dead gates, and qubits with a dead gate or read-out.

    Qubits and gates whose quality is not known are left out as well; see `holes_of`.
    """
    unknown, unknown_pairs = holes_of(target)
    dead = unknown | {
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
        alive = {
            q: known
            for q, known in places.items()
            if not (_dead(known) or dead & set(q) or (name, q) in unknown_pairs)
        }
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


def used_qubits(circuit: QuantumCircuit, observables: Observables) -> tuple[int, ...]:
    """Return the qubits that a gate or an observable acts on, in order."""
    found = {
        circuit.find_bit(qubit).index
        for instruction in circuit.data
        if instruction.operation.name not in ("barrier", "delay")
        for qubit in instruction.qubits
    }
    for observable in observables:
        found.update(qubit for _, qubits, _ in observable.to_sparse_list() for qubit in qubits)
    return tuple(sorted(found))


def restricted(
    circuit: QuantumCircuit, observables: Observables, qubits: Sequence[int]
) -> tuple[QuantumCircuit, tuple[SparsePauliOp, ...]]:
    """Return circuit and observables on some qubits alone; see `CircuitSpec.restrict`."""
    place = {qubit: index for index, qubit in enumerate(qubits)}
    missing = sorted(set(used_qubits(circuit, observables)) - set(place))
    if len(place) < len(qubits) or missing:
        raise CircuitError(
            f"Argument `qubits` must be distinct and hold all qubits that circuit `{circuit.name}` uses, but "
            f"{list(qubits)} lacks {missing or 'none and repeats one'}. Fix: spec.used_qubits."
        )
    part = QuantumCircuit(len(place), name=circuit.name, global_phase=circuit.global_phase)
    for instruction in circuit.data:
        places = [place.get(circuit.find_bit(qubit).index) for qubit in instruction.qubits]
        kept = [one for one in places if one is not None]
        if instruction.operation.name == "barrier" and kept:
            part.barrier(kept)
        elif len(kept) == len(places):
            part.append(instruction.operation, kept)
    renumbered = tuple(
        SparsePauliOp.from_sparse_list(
            [
                (letters, [place[qubit] for qubit in places], factor)
                for letters, places, factor in observable.to_sparse_list()
            ],
            num_qubits=len(place),
        )
        for observable in observables
    )
    return part, renumbered


def target_of(target: Any) -> Target:
    """Return the Target of what `CircuitSpec.transpile` may be given.

    Raises:
        CircuitError: If it has none.
    """
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
    name: str, circuit: QuantumCircuit, target: Target, trials: int, layouts: Sequence[Sequence[int]]
) -> None:
    if trials < 1:
        raise CircuitError(f"Argument `trials` must be at least 1, but is {trials}.")
    if target.num_qubits is not None and target.num_qubits < circuit.num_qubits:
        raise CircuitError(
            f"Circuit `{name}` must fit the target, but has {circuit.num_qubits} qubits and the target "
            f"{target.num_qubits}."
        )
    places = [place for one in target.operation_names for place in target[one] or {None: None}]
    usable = {qubit for place in places for qubit in place or ()}
    needed = len(used_qubits(circuit, ()))
    if None not in places and len(usable) < needed:
        raise CircuitError(
            f"Circuit `{name}` must fit the target, but uses {needed} qubits, and of the target's "
            f"{target.num_qubits} only {len(usable)} are known to be in order. Fix: another device."
        )
    for layout in layouts:
        chosen = set(layout)
        distinct = len(layout) == len(chosen) == circuit.num_qubits
        if not distinct or not chosen <= set(range(target.num_qubits or 0)):
            raise CircuitError(
                f"Argument `initial_layouts` must hold lists of {circuit.num_qubits} distinct qubits of the "
                f"target, but one is {list(layout)}."
            )
