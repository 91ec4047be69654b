"""FlagQuantum as a peer: batched statevectors, recorded by torch."""

from __future__ import annotations

import flagquantum
import torch
from peer_circuits import gates_of, index_of_bits, observables_of
from peer_families import Family
from peer_steps import Step, torch_step

from qhybrid.circuits import CircuitSpec


def statevector(spec: CircuitSpec, family: Family, inputs: torch.Tensor, weights: torch.Tensor) -> Step:
    """Return a step; strings of Z are read from the probabilities at once, which is its fastest way."""
    gates, n = gates_of(spec), spec.num_qubits
    rows = []
    for terms in observables_of(spec):
        if any(letter != "Z" for _, letters in terms for letter, _ in letters):
            raise ValueError("The FlagQuantum step reads strings of Z.")
        signs = [f * index_of_bits(n, [q for _, q in letters], first_is_high=True) for f, letters in terms]
        rows.append(torch.as_tensor(sum(signs), dtype=torch.float32))
    signs = torch.stack(rows)

    def run(inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        circuit = flagquantum.Circuit(n, bsz=len(inputs))
        for gate in gates:
            if gate.radians is None:
                getattr(circuit, gate.name)(*gate.qubits)
            else:
                angle = torch.as_tensor(gate.radians(inputs, weights), dtype=torch.float32)
                getattr(circuit, gate.name)(*gate.qubits, angle)
        state = circuit.state().reshape(len(inputs), -1)
        return (state.real.square() + state.imag.square()) @ signs.T

    return torch_step(run, inputs, weights)
