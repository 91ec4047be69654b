"""Seconds of a diagnosis and of its short form against the evaluation of the same run.

    python benchmarks/diagnose.py RUN [--data-root DIR] [--split test] [--turns 3] [--whole]

The model of the run is evaluated, then its short form is taken, by turns; of both the smallest time and
processor time are printed, and the time that one pass takes as a whole and behind the encoder (`reuse`).
`--whole` adds the whole diagnosis with its number of passes, once; it is computed anew and kept nowhere.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from qhybrid.evaluation import load_subject
from qhybrid.evaluation.diagnosis.diagnose import diagnose_run
from qhybrid.evaluation.diagnosis.interventions import INTERVENTIONS, ZERO, Evidence
from qhybrid.evaluation.diagnosis.probe import Probe
from qhybrid.evaluation.diagnosis.short import short_diagnosis
from qhybrid.evaluation.diagnosis.units import SampledUnits
from qhybrid.workspace import data_root


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall time and processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def passes(subject) -> dict[str, list[tuple[float, float]]]:
    """Time a pass as a whole and behind what is kept, on at most 64 samples."""
    units = SampledUnits(subject, subject.inputs(64, 0))
    zero = INTERVENTIONS.get(ZERO).make(Evidence({}, {}, 0), 0)
    found = {}
    for label, reuse in (
        ("a pass with outputs replaced, whole", False),
        ("the same behind the encoder", True),
    ):
        probe = Probe(subject.model, subject.layers, reuse=reuse)
        with probe.opened():
            probe.record()
            units.counts(probe)
            probe.replace(dict.fromkeys(probe.chosen, zero))
            found[label] = [seconds(lambda probe=probe: units.counts(probe))]
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--whole", action="store_true")
    arguments = parser.parse_args()
    root = data_root(arguments.data_root)
    subject = load_subject(arguments.run, "best", arguments.split, None, root)
    times: dict[str, list[tuple[float, float]]] = {"evaluation": [], "short form": []}
    said = {}
    for _ in range(arguments.turns):
        times["evaluation"].append(seconds(subject.evaluate))
        times["short form"].append(seconds(lambda: said.update(short_diagnosis(subject, 1.0) or {})))
        for label, found in passes(subject).items():
            times.setdefault(label, []).extend(found)
    print(f"{'':40}{'seconds':>9}{'processor':>11}")
    for label, found in times.items():
        wall, processor = (min(column) for column in zip(*found, strict=True))
        print(f"{label:40}{wall:9.2f}{processor:11.2f}")
    print(said["line"])
    if arguments.whole:
        with tempfile.TemporaryDirectory() as folder:
            wall, processor = seconds(
                lambda: diagnose_run(
                    arguments.run, arguments.split, data_root=root, output=Path(folder) / "diagnosis"
                )
            )
        print(f"{'diagnosis':40}{wall:9.2f}{processor:11.2f}")


if __name__ == "__main__":
    main()
