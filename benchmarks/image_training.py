"""Seconds of training on whole images: Qu-Net against the U-Net on PH2, QCQ-CNN on 100 MNIST images.

    python benchmarks/image_training.py [--turns 5] [--epochs 3] [--data-root DIR] [--only ph2|mnist]

Everything goes through `qhybrid.training.train` with the committed recipes `ph2` and `mnist35_depth`; each
run has a process and an empty cache of its own.

- PH2: Qu-Net 12_2 and the U-Net take turns. The seconds of an epoch are the median over the epochs of a run,
  the first left out (circuits are planned in it); the ratio is the median of the ratios, turn by turn.
- MNIST: 100 images, 100 epochs, at batch 10 and batch 1, without validation. The seconds are those of the
  whole run: reading the data, planning, the fixed quantum filter, training, writing the run folder. The
  processor's seconds stand beside them, for machines that do other work too. Starting Python and importing
  its packages comes on top ("whole process").
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

RUNS = Path(__file__).resolve().parent.parent / "runs"
QU_NET = "qu_net 12_2"
UNET = "qu_unet"
PH2 = {QU_NET: '{name: qu_net, variant: "12_2"}', UNET: "{name: qu_unet}"}
BATCHES = {10: 10.0, 1: 60.0}
"""Batch sizes of the paper's task, and the seconds it may take."""


def trained(recipe: str, settings: list[str], data_root: str | None) -> tuple[float, float, list[float]]:
    """Train in a temporary folder; return the seconds, the processor's seconds, and those of each epoch."""
    from qhybrid.config import load_recipe
    from qhybrid.training import train
    from qhybrid.workspace import CACHE_VARIABLE
    from qhybrid.workspace import data_root as find_data_root

    with tempfile.TemporaryDirectory() as folder:
        os.environ[CACHE_VARIABLE] = str(Path(folder) / "cache")
        checked = load_recipe(RUNS / f"{recipe}.yaml", ["training.progress=false", *settings])
        start, busy = time.perf_counter(), time.process_time()
        run = train(checked, find_data_root(data_root), Path(folder) / "run")
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        head, *rows = (run / "metrics.csv").read_text().split()
    column = head.split(",").index("epoch_seconds")
    return seconds, busy, [float(row.split(",")[column]) for row in rows]


def in_new_process(
    recipe: str, settings: list[str], data_root: str | None
) -> tuple[float, float, float, float]:
    """Return the seconds of a run, the processor's, those of one of its epochs and of its whole process."""
    start = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        seconds, busy, epochs = pool.submit(trained, recipe, settings, data_root).result()
    return seconds, busy, statistics.median(epochs[1:]), time.perf_counter() - start


def compare_on_ph2(arguments: argparse.Namespace) -> None:
    """Print the seconds of an epoch of Qu-Net and of the U-Net, and their ratio."""
    times: dict[str, list[float]] = {name: [] for name in PH2}
    common = [f"training.epochs={arguments.epochs}", f"training.threads={arguments.threads}"]
    for turn in range(arguments.turns):
        for name in list(PH2)[:: 1 if turn % 2 else -1]:
            _, _, epoch, _ = in_new_process("ph2", [*common, f"model={PH2[name]}"], arguments.data_root)
            times[name].append(epoch)
        print(f"PH2, turn {turn + 1}: " + ", ".join(f"{name} {times[name][-1]:.3f} s" for name in PH2))
    ratios = [a / b for a, b in zip(times[QU_NET], times[UNET])]
    for name, found in times.items():
        print(f"PH2, {arguments.threads} thread(s), {name:12s} {statistics.median(found):7.3f} s an epoch")
    print(
        f"PH2, ratio {statistics.median(ratios):.3f} (goal at most 1.2), turn by turn "
        + ", ".join(f"{ratio:.3f}" for ratio in ratios)
    )


def time_on_mnist(arguments: argparse.Namespace) -> None:
    """Print the seconds of 100 epochs of QCQ-CNN on 100 images."""
    for batch, goal in BATCHES.items():
        settings = ["data.options.validation=0", f"training.batch_size={batch}"]
        found = [
            in_new_process("mnist35_depth", settings, arguments.data_root)
            for _ in range(arguments.turns if batch > 1 else max(1, arguments.turns // 2))
        ]
        seconds, busy, _, process = (statistics.median(column) for column in zip(*found))
        print(
            f"MNIST, 100 images x 100 epochs, batch {batch:2d}: {seconds:6.2f} s (goal {goal:.0f} s), "
            f"processor {busy:.2f} s, whole process {process:.2f} s; runs (processor) "
            + ", ".join(f"{run[0]:.2f} ({run[1]:.2f})" for run in found)
        )


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=3, help="epochs of each run on PH2, at least 2")
    parser.add_argument("--threads", type=int, default=2, help="threads of the runs on PH2")
    parser.add_argument("--data-root", help="folder of the data sets; QHYBRID_DATA if absent")
    parser.add_argument("--only", choices=["ph2", "mnist"], help="leave the other part out")
    arguments = parser.parse_args()
    if arguments.epochs < 2:
        parser.error("--epochs must be at least 2: the first epoch is not counted")
    if arguments.only != "ph2":
        time_on_mnist(arguments)
    if arguments.only != "mnist":
        compare_on_ph2(arguments)


if __name__ == "__main__":
    main()
