"""A cell of a noise sweep beside the noiseless one: HQ-UNet's whole evaluation, exact, routed on devices.

Run: ``python benchmarks/sweep_cells.py RUN --samples 1 --turns 3``, RUN a trained HQ-UNet. All cells take
turns; the first turn has the routing and the planning of every circuit in it, which a process does once.
Seconds are those of the clock, and in brackets of the processor.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from qhybrid.evaluation.subject.load import load_subject
from qhybrid.evaluation.subject.subject import Subject
from qhybrid.experiments.sweeps.cells import Conditions
from qhybrid.experiments.sweeps.engines import cell_engine
from qhybrid.experiments.sweeps.profiles import SweepProfiles
from qhybrid.workspace import data_root, write_text

PROFILES = (
    "ideal",
    "depolarizing_0.001_0.01",
    "depolarizing_0.005_0.01",
    "depolarizing_0.01_0.02",
    "depolarizing_0.02_0.03",
    "depolarizing_0.05_0.1",
    "fake_torino",
    "fake_fez",
    "fake_nighthawk",
)
SETTINGS = {"trajectories": 1, "transpile_seed": 0, "zne": {}}


def seconds(subject: Subject, name: str, profiles: SweepProfiles) -> tuple[float, float]:
    """Evaluate one cell from its engine on; return seconds of the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    conditions = Conditions("exact", name, mapping=profiles.mapping(name, "auto"))
    subject.use(cell_engine(conditions, profiles.scaled(name, 1.0), SETTINGS, ""), None)
    subject.evaluate()
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    """Print a table of all cells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--samples", type=int, default=None, help="scenes at most; all if absent")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--profiles", nargs="+", default=list(PROFILES))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    subject = load_subject(arguments.run, "best", "test", arguments.samples, data_root())
    profiles = SweepProfiles()
    for name in arguments.profiles:
        profiles.profile(name)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in arguments.profiles}
    for _ in range(arguments.turns):
        for name in arguments.profiles:
            taken[name].append(seconds(subject, name, profiles))
            print(f"{name} {taken[name][-1][0]:.2f} ({taken[name][-1][1]:.2f})", flush=True)
    lines = [
        f"| cell | {' | '.join(f'turn {n + 1}' for n in range(arguments.turns))} | ratio | ratio (cpu) |"
    ]
    lines.append("|---" * (arguments.turns + 3) + "|")
    first = arguments.profiles[0]
    for name, turns in taken.items():
        cells = " | ".join(f"{clock:.2f} ({processor:.2f})" for clock, processor in turns)
        ratios = [
            statistics.median(own[kind] / other[kind] for own, other in zip(turns, taken[first], strict=True))
            for kind in (0, 1)
        ]
        lines.append(f"| {name} | {cells} | {ratios[0]:.3f} | {ratios[1]:.3f} |")
    text = "\n".join(lines)
    print(f"\n{text}")
    if arguments.output:
        write_text(arguments.output, text + "\n")


if __name__ == "__main__":
    main()
