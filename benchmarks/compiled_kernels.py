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

import torch
from peer_families import qaoa, rings, zz_map

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.engines.exact.native.library import kernels

TORCH_LIMIT = 5.0
"""Seconds that `explain` may predict for torch before its column is left out."""


FAMILIES: list[tuple[str, Callable[[], CircuitSpec], list[int]]] = [
    ("8 qubits, 3 x [RY, RZ, CRY ring]", lambda: rings(8, 3, "cry"), [1, 32, 1024]),
    ("10 qubits, 4 x [RY, RZ, CX ring]", lambda: rings(10, 4, "cx"), [1, 64]),
    ("14 qubits, the same", lambda: rings(14, 4, "cx"), [1, 64]),
    ("18 qubits, the same", lambda: rings(18, 4, "cx"), [1]),
    ("ZZ map and real amplitudes, 6 qubits", lambda: zz_map(6), [64]),
    ("the same, 10 qubits", lambda: zz_map(10), [64]),
    ("QAOA, 16 qubits, p = 2", qaoa, [8]),
    ("4 qubits x 100 layers", lambda: rings(4, 100, "cx"), [256]),
    ("the same with re-uploading", lambda: rings(4, 100, "cx", upload=True), [256]),
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
