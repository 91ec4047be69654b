"""Evaluation of trained runs, on whole scenes and on whole images, and the references they must beat."""

from qhybrid.evaluation.classical import register_baseline
from qhybrid.evaluation.common import evaluation_folder, routed_to_its_device
from qhybrid.evaluation.diagnosis.diagnose import Diagnosis, diagnose_run
from qhybrid.evaluation.evaluate import evaluate_baselines, evaluate_run
from qhybrid.evaluation.image_baselines import image_baselines
from qhybrid.evaluation.subject.load import load_subject, load_trained
from qhybrid.evaluation.subject.results import Evaluation
from qhybrid.evaluation.subject.subject import Subject
from qhybrid.metrics import Metric, Sample, Totals, register_metric

__all__ = [
    "Diagnosis",
    "Evaluation",
    "Metric",
    "Sample",
    "Subject",
    "Totals",
    "diagnose_run",
    "evaluate_baselines",
    "evaluate_run",
    "evaluation_folder",
    "image_baselines",
    "load_subject",
    "load_trained",
    "register_baseline",
    "register_metric",
    "routed_to_its_device",
]
