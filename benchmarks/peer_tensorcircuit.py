"""TensorCircuit-NG as a peer: JAX, compiled, vectorised over the batch, light cones."""

from __future__ import annotations

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import tensorcircuit
from peer_circuits import gates_of, letters_of

from qhybrid.circuits import CircuitSpec


class CompiledStep:
    """Value and gradient of sum(y^2) with respect to inputs and weights, compiled for one batch.

    Args:
        spec: The circuit.
        inputs: Input angles, shape (B, n_in).
        weights: Weights, shape (n_w,).

    Attributes:
        seconds_to_compile: Time of the first call.
        results: Values (B, n_obs), gradient of the inputs, gradient of the weights.
    """

    def __init__(self, spec: CircuitSpec, inputs: np.ndarray, weights: np.ndarray) -> None:
        tensorcircuit.set_backend("jax")
        self._step = jax.jit(jax.value_and_grad(_loss(spec), argnums=(0, 1), has_aux=True))
        self._arguments = (jnp.asarray(inputs), jnp.asarray(weights))
        start = time.perf_counter()
        (_, values), gradients = jax.block_until_ready(self._step(*self._arguments))
        self.seconds_to_compile = time.perf_counter() - start
        self.results = [np.asarray(part) for part in (values, *gradients)]

    def __call__(self) -> None:
        """Take one step."""
        jax.block_until_ready(self._step(*self._arguments))


def _loss(spec: CircuitSpec) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    gates, letters = gates_of(spec), letters_of(spec)

    def values_of(row: jax.Array, weights: jax.Array) -> jax.Array:
        circuit = tensorcircuit.Circuit(spec.num_qubits)
        for gate in gates:
            if gate.angle is None:
                getattr(circuit, gate.name)(*gate.qubits)
            else:
                getattr(circuit, gate.name)(*gate.qubits, theta=gate.radians(row, weights))
        found = [
            circuit.expectation_ps(**{letter.lower(): [qubit]}, enable_lightcone=True, reuse=False)
            for letter, qubit in letters
        ]
        return jnp.real(jnp.stack(found))

    def loss(inputs: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        values = jax.vmap(values_of, in_axes=(0, None))(inputs, weights)
        return jnp.sum(values**2), values

    return loss
