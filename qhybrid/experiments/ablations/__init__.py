"""Ablations: one recipe retrained with other things in the place of its circuits, and what that decides."""

from qhybrid.experiments.ablations.arms import PlannedArm, plan_arms
from qhybrid.experiments.ablations.run import ablate

__all__ = ["PlannedArm", "ablate", "plan_arms"]
