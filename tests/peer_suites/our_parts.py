"""A pytest plugin for the suites of other packages: their estimators, gradients and connector become ours.

It is loaded with `-p our_parts` in a process of its own, before any test module is imported. Every module of
the packages that holds one of their classes gets ours under the same name.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import Any

import qiskit.primitives
import qiskit_machine_learning
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.gradients import ParamShiftEstimatorGradient
from qiskit_machine_learning.neural_networks import EstimatorQNN
from qiskit_machine_learning.primitives import QMLEstimator

from qhybrid.engines import ExactEngine
from qhybrid.engines.faces import ExactEstimator, ExactEstimatorGradient
from qhybrid.layers import QuantumLayer


class OurEstimator(ExactEstimator):
    """The exact estimator with the arguments of Qiskit's, `options` of Qiskit Machine Learning's included."""

    def __init__(self, *, default_precision: float = 0.0, seed: Any = None, options: Any = None) -> None:
        super().__init__(ExactEngine(), default_precision, seed)


class OurGradient(ExactEstimatorGradient):
    """The exact gradient with the arguments of the parameter-shift one; other estimators get an own one."""

    def __init__(self, estimator: Any = None, options: Any = None, pass_manager: Any = None) -> None:
        super().__init__(estimator if isinstance(estimator, ExactEstimator) else None, pass_manager)


class OurConnector(QuantumLayer):
    """A quantum layer for an estimator's network with dense results, their connector for every other one."""

    def __new__(cls, neural_network: Any, initial_weights: Any = None, sparse: Any = None) -> Any:
        """Return the layer or the connector, which is no instance of this class and stays as it is."""
        if type(neural_network) is EstimatorQNN and not sparse:
            return QuantumLayer.from_qnn(neural_network, None, initial_weights)
        return TorchConnector(neural_network, initial_weights, sparse)


OURS: dict[Any, Any] = {
    qiskit.primitives.StatevectorEstimator: OurEstimator,
    QMLEstimator: OurEstimator,
    ParamShiftEstimatorGradient: OurGradient,
    TorchConnector: OurConnector,
}


def pytest_configure() -> None:
    """Exchange the classes in every module of both packages; names of tests are made of their names."""
    for theirs, ours in OURS.items():
        ours.__name__ = theirs.__name__
    for module in pkgutil.walk_packages(qiskit_machine_learning.__path__, "qiskit_machine_learning."):
        if not module.ispkg:
            importlib.import_module(module.name)
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in ("qiskit", "qiskit_machine_learning") and module is not None:
            for attribute, value in list(vars(module).items()):
                # Where a class is defined it stays: its own methods name it.
                if isinstance(value, type) and value in OURS and value.__module__ != name:
                    setattr(module, attribute, OURS[value])
