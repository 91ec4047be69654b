"""The constants by which the exact engine chooses between its methods, fitted to measured steps.

Run: ``python benchmarks/cost_model.py``. Prints predicted and measured time of both methods for circuits of
many shapes, and the constants of qhybrid/engines/exact/cost.py that fit best.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import nnls
from timing import arguments_of, engine_step, report, seconds_of, table

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import ExactEngine
from qhybrid.engines.exact import cost as model
from qhybrid.engines.exact.plan import NOMINAL_BATCH
from qhybrid.errors import EngineError

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


def measure(spec: CircuitSpec, method: str, batch: int) -> tuple[list[float], float, float] | None:
    """Return the terms of the cost, predicted and measured seconds of a step; None for a cell left out."""
    engine = ExactEngine(method=method)
    try:
        predicted = engine.explain(spec, batch).seconds
    except EngineError:
        return None
    if predicted > LONGEST_SECONDS:
        return None
    plan = engine._plan(spec)
    if method == "network":
        found = plan.network and plan.network.cost
        if not found:
            return None
        count = found.overhead / model.SECONDS_PER_INSTRUCTION
        terms = [batch * model.GRADIENT_FACTOR * found.flops, batch * found.entries, count]
    else:
        found = plan.state_cost
        if not found:
            return None
        per_sample = (found.seconds - found.overhead) / NOMINAL_BATCH / model.SECONDS_PER_AMPLITUDE_STEP
        terms = [batch * per_sample, found.overhead / model.SECONDS_PER_STATE_STEP]
    take = engine_step(engine, spec, batch)
    (seconds,) = seconds_of([take], max(FEWEST_REPEATS, int(0.3 / max(predicted, 1e-3))))
    return terms, predicted, seconds


def fit(cells: list[tuple[list[float], float, float]]) -> np.ndarray:
    """Return the constants with the smallest relative errors."""
    terms = np.array([cell[0] for cell in cells])
    seconds = np.array([cell[2] for cell in cells])
    found: np.ndarray = nnls(terms / seconds[:, None], np.ones(len(cells)))[0]
    return found


def main() -> None:
    """Print the tables."""
    arguments = arguments_of(__doc__ or "").parse_args()
    torch.set_num_threads(arguments.threads)
    names = {
        "network": ("SECONDS_PER_MULTIPLY_ADD", "SECONDS_PER_ENTRY", "SECONDS_PER_INSTRUCTION"),
        "statevector": ("SECONDS_PER_AMPLITUDE_STEP", "SECONDS_PER_STATE_STEP"),
    }
    rows: list[list[object]] = []
    fitted: list[list[object]] = []
    for method, constants in names.items():
        cells = []
        for name, spec in circuits():
            for batch in BATCHES:
                cell = measure(spec, method, batch)
                if cell:
                    cells.append(cell)
                    rows.append([name, method, batch, f"{cell[1] * 1e3:.2f}", f"{cell[2] * 1e3:.2f}"])
        fitted += [
            [constant, f"{getattr(model, constant):.1e}", f"{value:.1e}"]
            for constant, value in zip(constants, fit(cells))
        ]
    report(
        [
            table(["circuit", "method", "batch", "predicted, ms", "measured, ms"], rows),
            table(["constant", "in use, s", "fitted, s"], fitted),
        ],
        arguments,
    )


if __name__ == "__main__":
    main()
