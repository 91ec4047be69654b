"""Circuits of several families in the compiled kernels and in torch, optionally under torch.compile.

    python benchmarks/compiled_kernels.py
    python benchmarks/compiled_kernels.py --compile --only "8 qubits"

Milliseconds of value and gradient in one thread, minimum of processor time; seconds of the first call,
planning and compiling included; beside them what `explain` predicts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import networkx
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.circuit.library import real_amplitudes, zz_feature_map
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.engines.exact.native.library import kernels

TORCH_LIMIT = 5.0
"""Seconds that `explain` may predict for torch before its column is left out."""


def z_of_all(qubits: int) -> list[SparsePauliOp]:
    """Z of every qubit."""
    return [SparsePauliOp.from_sparse_list([("Z", [q], 1.0)], qubits) for q in range(qubits)]


def tiny(qubits: int = 8, layers: int = 3) -> CircuitSpec:
    """RY(x), then layers of RY, RZ and a ring of CRY."""
    x, w = ParameterVector("x", qubits), ParameterVector("w", 3 * qubits * layers)
    circuit, angles = QuantumCircuit(qubits), iter(w)
    for qubit in range(qubits):
        circuit.ry(x[qubit], qubit)
    for _ in range(layers):
        for qubit in range(qubits):
            circuit.ry(next(angles), qubit)
            circuit.rz(next(angles), qubit)
        for qubit in range(qubits):
            circuit.cry(next(angles), qubit, (qubit + 1) % qubits)
    return CircuitSpec.from_circuit(circuit, list(x), list(w), z_of_all(qubits))


def efficient(qubits: int, layers: int, uploads: bool = False) -> CircuitSpec:
    """RY(x), once or in every layer, then layers of RY, RZ and a ring of CX."""
    x, w = ParameterVector("x", qubits), ParameterVector("w", 2 * qubits * layers)
    circuit, angles = QuantumCircuit(qubits), iter(w)
    for layer in range(layers):
        for qubit in range(qubits):
            if uploads or not layer:
                circuit.ry(x[qubit], qubit)
        for qubit in range(qubits):
            circuit.ry(next(angles), qubit)
            circuit.rz(next(angles), qubit)
        for qubit in range(qubits):
            circuit.cx(qubit, (qubit + 1) % qubits)
    return CircuitSpec.from_circuit(circuit, list(x), list(w), z_of_all(qubits))


def zz_map(qubits: int) -> CircuitSpec:
    """ZZ feature map, 2 repetitions, all pairs; real amplitudes, 3 repetitions."""
    features = zz_feature_map(qubits, reps=2, entanglement="full")
    ansatz = real_amplitudes(qubits, reps=3)
    circuit = features.compose(ansatz)
    return CircuitSpec.from_circuit(
        circuit, list(features.parameters), list(ansatz.parameters), z_of_all(qubits)
    )


def qaoa(qubits: int = 16, layers: int = 2) -> CircuitSpec:
    """A random 3-regular graph; one sum of its ZZ; inputs shift the first mixer."""
    edges = list(networkx.random_regular_graph(3, qubits, seed=1).edges)
    x, w, circuit = ParameterVector("x", qubits), ParameterVector("w", 2 * layers), QuantumCircuit(qubits)
    circuit.h(range(qubits))
    for layer in range(layers):
        for a, b in edges:
            circuit.rzz(w[2 * layer], a, b)
        for qubit in range(qubits):
            circuit.rx(w[2 * layer + 1] if layer else w[1] + x[qubit], qubit)
    cost = SparsePauliOp.from_sparse_list([("ZZ", list(edge), 1.0) for edge in edges], qubits)
    return CircuitSpec.from_circuit(circuit, list(x), list(w), [cost])


FAMILIES: list[tuple[str, Callable[[], CircuitSpec], list[int]]] = [
    ("8 qubits, 3 x [RY, RZ, CRY ring]", tiny, [1, 32, 1024]),
    ("10 qubits, 4 x [RY, RZ, CX ring]", lambda: efficient(10, 4), [1, 64]),
    ("14 qubits, the same", lambda: efficient(14, 4), [1, 64]),
    ("18 qubits, the same", lambda: efficient(18, 4), [1]),
    ("ZZ map and real amplitudes, 6 qubits", lambda: zz_map(6), [64]),
    ("the same, 10 qubits", lambda: zz_map(10), [64]),
    ("QAOA, 16 qubits, p = 2", qaoa, [8]),
    ("4 qubits x 100 layers", lambda: efficient(4, 100), [256]),
    ("the same with re-uploading", lambda: efficient(4, 100, True), [256]),
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", action="store_true", help="also torch.compile of the torch version")
    parser.add_argument("--only", help="families whose names hold this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"compiled kernels: {kernels().build or 'none, ' + kernels().reason}")
    ways = " | ".join(f"{way} | its first call" for way in ("compiled", "torch", "torch.compile"))
    print(f"| circuit, batch | predicted | {ways} |")
    print("|---" * 8 + "|")
    for name, build, batches in FAMILIES:
        if options.only and options.only not in name:
            continue
        for batch in batches:
            spec = build()
            cells = [f"{make_engine('exact', method='statevector').explain(spec, batch).seconds * 1e3:.2f}"]
            cells += measured(spec, batch, "compiled", False) if kernels().library else ["-", "-"]
            predicted = make_engine("exact", method="statevector", kernel="torch").explain(spec, batch)
            cells += measured(spec, batch, "torch", False) if predicted.seconds < TORCH_LIMIT else ["-", "-"]
            cells += measured(spec, batch, "torch", True) if options.compile else ["-", "-"]
            print(f"| {name}, {batch} | {' | '.join(cells)} |", flush=True)


def measured(spec: CircuitSpec, batch: int, kernel: str, compile_: bool) -> list[str]:
    """Return milliseconds of a step and seconds of the first one, as text."""
    before = time.process_time()
    engine = make_engine("exact", method="statevector", kernel=kernel)
    inputs = torch.randn(batch, spec.num_inputs, requires_grad=True)
    weights = torch.randn(spec.num_weights, requires_grad=True)
    function = engine.expectations
    if compile_:
        # What torch.compile can reach is the plain torch program of the values, not the engine around it.
        engine.expectations(spec, inputs, weights)
        (executor,) = engine._executors.values()
        function = torch.compile(lambda _, rows, vector: executor(rows.t(), vector, traced=True).t())

    def step() -> None:
        function(spec, inputs, weights).square().sum().backward()

    try:
        step()
    except Exception as error:
        return [type(error).__name__, "-"]
    first, times, start = time.process_time() - before, [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < 1.0:
        before = time.process_time()
        step()
        times.append(time.process_time() - before)
    return [f"{min(times) * 1e3:.2f}", f"{first:.2f} s"]


if __name__ == "__main__":
    main()
