"""The exact engine on the HQ-UNet bottleneck: against the recurrence by hand, over batch, grid, depth.

Run: ``python benchmarks/engine_hq_unet.py --output table.md``. All figures are value and gradient of
sum(y^2) with respect to inputs and weights, float32. Compare ratios, not seconds: steps of both sides
alternate in the same process.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import hq_unet_recurrence
import torch

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import ExactEngine
from qhybrid.workspace import write_text

SLOWEST_CELL_SECONDS = 20.0
"""Cells of the grid table whose predicted time is longer are shown with the prediction only."""


def step(
    run: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], spec: CircuitSpec, batch: int
) -> Callable[[], None]:
    """Return one training step: value and gradient."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, spec.num_inputs, generator=generator).requires_grad_()
    weights = torch.randn(spec.num_weights, generator=generator).requires_grad_()

    def take() -> None:
        inputs.grad = weights.grad = None
        run(inputs, weights).square().sum().backward()

    return take


def seconds_of(functions: list[Callable[[], None]], repeats: int) -> list[float]:
    """Return each function's shortest time of several, taken in turns: without other work's share."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repeats):
        for function, taken in zip(functions, times):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


def against_recurrence(batches: list[int], repeats: int) -> list[str]:
    """Return the table of the engine and its hand-written twin."""
    spec, engine = build_circuit("hq_unet_qcnn"), ExactEngine()
    rows = ["| batch | engine, us a sample | by hand, us a sample | ratio |", "|---|---|---|---|"]
    for batch in batches:
        engine_step = step(lambda x, w: engine.expectations(spec, x, w), spec, batch)
        twin_step = step(hq_unet_recurrence.expectations, spec, batch)
        ours, twin = seconds_of([engine_step, twin_step], repeats)
        rows.append(f"| {batch} | {ours / batch * 1e6:.1f} | {twin / batch * 1e6:.1f} | {ours / twin:.2f} |")
    found = engine.explain(spec, 4096)
    rate = product_rate()
    rows.append(
        f"\nThe plan takes {found.flops:,.0f} multiply-adds a sample for the value, three times "
        "that with gradient: "
        f"at this machine's {rate / 1e9:.0f} GFLOP/s in matrix products "
        f"{6 * found.flops / rate * 1e6:.2f} us a sample."
    )
    return rows


def product_rate(size: int = 1024) -> float:
    """Return the machine's floating-point operations a second in a float32 matrix product."""
    a, b = torch.randn(size, size), torch.randn(size, size)

    def multiply() -> None:
        a @ b

    (seconds,) = seconds_of([multiply], 5)
    return 2 * size**3 / seconds


def planning() -> list[str]:
    """Return planning times, without and with a plan on disk."""
    rows = ["| circuit | cold, s | cached, s |", "|---|---|---|"]
    for grid, reps in ((4, 1), (5, 2)):
        spec = build_circuit("hq_unet_qcnn", grid=grid, reps=reps)
        taken = []
        with tempfile.TemporaryDirectory() as folder:
            os.environ["QHYBRID_CACHE"] = folder
            for _ in range(2):
                start = time.perf_counter()
                ExactEngine().explain(spec)
                taken.append(time.perf_counter() - start)
        rows.append(f"| {grid}x{grid}, {reps} repetitions | {taken[0]:.2f} | {taken[1]:.2f} |")
    return rows


def over_grids(grids: list[int], depths: list[int], batch: int, repeats: int) -> list[str]:
    """Return method and time a sample for every grid and depth."""
    rows = [
        f"| grid | qubits | {' | '.join(f'{d} repetitions' for d in depths)} |",
        "|---|---|" + "---|" * len(depths),
    ]
    for grid in grids:
        cells = []
        for reps in depths:
            spec, engine = build_circuit("hq_unet_qcnn", grid=grid, reps=reps), ExactEngine()
            found = engine.explain(spec, batch)
            if found.method == "refused" or found.seconds > SLOWEST_CELL_SECONDS:
                cells.append(f"{found.method}, predicted {found.seconds / batch:.2g} s")
                continue
            take = step(lambda x, w, e=engine, s=spec: e.expectations(s, x, w), spec, batch)
            (seconds,) = seconds_of([take], repeats)
            cells.append(f"{found.method}, {seconds / batch * 1e6:,.0f} us")
        rows.append(f"| {grid}x{grid} | {grid * grid} | {' | '.join(cells)} |")
    return rows


def main() -> None:
    """Print the tables and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="Markdown file for the tables")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64, 256, 1024, 4096])
    parser.add_argument("--grids", type=int, nargs="*", default=[2, 3, 4, 5, 6])
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 4, 8])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    lines = [f"Value and gradient, float32, {arguments.threads} threads.\n"]
    lines += [
        "## Against the hand-written recurrence\n",
        *against_recurrence(arguments.batches, arguments.repeats),
    ]
    lines += ["\n## Planning\n", *planning()]
    lines += [
        "\n## Grids and depth, batch 16, time a sample\n",
        *over_grids(arguments.grids, arguments.depths, 16, 3),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.output:
        write_text(arguments.output, text)


if __name__ == "__main__":
    main()
