"""The names for scripts: train, evaluate, map, sweep, tune, compare, ablate, plan. Commands stand on them.

They are names of the package itself: `import qhybrid; run = qhybrid.train("demo")`.
"""

from qhybrid.api.comparisons import Comparison, compare
from qhybrid.api.plan_folders import PlanRequest
from qhybrid.api.plans import Plan, PlanResults, open_plan, plan
from qhybrid.api.recipes import as_engine, as_recipe, as_space, as_sweep
from qhybrid.api.run import Run, open_run, resume, train
from qhybrid.api.searches import Tuning, tune
from qhybrid.api.studies import Ablation, Repeats, SweepTables, ablate, open_repeats, repeat, sweep

__all__ = [
    "Ablation",
    "Comparison",
    "Plan",
    "PlanRequest",
    "PlanResults",
    "Repeats",
    "Run",
    "SweepTables",
    "Tuning",
    "ablate",
    "as_engine",
    "as_recipe",
    "as_space",
    "as_sweep",
    "compare",
    "open_plan",
    "open_repeats",
    "open_run",
    "plan",
    "repeat",
    "resume",
    "sweep",
    "train",
    "tune",
]
