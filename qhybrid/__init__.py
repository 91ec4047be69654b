"""qhybrid: image models with Qiskit circuits inside, from training to IBM quantum hardware.

Scripts take their names from here; see docs/python.md:

    import qhybrid

    run = qhybrid.train("demo", settings={"training.epochs": 3})
    print(run.evaluate(noise="depolarizing_0.01_0.02")["miou"])
    run.predict("scene.tif", "map.tif")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qhybrid.version import __version__

if TYPE_CHECKING:
    from qhybrid.api import (
        Ablation,
        Comparison,
        Plan,
        PlanRequest,
        PlanResults,
        Repeats,
        Run,
        SweepTables,
        Tuning,
        ablate,
        compare,
        open_plan,
        open_repeats,
        open_run,
        plan,
        repeat,
        resume,
        sweep,
        train,
        tune,
    )

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
    "__version__",
    "ablate",
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


def __getattr__(name: str) -> Any:
    """Import a name for scripts when it is asked for: `import qhybrid` stays quick, as does the command."""
    if name in __all__:
        from qhybrid import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
