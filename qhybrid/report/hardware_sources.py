"""Plans on quantum hardware in a run folder, read as plain values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from qhybrid.errors import DataError, HardwareError
from qhybrid.hardware.plan_order import oldest_first
from qhybrid.hardware.service_kinds import is_paid

# Names with a dot in front are folders that a killed process was filling.
PLANS = "hardware/[!.]*/plan.json"
METRICS = "results/metrics.json"
DEVIATIONS = "results/deviations.csv"


@dataclass(frozen=True)
class PlanSource:
    """A plan on disk.

    Attributes:
        folder: Its folder.
        plan: Its plan.json.
        metrics: Its results; None if it has none yet.
        deviations: One row an observable; None if it has no results yet.
    """

    folder: Path
    plan: dict[str, Any]
    metrics: dict[str, Any] | None = None
    deviations: pd.DataFrame | None = None

    @property
    def backend(self) -> str:
        """The device."""
        return str(self.plan["settings"]["backend"])

    @property
    def local(self) -> bool:
        """Whether nothing is billed."""
        try:
            return not is_paid(self.backend, self.plan["settings"].get("service"))
        except HardwareError:  # a plugin that is not loaded here
            return False


def read_plans(run: Path) -> list[PlanSource]:
    """Return the plans of a run, the oldest first.

    Raises:
        DataError: If a file of a plan is damaged.
    """
    return [_read_plan(file.parent) for file in oldest_first(run.glob(PLANS))]


def _read_plan(folder: Path) -> PlanSource:
    file = folder / "plan.json"
    try:
        plan = json.loads(file.read_text(encoding="utf-8"))
        file = folder / METRICS
        if not file.is_file():
            return PlanSource(folder, plan)
        metrics = json.loads(file.read_text(encoding="utf-8"))
        file = folder / DEVIATIONS
        return PlanSource(folder, plan, metrics, pd.read_csv(file))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file}: must be readable for the report, but is not: {error}. Fix: collect the plan again, or "
            "move its folder away."
        ) from error
