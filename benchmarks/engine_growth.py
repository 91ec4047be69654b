"""How the exact engine's cost grows with batch, grid and depth of the HQ-UNet circuit; tables and a plot.

    python benchmarks/engine_growth.py [--output growth.md] [--plot growth.png]

Cells whose predicted time or memory is too large show the method that would be taken, or `refused`, with the
prediction in brackets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from timing import arguments_of, engine_step, report, seconds_of, table

from qhybrid.circuits import build_circuit
from qhybrid.engines import ExactEngine

LONGEST_SAMPLE = 1.0
"""Predicted seconds a sample above which a cell is not run."""
LONGEST_STEP = 1.0
"""Predicted seconds of a step above which it is run with fewer samples."""


@dataclass(frozen=True)
class Cell:
    """One circuit: what was chosen, and how long a sample takes.

    Attributes:
        grid: Cells along one side.
        depth: Repetitions of both passes.
        method: network, statevector or refused.
        seconds: Time of value and gradient, a sample.
        measured: Whether `seconds` was measured; else it is the prediction.
    """

    grid: int
    depth: int
    method: str
    seconds: float
    measured: bool

    def __str__(self) -> str:
        if self.measured:
            return f"{self.method}, {self.seconds * 1e6:,.0f} us"
        return f"{self.method} (predicted {self.seconds:.1g} s)"


def measure(grid: int, depth: int, batch: int, device: str) -> Cell:
    """Return one cell of the table of grids and depths."""
    spec, engine = build_circuit("hq_unet_qcnn", grid=grid, reps=depth), ExactEngine(device=device)
    found = engine.explain(spec, batch)
    if found.method == "refused" or found.seconds > LONGEST_SAMPLE * batch:
        return Cell(grid, depth, found.method, found.seconds / batch, measured=False)
    samples = max(1, int(batch * min(1.0, LONGEST_STEP / found.seconds)))
    repeats = 1 if found.seconds > LONGEST_STEP / 2 else 5
    (seconds,) = seconds_of([engine_step(engine, spec, samples, device)], repeats)
    return Cell(grid, depth, found.method, seconds / samples, measured=True)


def over_batches(batches: list[int], device: str) -> list[float]:
    """Return the seconds a sample of the 4 x 4 circuit for every batch size."""
    spec, engine = build_circuit("hq_unet_qcnn"), ExactEngine(device=device)
    return [seconds_of([engine_step(engine, spec, batch, device)], 10)[0] / batch for batch in batches]


def plot(path: Path, batches: list[int], per_batch: list[float], cells: list[Cell]) -> None:
    """Draw both studies; hollow marks are predictions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(batches, [seconds * 1e6 for seconds in per_batch], "o-")
    left.set(xlabel="batch", ylabel="us a sample, value and gradient", title="4 x 4 grid, 16 qubits, depth 1")
    for depth in sorted({cell.depth for cell in cells}):
        chosen = [cell for cell in cells if cell.depth == depth]
        (line,) = right.semilogy(
            [cell.grid**2 for cell in chosen], [cell.seconds for cell in chosen], label=f"depth {depth}"
        )
        for cell in chosen:
            mark = {"network": "o", "statevector": "s"}.get(cell.method, "x")
            fill = line.get_color() if cell.measured or mark == "x" else "white"
            right.semilogy([cell.grid**2], [cell.seconds], mark, color=line.get_color(), markerfacecolor=fill)
    right.set(xlabel="qubits", ylabel="s a sample, value and gradient")
    right.set_title("circle: network, square: statevector, cross: refused; hollow: predicted", fontsize=9)
    right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print the tables, draw the plot."""
    parser = arguments_of(__doc__)
    parser.add_argument("--plot", type=Path, help="PNG file for the plot")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64, 256, 1024, 4096])
    parser.add_argument("--grids", type=int, nargs="+", default=[2, 3, 4, 5, 6])
    parser.add_argument("--depths", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--batch", type=int, default=16, help="samples of the table of grids and depths")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    per_batch = over_batches(arguments.batches, arguments.device)
    cells = [
        measure(grid, depth, arguments.batch, arguments.device)
        for grid in arguments.grids
        for depth in arguments.depths
    ]
    rows = [
        [f"{grid}x{grid}", grid**2, *(cell for cell in cells if cell.grid == grid)]
        for grid in arguments.grids
    ]
    figures = [[batch, f"{seconds * 1e6:.1f}"] for batch, seconds in zip(arguments.batches, per_batch)]
    head = ["grid", "qubits", *(f"depth {depth}" for depth in arguments.depths)]
    sections = [
        f"## Batch, 4 x 4 grid\n\n{table(['batch', 'us a sample'], figures)}",
        f"## Grids and depths, batch {arguments.batch}, time a sample\n\n{table(head, rows)}",
    ]
    report(sections, arguments)
    if arguments.plot:
        plot(arguments.plot, arguments.batches, per_batch, cells)


if __name__ == "__main__":
    main()
