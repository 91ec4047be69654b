"""TensorCircuit-NG as a peer: JAX, compiled, vectorised over the batch; plain, by light cones, or by scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import tensorcircuit
import torch
from peer_circuits import Gate, gates_of, observables_of
from peer_families import Family
from peer_steps import Results, Step

from qhybrid.circuits import CircuitSpec

State = Callable[[jax.Array, jax.Array], tensorcircuit.Circuit]


def plain(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> Step:
    """Return a step on the whole state, which all observables share."""
    return _step(spec, inputs, weights, _whole(spec), enable_lightcone=False, reuse=True)


def light_cones(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> Step:
    """Return a step that contracts the light cone of every observable."""
    return _step(spec, inputs, weights, _whole(spec), enable_lightcone=True, reuse=False)


def _whole(spec: CircuitSpec) -> State:
    gates = gates_of(spec)

    def state(row: jax.Array, weights: jax.Array) -> tensorcircuit.Circuit:
        circuit = tensorcircuit.Circuit(spec.num_qubits)
        _apply(circuit, gates, [_radians(gate, row, weights) for gate in gates])
        return circuit

    return state


def scan(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> Step:
    """Return a step that traces one layer and scans over its repetitions."""
    gates, size = gates_of(spec), family.layer_gates
    first = len(gates) % size
    layer = gates[first : first + size]
    repeats = len(gates) // size

    def state(row: jax.Array, weights: jax.Array) -> tensorcircuit.Circuit:
        start = tensorcircuit.Circuit(spec.num_qubits)
        _apply(start, gates[:first], [_radians(gate, row, weights) for gate in gates[:first]])
        flat = [0.0 if gate.radians is None else gate.radians(row, weights) for gate in gates[first:]]
        table = jnp.stack([jnp.asarray(angle, jnp.float32) for angle in flat]).reshape(repeats, size)

        def one(amplitudes: jax.Array, angles: jax.Array) -> tuple[jax.Array, None]:
            circuit = tensorcircuit.Circuit(spec.num_qubits, inputs=amplitudes)
            _apply(circuit, layer, list(angles))
            return circuit.state(), None

        final, _ = jax.lax.scan(one, start.state(), table)
        return tensorcircuit.Circuit(spec.num_qubits, inputs=final)

    return _step(spec, inputs, weights, state, enable_lightcone=False, reuse=True)


def _radians(gate: Gate, row: jax.Array, weights: jax.Array) -> jax.Array | float:
    return 0.0 if gate.radians is None else gate.radians(row, weights)


def _apply(
    circuit: tensorcircuit.Circuit, gates: Sequence[Gate], angles: Sequence[jax.Array | float]
) -> None:
    for gate, angle in zip(gates, angles):
        if gate.radians is None:
            getattr(circuit, gate.name)(*gate.qubits)
        else:
            name = {"p": "phase"}.get(gate.name, gate.name)
            getattr(circuit, name)(*gate.qubits, theta=angle)


def _step(
    spec: CircuitSpec, inputs: torch.Tensor, weights: torch.Tensor, state: State, **options: bool
) -> Step:
    tensorcircuit.set_backend("jax")
    observables = observables_of(spec)

    def values_of(row: jax.Array, weights: jax.Array) -> jax.Array:
        circuit, found = state(row, weights), []
        for terms in observables:
            total = 0.0
            for factor, letters in terms:
                places: dict[str, list[int]] = {"x": [], "y": [], "z": []}
                for letter, qubit in letters:
                    places[letter.lower()].append(qubit)
                total = total + factor * jnp.real(circuit.expectation_ps(**places, **options))
            found.append(total)
        return jnp.stack(found)

    def loss(inputs: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = jax.vmap(values_of, in_axes=(0, None))(inputs, weights)
        return jnp.sum(values**2), values

    compiled = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    arguments = (jnp.asarray(inputs.numpy()), jnp.asarray(weights.numpy()))

    def step() -> Results:
        (_, values), gradients = jax.block_until_ready(compiled(*arguments))
        return [np.asarray(part) for part in (values, *gradients)]

    return step
