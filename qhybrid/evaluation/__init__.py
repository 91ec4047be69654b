"""Evaluation of trained runs on whole scenes, and the references they must beat."""

from qhybrid.evaluation.evaluate import evaluate_baselines, evaluate_run, evaluation_folder

__all__ = ["evaluate_baselines", "evaluate_run", "evaluation_folder"]
