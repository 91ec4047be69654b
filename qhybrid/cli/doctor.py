"""`qhybrid doctor`: what of this installation makes circuits fast, and what is missing."""

from __future__ import annotations

import os
import platform

from qhybrid.cli.console import say
from qhybrid.version import __version__


def doctor() -> None:
    """Say what is installed: versions, threads, and whether circuits run in compiled kernels."""
    import torch
    from qiskit import __version__ as qiskit_version

    from qhybrid.cli.waiting import POLICY
    from qhybrid.engines.exact.native.library import VARIABLE, kernels

    found = kernels()
    say(f"qhybrid           {__version__}")
    say(f"Python            {platform.python_version()}, {platform.platform()}")
    say(f"Qiskit, torch     {qiskit_version}, {torch.__version__}")
    say(f"cores, threads    {os.cpu_count()}, {torch.get_num_threads()} of torch (OMP_NUM_THREADS)")
    say("waiting threads   " + ", ".join(f"{name}={os.environ.get(name, 'unset')}" for name in POLICY))
    if found.library is not None:
        say(f"compiled kernels  yes, the build `{found.build}`; {VARIABLE}=torch switches them off")
        return
    say(f"compiled kernels  no: {found.reason}")
    say("                  Circuits run in torch, with the same values, small ones 10 times slower.")
    if not os.environ.get(VARIABLE):
        say("                  Fix: install g++ or clang++, then qhybrid (checkout: python hatch_build.py)")
