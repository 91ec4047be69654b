"""Tuning: the same search space and budget for several models, judged by validation alone."""

from qhybrid.experiments.tuning.candidates import candidate_recipes, default_space
from qhybrid.experiments.tuning.results import TrialRow, read_trials
from qhybrid.experiments.tuning.study import tune

__all__ = ["TrialRow", "candidate_recipes", "default_space", "read_trials", "tune"]
