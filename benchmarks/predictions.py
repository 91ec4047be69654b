"""What `explain` predicts, beside what is measured: time and memory of the families of peer_families.py.

    qhybrid calibrate
    python benchmarks/predictions.py
    python benchmarks/predictions.py --only hea_14 --ways compiled torch network
    python benchmarks/predictions.py --only noisy_8 noisy_10 --ways network density

Every cell is a process of its own with one thread. Time: shortest processor time of value and gradient.
Memory: the process's peak during steps, minus what it held after the circuit was planned and another, tiny
circuit had been executed. Planning: processor time of the first `explain`, with an empty cache of paths where
QHYBRID_CACHE names an empty folder.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import torch
from peer_families import FAMILIES, rings
from timing import engine_step, table

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import ExactEngine

WAYS = {
    "auto": {},
    "network": {"method": "network"},
    "compiled": {"method": "statevector", "kernel": "compiled"},
    "torch": {"method": "statevector", "kernel": "torch"},
    "mps": {"method": "mps"},
    "density": {"method": "density"},
}
"""Options of the engine by name."""
MEBIBYTE = 2**20
LONGEST_SECONDS = 20.0
"""Predicted seconds of a step above which a cell is left out."""
LEAST_MEMORY = 16 * MEBIBYTE
"""Measured bytes below which memory is not judged: code and Python's own objects are as large."""
MEASURED_SECONDS = 0.5


def main() -> None:
    """Print the table, or, in a process of its own, measure one cell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--ways", nargs="*", default=["auto"], choices=list(WAYS))
    parser.add_argument("--cell", nargs=3, metavar=("FAMILY", "BATCH", "WAY"), help="measure one cell")
    options = parser.parse_args()
    if options.cell:
        name, batch, way = options.cell
        print(json.dumps(measured(name, int(batch), way)))
        return
    print("| circuit, batch, way | plan, s | ms | predicted | ratio | MiB | predicted | ratio |")
    print("|---" * 8 + "|")
    ratios: list[tuple[str, float, float | None]] = []
    for name in options.only:
        for batch in FAMILIES[name].batches:
            for way in options.ways:
                ratios += row(f"{name}, {batch}, {way}", (name, str(batch), way))
    print("\n" + table(["", "cells", "within", "worst"], summary(ratios)))


def row(title: str, cell: tuple[str, str, str]) -> list[tuple[str, float, float | None]]:
    """Measure a cell elsewhere, print its row, and return (title, ratio of times, ratio of memory)."""
    command = [sys.executable, str(Path(__file__)), "--cell", *cell]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"| {title} | {done.stderr.strip().splitlines()[-1][:90]} |" + " |" * 6, flush=True)
        return []
    found = json.loads(done.stdout.splitlines()[-1])
    if "seconds" not in found:
        left_out = f"| {title} ({found['method']}) | {found['planning']:.2f} | left out"
        print(f"{left_out} | {found['predicted'] * 1e3:.1f} | | | | |", flush=True)
        return []
    times = found["predicted"] / found["seconds"]
    memory = found["predicted_bytes"] / max(found["bytes"], 1)
    judged = found["bytes"] >= LEAST_MEMORY or found["predicted_bytes"] >= LEAST_MEMORY
    cells = [
        f"{title} ({found['method']})", f"{found['planning']:.2f}",
        f"{found['seconds'] * 1e3:.3g}", f"{found['predicted'] * 1e3:.3g}", f"{times:.2f}",
        f"{found['bytes'] / MEBIBYTE:.1f}", f"{found['predicted_bytes'] / MEBIBYTE:.1f}",
        f"{memory:.2f}" if judged else "",
    ]  # fmt: skip
    print("| " + " | ".join(cells) + " |", flush=True)
    return [(title, times, memory if judged else None)]


def summary(ratios: list[tuple[str, float, float | None]]) -> list[list[object]]:
    """Return how many cells are within the factors that are asked for, and the worst cell."""
    times = [(title, ratio) for title, ratio, _ in ratios]
    memories = [(title, memory) for title, _, memory in ratios if memory is not None]
    rows: list[list[object]] = []
    for name, factor, cells in (("time", 2.0, times), ("memory", 1.3, memories)):
        if not cells:
            continue
        within = sum(1 / factor <= ratio <= factor for _, ratio in cells)
        title, ratio = max(cells, key=lambda cell: abs(math.log(max(cell[1], 1e-9))))
        rows.append([f"{name}, factor {factor}", len(cells), within, f"{title}: {ratio:.2f}"])
    return rows


def measured(name: str, batch: int, way: str) -> dict[str, object]:
    """Return what is predicted and measured for one cell."""
    torch.set_num_threads(1)
    warm_up()
    spec, engine = FAMILIES[name].build(), ExactEngine(noise=FAMILIES[name].profile(), **WAYS[way])
    before = time.process_time()
    found = engine.explain(spec, batch)
    result: dict[str, object] = {
        "method": found.method,
        "planning": time.process_time() - before,
        "predicted": min(found.seconds, 1e9),
        "predicted_bytes": found.memory_bytes,
    }
    if found.method == "refused" or found.seconds > LONGEST_SECONDS:
        return result
    held = reset_peak()
    seconds = shortest(engine, spec, batch)
    return {**result, "seconds": seconds, "bytes": status("VmHWM") - held}


def warm_up() -> None:
    """Load what any call loads: by every method, for a tiny circuit."""
    noise = FAMILIES["noisy_8"].profile()
    for way, options in WAYS.items():
        noisy = way == "density"  # refused for a circuit without noise, or with one layer
        engine = ExactEngine(noise=noise if noisy else None, **options)
        engine_step(engine, rings(4, 2, "cx") if noisy else rings(2, 1, "cx"), 2)()


def shortest(engine: ExactEngine, spec: CircuitSpec, batch: int) -> float:
    """Return the shortest processor time of a step, in seconds."""
    take = engine_step(engine, spec, batch)
    take()
    times: list[float] = []
    while len(times) < 3 or sum(times) < MEASURED_SECONDS:
        before = time.process_time()
        take()
        times.append(time.process_time() - before)
    return min(times)


def reset_peak() -> int:
    """Let Linux forget this process's peak of memory; return the bytes that it holds now."""
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def status(key: str) -> int:
    """Return a size of this process in bytes, by its name in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


if __name__ == "__main__":
    main()
