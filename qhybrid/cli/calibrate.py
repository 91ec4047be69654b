"""`qhybrid calibrate`: measure what simulated circuits take on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from qhybrid.cli.console import say, short


def calibrate(
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads to measure with; torch's own number by default.")
    ] = None,
) -> None:
    """Measure the constants of the cost model on this machine, for predictions and the choice of methods.

    It takes about half a minute on a quiet machine. The constants are kept in the cache folder, for this
    processor, this version of torch and this number of threads.
    """
    import torch

    from qhybrid.engines.exact import calibrate as measuring
    from qhybrid.engines.exact.constants import SHIPPED

    if threads is not None:
        torch.set_num_threads(threads)
    found = measuring.calibrate()
    for name, seconds in found.seconds.items():
        say(f"{name:30} {seconds:9.2e} s (shipped: {SHIPPED[name]:.1e} s)")
    ratios = sorted(found.predicted(probe) / probe.seconds for probe in found.probes)
    say(f"{len(ratios)} circuits, predicted over measured time: {ratios[0]:.2f} to {ratios[-1]:.2f}")
    say(f"wrote {short(found.file)}")
