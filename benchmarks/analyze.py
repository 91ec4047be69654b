"""Seconds of `qhybrid circuits analyze` for the named circuits and for a dense one on 8 qubits.

Each circuit is analysed once with the default samples; plans of contractions are searched anew only where
the cache on disk does not have them. Processor time and elapsed time are printed: on a busy machine they
differ.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable

import torch
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from timing import arguments_of, table

from qhybrid.analysis import CircuitAnalysis, NotComputed, analyze_circuit
from qhybrid.circuits import CircuitSpec
from qhybrid.circuits.definitions import find_circuit
from qhybrid.workspace import write_text

NAMED = ("qcq_filter", "qcq_classifier", "qcnn", "qufex_filter1", "qufex_filter2", "hq_unet_qcnn")


def dense(qubits: int = 8, layers: int = 4) -> CircuitSpec:
    """Return RZ RY RZ on every qubit and a ring of CNOTs, `layers` times; Z of every qubit."""
    w = ParameterVector("w", 3 * qubits * layers)
    angles = iter(w)
    circuit = QuantumCircuit(qubits)
    for _ in range(layers):
        for qubit in range(qubits):
            circuit.rz(next(angles), qubit)
            circuit.ry(next(angles), qubit)
            circuit.rz(next(angles), qubit)
        for qubit in range(qubits):
            circuit.cx(qubit, (qubit + 1) % qubits)
    return CircuitSpec.from_circuit(circuit, [], list(w), [f"Z{qubit}" for qubit in range(qubits)], "dense")


def measure(make: Callable[[], CircuitSpec]) -> list[object]:
    """Return one row of the table."""
    spec = make()
    started, used = time.perf_counter(), time.process_time()
    found = analyze_circuit(spec)
    seconds, busy = time.perf_counter() - started, time.process_time() - used
    return [spec.name, spec.num_qubits, f"{busy:.1f}", f"{seconds:.1f}", pairs(found), settings(found)]


def pairs(found: CircuitAnalysis) -> object:
    """Return how many pairs of states were compared."""
    if isinstance(found.expressibility, NotComputed):
        return "-"
    return found.expressibility[0].divergence.samples


def settings(found: CircuitAnalysis) -> object:
    """Return how many settings the gradients are of."""
    return "-" if isinstance(found.trainability, NotComputed) else found.trainability.samples


def main() -> None:
    """Measure and print the table."""
    parser = arguments_of(__doc__)
    parser.add_argument("--circuits", nargs="+", default=[*NAMED, "dense"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    makers = {name: (lambda name=name: find_circuit(name)) for name in arguments.circuits if name != "dense"}
    if "dense" in arguments.circuits:
        makers["dense"] = dense
    head = ["circuit", "qubits", "processor s", "elapsed s", "pairs of states", "settings of gradients"]
    machine = f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, {platform.machine()}"
    text = f"{machine}\n\n{table(head, [measure(make) for make in makers.values()])}\n"
    print(text)
    if arguments.output:
        write_text(arguments.output, text)


if __name__ == "__main__":
    main()
