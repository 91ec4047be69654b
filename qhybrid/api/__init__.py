"""The names for scripts: train, evaluate, map, sweep, ablate. The command line stands on them.

They are names of the package itself: `import qhybrid; run = qhybrid.train("demo")`.
"""

from qhybrid.api.recipes import as_engine, as_recipe, as_sweep
from qhybrid.api.run import Run, open_run, resume, train
from qhybrid.api.studies import Ablation, Repeats, SweepTables, ablate, open_repeats, repeat, sweep

__all__ = [
    "Ablation",
    "Repeats",
    "Run",
    "SweepTables",
    "ablate",
    "as_engine",
    "as_recipe",
    "as_sweep",
    "open_repeats",
    "open_run",
    "repeat",
    "resume",
    "sweep",
    "train",
]
