"""The exact engine against what a user could pick instead: every family of circuits, one run, ratios.

    python benchmarks/peers.py [--only tiny qaoa] [--peers lightning] [--threads 1] [--output peers.md]

Every party runs in a process of its own, with the same circuit at the same angles. Values and gradients are
compared first; a difference stops the row. Steps of all parties alternate, so that all see the same machine.
A peer that works sample by sample is given a few samples, and its time is scaled. The time of the first call
(compilation, planning) stands apart. A peer whose package is missing is skipped with the reason; the `bench`
extra installs them all (`make bench`). With --output, a table, its figures as JSON and a picture are written.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
import numpy as np
import torch
from peer_circuits import check_parity
from peer_families import FAMILIES
from peer_worker import PARTIES
from timing import arguments_of, arithmetic_limit, product_rate, report, table

TOLERANCE = 2e-4
"""Largest difference of values and gradients, over the largest of each, in single precision."""
TURN_SECONDS = 0.15
"""A party takes about as many steps a turn as fill this."""
HERE = Path(__file__).resolve().parent


@dataclass
class Cell:
    """One party on one family at one batch.

    Attributes:
        family: Name of the family.
        batch: Samples of a step.
        party: Who.
        samples: Samples that it was given; times are scaled to the batch.
        first: Seconds of its first call.
        shortest: Shortest step, seconds, scaled to the batch.
        middle: Median step, seconds, scaled to the batch.
        difference: Largest difference of values and gradients to ours.
        facts: Of the exact engine: method, multiply-adds a sample, predicted seconds, limit.
        reason: Why there is no figure.
    """

    family: str
    batch: int
    party: str
    samples: int = 0
    first: float = 0.0
    shortest: float = 0.0
    middle: float = 0.0
    difference: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


class Worker:
    """A party in its own process.

    Args:
        cell: What it is to run.
        threads: Threads of its arithmetic.
        patience: Seconds until it must have answered.

    Raises:
        RuntimeError: If it ended or did not answer in time, with its last words.
    """

    def __init__(self, cell: Cell, threads: int, patience: float) -> None:
        self.cell, self._patience = cell, patience
        flags = f"--xla_cpu_multi_thread_eigen={'false' if threads == 1 else 'true'}"
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "QULACS_NUM_THREADS")
        environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONWARNINGS": "ignore"}
        environment |= {name: str(threads) for name in names}
        words = [sys.executable, str(HERE / "peer_worker.py"), cell.party, cell.family]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [*words, str(cell.batch), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        facts = self._answer()
        cell.samples, cell.first = facts.pop("samples"), facts.pop("first")
        cell.facts = facts
        self.walls: list[float] = []
        self._steps = 1

    def _answer(self) -> dict[str, Any]:
        pipe, end = self._process.stdout, time.monotonic() + self._patience
        while True:
            ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.close()
                raise RuntimeError(f"no answer within {self._patience:.0f} s")
            line = pipe.readline()
            if not line:
                self._process.wait()
                self._errors.seek(0)
                words = self._errors.read().strip().splitlines() or ["no message"]
                raise RuntimeError(f"{words[-1][:200]} (exit code {self._process.returncode})")
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer

    def _ask(self, text: str) -> dict[str, Any]:
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()
        return self._answer()

    def take(self) -> float:
        """Take a turn of steps; return its seconds."""
        walls = self._ask(f"step {self._steps}")["wall"]
        self.walls += walls
        self._steps = max(1, min(200, int(TURN_SECONDS / min(self.walls))))
        return sum(walls)

    def results(self, samples: int) -> list[np.ndarray]:
        """Return values and gradients for the first samples."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results.npz"
            self.cell.facts |= self._ask(f"results {samples} {path}")
            with np.load(path) as arrays:
                return [arrays[name] for name in arrays.files]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._errors.close()

    def finish(self) -> None:
        """Write the figures into the cell and end the process."""
        scale = self.cell.batch / self.cell.samples
        self.cell.shortest, self.cell.middle = scale * min(self.walls), scale * median(self.walls)
        self.close()


def compare(
    family: str, batch: int, parties: list[str], threads: int, patience: float, turns: int
) -> list[Cell]:
    """Return the cells of one family at one batch: ours first, then the peers'."""
    ours = ["qhybrid", "qhybrid, value only"][: 1 + any(PARTIES[name].values_only for name in parties)]
    cells = [Cell(family, batch, name) for name in [*ours, *parties]]
    workers: list[Worker] = []
    for cell in cells:
        try:
            worker = Worker(cell, threads, patience)
            workers.append(worker)
            if not cell.party.startswith("qhybrid"):
                few = cell.samples
                reference = workers[0].results(few)
                cell.difference = check_parity(reference, worker.results(few), TOLERANCE)
        except (RuntimeError, ValueError) as error:
            cell.reason = str(error)
            workers = [other for other in workers if other.cell is not cell]
    limit = time.monotonic() + patience
    for turn in range(turns):
        for worker in workers:
            try:
                if turn == 0 or worker.walls:
                    worker.take()
            except (RuntimeError, OSError) as error:
                worker.cell.reason = str(error)
        if time.monotonic() > limit:
            break
    for worker in workers:
        if worker.walls and not worker.cell.reason:
            worker.finish()
        worker.close()
    return cells


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.3g}" if seconds < 1 else f"{seconds * 1e3:,.0f}"


def rows_of(cells: list[Cell]) -> list[list[object]]:
    """Return the table's rows: one a peer, with the ratio of shortest and of median steps."""
    rows: list[list[object]] = []
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.family, cell.batch), []).append(cell)
    for (family, batch), group in groups.items():
        ours = {cell.party: cell for cell in group if cell.party.startswith("qhybrid")}
        for cell in group:
            if cell.party.startswith("qhybrid"):
                continue
            mine = ours["qhybrid, value only" if PARTIES[cell.party].values_only else "qhybrid"]
            if cell.reason or mine.reason or not cell.shortest:
                rows.append([family, batch, cell.party, cell.reason or mine.reason or "no step", *[""] * 6])
                continue
            scaled = "" if cell.samples == batch else f" ({cell.samples} samples, scaled)"
            rows.append(
                [
                    family,
                    batch,
                    cell.party + scaled,
                    _milliseconds(cell.shortest),
                    _milliseconds(mine.shortest),
                    f"{cell.shortest / mine.shortest:,.3g}",
                    f"{cell.middle / mine.middle:,.3g}",
                    f"{cell.first:.1f}",
                    f"{mine.first:.1f}",
                    f"{cell.difference:.0e}",
                ]
            )
    return rows


ROW_HEAD = ["family", "batch", "peer", "peer, ms", "exact, ms", "ratio", "ratio of medians"] + [
    "peer's first call, s",
    "our first call, s",
    "difference",
]
OWN_HEAD = [
    "family",
    "batch",
    "method",
    "exact, ms",
    "median, ms",
    "limit, ms",
    "over the limit",
    "predicted, ms",
]


def own_rows(cells: list[Cell], rate: float) -> list[list[object]]:
    """Return a row for every cell of ours: time, arithmetic limit, prediction."""
    rows: list[list[object]] = []
    for cell in cells:
        if cell.party != "qhybrid" or cell.reason or not cell.shortest:
            continue
        limit = cell.batch * arithmetic_limit(cell.facts["flops"], rate)
        cell.facts["limit"] = limit
        rows.append(
            [
                cell.family,
                cell.batch,
                cell.facts["method"],
                _milliseconds(cell.shortest),
                _milliseconds(cell.middle),
                _milliseconds(limit),
                f"{cell.shortest / limit:.1f}",
                _milliseconds(cell.facts["predicted"]),
            ]
        )
    return rows


def picture(cells: list[Cell], path: Path) -> None:
    """Draw the best peer's time over ours for every family and batch: above 1 the exact engine is faster."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups: dict[str, tuple[float, str]] = {}
    for cell in cells:
        if cell.party.startswith("qhybrid") or not cell.shortest:
            continue
        name = "qhybrid, value only" if PARTIES[cell.party].values_only else "qhybrid"
        key = (cell.family, cell.batch, name)
        mine = next((c for c in cells if (c.family, c.batch, c.party) == key and c.shortest), None)
        if mine is not None:
            label = f"{cell.family}, {cell.batch}"
            found = (cell.shortest / mine.shortest, cell.party)
            groups[label] = min(groups.get(label, (np.inf, "")), found)
    labels = list(groups)[::-1]
    ratios = [groups[label][0] for label in labels]
    figure, axes = pyplot.subplots(figsize=(8, 0.28 * len(labels) + 1.2), layout="constrained")
    axes.barh(labels, ratios, color=["#2a7f62" if ratio >= 1 else "#c8553d" for ratio in ratios])
    for place, (label, ratio) in enumerate(zip(labels, ratios)):
        axes.text(ratio * 1.06, place, f"{ratio:.3g}  {groups[label][1]}", va="center", fontsize=7)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlim(min(0.5, *ratios) * 0.8, max(ratios) * 40)
    axes.set_xlabel("best peer's time / ours, a step of value and gradient")
    axes.tick_params(labelsize=8)
    figure.savefig(path, dpi=130)


def _keep(cells: list[Cell], output: Path) -> None:
    """Write the figures beside the tables, also those of a run that is stopped later."""
    output.with_suffix(".json").write_text(json.dumps([asdict(cell) for cell in cells], indent=1))


def main() -> None:
    """Run the families, print the tables and write them to a file."""
    parser = arguments_of(__doc__)
    parser.set_defaults(threads=1)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--peers", nargs="+", choices=PARTIES, help="those peers alone")
    parser.add_argument("--batches", nargs="+", type=int, help="those batches alone")
    parser.add_argument("--turns", type=int, default=7, help="turns of every party")
    parser.add_argument("--patience", type=float, default=240.0, help="seconds until a party must answer")
    parser.add_argument(
        "--keep", nargs="+", type=Path, default=[], help="JSON of earlier runs; families not run now stay"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rate = product_rate()
    cells = [Cell(**fields) for file in arguments.keep for fields in json.loads(file.read_text())]
    cells = [cell for cell in cells if cell.family not in arguments.only]
    for name in arguments.only:
        family = FAMILIES[name]
        parties = [p for p in family.peers if not arguments.peers or p in arguments.peers]
        for batch in family.batches:
            if arguments.batches and batch not in arguments.batches:
                continue
            found = compare(name, batch, parties, arguments.threads, arguments.patience, arguments.turns)
            for row in rows_of(found):
                print(*row, sep=" | ", flush=True)
            cells += found
            if arguments.output:
                _keep(cells, arguments.output)
    cells.sort(key=lambda cell: list(FAMILIES).index(cell.family))
    sections = [
        f"## Peers: ratio is the peer's time over ours\n\n{table(ROW_HEAD, rows_of(cells))}",
        f"## The exact engine: time, arithmetic limit at {rate / 1e9:.0f} GFLOP/s, and prediction\n\n"
        f"{table(OWN_HEAD, own_rows(cells, rate))}",
    ]
    report(sections, arguments)
    if arguments.output:
        _keep(cells, arguments.output)
        picture(cells, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
