"""The names for scripts: train, evaluate, map, sweep, ablate, plan. The command line stands on them.

They are names of the package itself: `import qhybrid; run = qhybrid.train("demo")`.
"""

from qhybrid.api.plan_folders import PlanRequest
from qhybrid.api.plans import Plan, PlanResults, open_plan, plan
from qhybrid.api.recipes import as_engine, as_recipe, as_sweep
from qhybrid.api.run import Run, open_run, resume, train
from qhybrid.api.studies import Ablation, Repeats, SweepTables, ablate, open_repeats, repeat, sweep

__all__ = [
    "Ablation",
    "Plan",
    "PlanRequest",
    "PlanResults",
    "Repeats",
    "Run",
    "SweepTables",
    "ablate",
    "as_engine",
    "as_recipe",
    "as_sweep",
    "open_plan",
    "open_repeats",
    "open_run",
    "plan",
    "repeat",
    "resume",
    "sweep",
    "train",
]
