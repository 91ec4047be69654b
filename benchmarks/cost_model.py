"""The constants by which the exact engine chooses between its methods, fitted to measured steps.

Run: ``python benchmarks/cost_model.py``. Prints predicted and measured time of both methods for circuits of
many shapes, and the constants of qhybrid/engines/exact/constants.py that fit best. `qhybrid calibrate`
measures smaller circuits, in less time, and keeps the constants.
"""

from __future__ import annotations

import torch
from timing import arguments_of, engine_step, report, seconds_of, table

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import ExactEngine
from qhybrid.engines.exact.calibrate import Probe, fitted
from qhybrid.engines.exact.constants import constants_in_use

BATCHES = (16, 576)
LONGEST_SECONDS = 1.5
"""Cells that are predicted to take longer are left out."""
FEWEST_REPEATS = 5


def circuits() -> list[tuple[str, CircuitSpec]]:
    """Return named circuits of different widths, depths and connectivities."""
    found = [
        (f"QuFeX filter 1, {n} qubits", build_circuit("qufex_filter1", num_qubits=n)) for n in (4, 6, 8, 12)
    ]
    found += [("QuFeX filter 2, 8 qubits", build_circuit("qufex_filter2", num_qubits=8))]
    found += [
        (f"HQ-UNet {grid}x{grid}, depth {reps}", build_circuit("hq_unet_qcnn", grid=grid, reps=reps))
        for grid, reps in ((2, 1), (3, 1), (4, 1), (2, 4), (3, 2), (3, 4), (4, 2))
    ]
    found += [("QCQ classifier", build_circuit("qcq_classifier")), ("QCNN, 8 qubits", build_circuit("qcnn"))]
    return found


def measure(spec: CircuitSpec, method: str, batch: int) -> tuple[Probe, float] | None:
    """Return a measured step and its predicted seconds; None for a cell left out."""
    engine = ExactEngine(method=method)
    found = engine.explain(spec, batch)
    if found.method != method or found.seconds > LONGEST_SECONDS:
        return None
    take = engine_step(engine, spec, batch)
    (seconds,) = seconds_of([take], max(FEWEST_REPEATS, int(0.3 / max(found.seconds, 1e-3))))
    return Probe(method, found.counts, seconds), found.seconds


def main() -> None:
    """Print the tables."""
    arguments = arguments_of(__doc__ or "").parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[list[object]] = []
    probes = []
    for method in ("network", "statevector"):
        for name, spec in circuits():
            for batch in BATCHES:
                cell = measure(spec, method, batch)
                if cell:
                    probes.append(cell[0])
                    rows.append([name, method, batch, f"{cell[1] * 1e3:.2f}", f"{cell[0].seconds * 1e3:.2f}"])
    used = constants_in_use(arguments.threads)
    constants = [
        [name, f"{used[name]:.1e}", f"{seconds:.1e}"] for name, seconds in fitted(tuple(probes)).items()
    ]
    report(
        [
            table(["circuit", "method", "batch", "predicted, ms", "measured, ms"], rows),
            table(["constant", "in use, s", "fitted, s"], constants),
        ],
        arguments,
    )


if __name__ == "__main__":
    main()
