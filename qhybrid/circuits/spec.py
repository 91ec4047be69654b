"""CircuitSpec: everything that is known about a circuit that a layer executes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits.blocks import without_blocks
from qhybrid.circuits.checks import check_gates
from qhybrid.circuits.fingerprint import circuit_fingerprint, circuit_fingerprints
from qhybrid.circuits.own_gates import only_modified, with_own_names
from qhybrid.circuits.pauli import ObservableLike, sparse_observables
from qhybrid.circuits.transpile import (
    follow_layout,
    restricted,
    target_of,
    transpiled,
    two_qubit_cost,
    usable_target,
    used_qubits,
    virtual_qubits,
)
from qhybrid.errors import CircuitError


@dataclass(frozen=True)
class CircuitSpec:
    """An unmeasured parameterised circuit and what to read from it.

    Qubit order is Qiskit's: qubit 0 is the rightmost letter of a Pauli label. All angles are radians.

    Attributes:
        name: A short name for messages and files.
        circuit: The unmeasured circuit.
        input_params: Parameters that receive data, in the order of an input row, shape (n_in,).
        weight_params: Trainable parameters, in the order of the weight vector, shape (n_w,).
        observables: Read-outs, in the order of the output, shape (n_obs,); each on all qubits of the circuit.
    """

    name: str
    circuit: QuantumCircuit
    input_params: tuple[Parameter, ...]
    weight_params: tuple[Parameter, ...]
    observables: tuple[SparsePauliOp, ...]
    _fingerprint: list[str] = field(default_factory=list, init=False, repr=False, compare=False)
    _given: QuantumCircuit | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Copy circuit and observables, and check that all fits and that the gates can be taken apart.

        What happens to the given ones afterwards does not matter. See `without_blocks` and
        `with_own_names` for what becomes of it.
        """
        given = self.circuit
        plain = without_blocks(given)
        object.__setattr__(self, "circuit", with_own_names(plain))
        if plain is given and only_modified(given, self.circuit):
            object.__setattr__(self, "_given", given.copy())
        _check_parameters(self.circuit, self.input_params, self.weight_params)
        for index, observable in enumerate(self.observables):
            if not isinstance(observable, SparsePauliOp):
                raise CircuitError(
                    f"Argument `observables` must be SparsePauliOps, but observable {index} is "
                    f"{observable!r}. Fix: CircuitSpec.from_circuit takes any kind."
                )
            if observable.num_qubits != self.circuit.num_qubits:
                raise CircuitError(
                    f"Argument `observables` must act on all {self.circuit.num_qubits} qubits of the "
                    f"circuit, but observable {index} has {observable.num_qubits}. Fix: pad it with "
                    f"identities (SparsePauliOp.from_sparse_list(..., num_qubits={self.circuit.num_qubits}))."
                )
        object.__setattr__(self, "observables", tuple(map(_own_copy, self.observables)))
        check_gates(self.name, self.circuit)

    @classmethod
    def from_circuit(
        cls,
        circuit: QuantumCircuit,
        inputs: Sequence[Parameter],
        weights: Sequence[Parameter],
        observables: ObservableLike | Sequence[ObservableLike],
        name: str | None = None,
        *,
        layout_applied: bool | None = None,
    ) -> CircuitSpec:
        """Build a spec from any Qiskit circuit.

        Observables follow the layout of a circuit that has been transpiled. Those with as many qubits as it
        had before are mapped by `SparsePauliOp.apply_layout`; those with as many qubits as it has now are
        read as they are. Where both numbers are equal the observables are mapped, with a warning unless
        `layout_applied` says which it is.

        Args:
            circuit: Unmeasured parameterised circuit.
            inputs: Its data parameters, in input order.
            weights: Its trainable parameters, in weight order.
            observables: One observable or several: `SparsePauliOp`, `Pauli`, `Operator`, a label ("ZI") or
                text ("0.5 * Z0 Z1").
            name: Name for messages; the circuit's own if absent.
            layout_applied: Whether the observables are on the qubits of the transpiled circuit (True) or on
                those before (False); None goes by their number.

        Raises:
            CircuitError: If parameters or observables do not fit the circuit.
        """
        size = circuit.num_qubits if layout_applied else virtual_qubits(circuit)
        several = sparse_observables(observables, size)
        found = follow_layout(circuit, several, layout_applied)
        return cls(name or str(circuit.name), circuit, tuple(inputs), tuple(weights), found)

    @property
    def num_qubits(self) -> int:
        """Number of qubits of the circuit."""
        return int(self.circuit.num_qubits)

    @property
    def num_inputs(self) -> int:
        """Number of data parameters (n_in)."""
        return len(self.input_params)

    @property
    def num_weights(self) -> int:
        """Number of trainable parameters (n_w)."""
        return len(self.weight_params)

    @property
    def num_observables(self) -> int:
        """Number of read-outs (n_obs)."""
        return len(self.observables)

    @property
    def used_qubits(self) -> tuple[int, ...]:
        """Qubits that a gate or an observable acts on, in order; of the device for a transpiled circuit."""
        return used_qubits(self.circuit, self.observables)

    def transpile(
        self,
        target: Any,
        seed: int = 0,
        *,
        trials: int = 4,
        cost: Callable[[CircuitSpec], Any] | None = None,
        initial_layouts: Sequence[Sequence[int]] = (),
        optimization_level: int = 2,
    ) -> CircuitSpec:
        """Return the circuit as a device executes it: on all its qubits, in its gates, along its couplings.

        Parameters and their order stay; observables follow the layout. Barriers go, and rotations in a row
        about the same axis become one. Gates and qubits that are out of order (error of at least 0.5) are
        avoided. Several layouts are tried, and the cheapest result is kept.

        Args:
            target: A Qiskit Target, or anything with one: a backend, or `qhybrid.devices.load_device(name)`.
            seed: Decides the layouts.
            trials: Runs of the transpiler, for each initial layout.
            cost: Called with each result; the smallest value wins. Default: two-qubit gates, then the sum of
                their and the read-outs' errors. `lambda spec: engine.explain(spec).seconds` keeps exact
                simulation cheap.
            initial_layouts: Layouts to try beside the transpiler's own, each one device qubit for each qubit
                of the circuit.
            optimization_level: Qiskit's, 0 to 3.

        Raises:
            CircuitError: If the circuit does not fit the target.
        """
        usable = usable_target(target_of(target))
        candidates = transpiled(
            self.name,
            self.circuit,
            usable,
            seed,
            trials=trials,
            initial_layouts=initial_layouts,
            optimization_level=optimization_level,
        )
        specs = [
            replace(
                self, circuit=circuit, observables=follow_layout(circuit, self.observables, applied=False)
            )
            for circuit in candidates
        ]
        return min(specs, key=cost or (lambda spec: two_qubit_cost(spec.circuit, spec.observables, usable)))

    def restrict(self, qubits: Sequence[int]) -> CircuitSpec:
        """Return the circuit on some qubits alone, numbered anew: the first of `qubits` becomes 0.

        `NoiseProfile.restrict` does the same to a device's profile.

        Args:
            qubits: Distinct qubits, among them all of `used_qubits`.

        Raises:
            CircuitError: If a qubit is missing or given twice.
        """
        circuit, observables = restricted(self.circuit, self.observables, qubits)
        return replace(self, circuit=circuit, observables=observables)

    @property
    def fingerprint(self) -> str:
        """Hash of gates, parameter order and observables; the name does not enter."""
        return self._hashes()[0]

    @property
    def gates_fingerprint(self) -> str:
        """Hash of gates and parameter order: the same for all observables of one circuit."""
        return self._hashes()[1]

    def _hashes(self) -> list[str]:
        if not self._fingerprint:
            found = circuit_fingerprints(
                self.circuit, self.input_params, self.weight_params, self.observables
            )
            self._fingerprint[:] = found
        return self._fingerprint

    @property
    def given(self) -> QuantumCircuit:
        """The circuit as it was given, where it has modified operations; else the circuit."""
        return self.circuit if self._given is None else self._given

    @property
    def old_fingerprints(self) -> tuple[str, ...]:
        """Hashes that earlier versions gave the circuit, where they differ: modified gates had another one.

        They do not say all that decides a value. Whoever finds one compares the circuits themselves.
        """
        if self._given is None:
            return ()
        return (circuit_fingerprint(self._given, self.input_params, self.weight_params, self.observables),)

    def bound(self, weights: Sequence[float]) -> CircuitSpec:
        """Return the circuit with numbers for its weights.

        Args:
            weights: Angles in radians, shape (n_w,).
        """
        return replace(self, circuit=self._with(self.circuit, weights), weight_params=())

    def given_bound(self, weights: Sequence[float]) -> QuantumCircuit:
        """Return the circuit as it was given, with numbers for its weights; see `bound`."""
        return self._with(self.given, weights)

    def _with(self, circuit: QuantumCircuit, weights: Sequence[float]) -> QuantumCircuit:
        values = dict(zip(self.weight_params, weights, strict=True))
        return circuit.assign_parameters({one: values[one] for one in circuit.parameters if one in values})


def _own_copy(observable: SparsePauliOp) -> SparsePauliOp:
    return SparsePauliOp(observable.paulis, observable.coeffs, copy=True)


def _check_parameters(
    circuit: QuantumCircuit, inputs: tuple[Parameter, ...], weights: tuple[Parameter, ...]
) -> None:
    given = [*inputs, *weights]
    names = [parameter.name for parameter in given]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CircuitError(
            f"Each parameter must be given once, but {', '.join(twice)} appear(s) more than once."
        )
    unbound = [parameter.name for parameter in circuit.parameters if parameter not in set(given)]
    if unbound:
        raise CircuitError(
            f"Circuit `{circuit.name}` has parameter(s) that are neither input nor weight: "
            f"{', '.join(unbound)}. Fix: bind them with assign_parameters, or list them."
        )
