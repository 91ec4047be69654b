"""Evaluation of trained runs, on whole scenes and on whole images, and the references they must beat."""

from qhybrid.evaluation.common import evaluation_folder
from qhybrid.evaluation.evaluate import evaluate_baselines, evaluate_run
from qhybrid.evaluation.images import evaluate_image_run

__all__ = ["evaluate_baselines", "evaluate_image_run", "evaluate_run", "evaluation_folder"]
