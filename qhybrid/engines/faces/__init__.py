"""The exact engine behind Qiskit's own interfaces, for code that knows nothing of this package."""

from qhybrid.engines.faces.estimator import ExactEstimator
from qhybrid.engines.faces.gradient import ExactEstimatorGradient

__all__ = ["ExactEstimator", "ExactEstimatorGradient"]
