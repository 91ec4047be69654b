"""The exact engine on the HQ-UNet bottleneck: against the recurrence by hand, with noise, and its planning.

    python benchmarks/engine_hq_unet.py [--output table.md] [--device cuda]

All figures are value and gradient of sum(y^2) with respect to inputs and weights, float32. Compare ratios,
not seconds: steps of both sides alternate in the same process.
"""

from __future__ import annotations

import os
import tempfile
import time

import hq_unet_recurrence
import torch
from timing import (
    arguments_of,
    arithmetic_limit,
    engine_step,
    product_rate,
    report,
    seconds_of,
    step,
    table,
)

from qhybrid.circuits import build_circuit
from qhybrid.engines import ExactEngine
from qhybrid.noise import NoiseProfile


def against_recurrence(batches: list[int], repeats: int, device: str) -> str:
    """Return the table of the engine and its hand-written twin."""
    spec, engine = build_circuit("hq_unet_qcnn"), ExactEngine(device=device)
    limit = arithmetic_limit(engine.explain(spec, 4096).flops, rate := product_rate(device))
    rows = []
    for batch in batches:
        ours, twin = seconds_of(
            [
                engine_step(engine, spec, batch, device),
                step(hq_unet_recurrence.expectations, spec, batch, device),
            ],
            repeats,
        )
        figures = [f"{seconds / batch * 1e6:.2f}" for seconds in (ours, twin)]
        rows.append([batch, *figures, f"{ours / twin:.2f}", f"{limit * 1e6:.2f}"])
    head = ["batch", "engine, us a sample", "by hand, us a sample", "ratio", "arithmetic limit, us a sample"]
    return (
        f"## Against the hand-written recurrence\n\n{table(head, rows)}\n\nArithmetic limit: the plan's "
        f"multiply-adds, three times for value and gradient, at this machine's {rate / 1e9:.0f} GFLOP/s in "
        "matrix products."
    )


def with_noise(batches: list[int], repeats: int, device: str) -> str:
    """Return the table of noisy over noiseless steps."""
    spec = build_circuit("hq_unet_qcnn")
    plain = ExactEngine(device=device)
    noisy = ExactEngine(noise=NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02), device=device)
    rows = []
    for batch in batches:
        steps = [engine_step(engine, spec, batch, device) for engine in (plain, noisy)]
        first, second = seconds_of(steps, repeats)
        rows.append([batch, f"{first * 1e3:.3f}", f"{second * 1e3:.3f}", f"{second / first:.2f}"])
    head = ["batch", "noiseless, ms a step", "noisy, ms a step", "ratio"]
    return f"## Depolarizing noise (0.01, 0.02) on every gate\n\n{table(head, rows)}"


def planning() -> str:
    """Return planning times, without and with a plan on disk."""
    rows = []
    for grid, reps in ((4, 1), (6, 1), (3, 2), (4, 2)):
        spec = build_circuit("hq_unet_qcnn", grid=grid, reps=reps)
        taken = []
        with tempfile.TemporaryDirectory() as folder:
            os.environ["QHYBRID_CACHE"] = folder
            for _ in range(2):
                start = time.perf_counter()
                ExactEngine().explain(spec)
                taken.append(f"{time.perf_counter() - start:.2f}")
        rows.append([f"{grid}x{grid}, {reps} repetition(s)", *taken])
    return f"## Planning\n\n{table(['circuit', 'cold, s', 'cached, s'], rows)}"


def main() -> None:
    """Print the tables and write them to a file."""
    parser = arguments_of(__doc__)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256, 4096])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sections = [
        against_recurrence(arguments.batches, arguments.repeats, arguments.device),
        with_noise(arguments.batches, arguments.repeats, arguments.device),
        planning(),
    ]
    report(sections, arguments)


if __name__ == "__main__":
    main()
