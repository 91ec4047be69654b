"""Errors can be caught as Qiskit's own, and travel between processes."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
from qiskit.circuit.exceptions import CircuitError as QiskitCircuitError
from qiskit.exceptions import QiskitError
from qiskit_machine_learning.exceptions import QiskitMachineLearningError

from qhybrid.errors import (
    CircuitError,
    ConfigError,
    EngineError,
    HardwareError,
    MetricError,
    MissingDependencyError,
    NotFiniteError,
    PluginError,
    SubmissionRefusedError,
    optional_import,
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (CircuitError, QiskitCircuitError),
        (EngineError, QiskitMachineLearningError),
        (NotFiniteError, QiskitMachineLearningError),
        (HardwareError, QiskitError),
        (SubmissionRefusedError, QiskitError),
    ],
)
def test_errors_about_circuits_are_qiskit_errors_too(ours, theirs):
    with pytest.raises(theirs) as caught:
        raise ours("it is `so`")
    error = caught.value
    assert isinstance(error, ours)
    assert isinstance(error, QiskitError)
    # The message stands without the quotes that Qiskit's errors put around it.
    assert (str(error), error.message, type(error).__name__) == ("it is `so`", "it is `so`", ours.__name__)


@pytest.mark.parametrize("ours", [ConfigError, PluginError, MetricError])
def test_other_errors_stay_what_they_are(ours):
    assert type(ours("no")) is ours
    assert not isinstance(ours("no"), QiskitError)


def test_an_error_keeps_its_class_and_attributes_in_another_process():
    error = SubmissionRefusedError("full")
    error.retry_after = 3.0
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own
        assert type(twin) is type(error)
        assert (str(twin), twin.retry_after) == ("full", 3.0)


def test_own_arguments_of_subclasses_are_kept():
    class Refused(EngineError):
        def __init__(self, message: str, limit: int = 0) -> None:
            super().__init__(message)
            self.limit = limit

    assert Refused("too many", limit=3).limit == 3
    assert isinstance(Refused("too many"), QiskitMachineLearningError)
    assert MetricError("failed", evaluation=4).evaluation == 4


def test_errors_do_not_load_qiskit():
    code = (
        "import sys; from qhybrid.errors import EngineError; error = EngineError('a');"
        "assert type(error) is EngineError and 'qiskit' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_package_that_is_missing_and_one_that_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("from json import nothing_of_this_name\n")
    (tmp_path / "half_package.py").write_text("import of_no_such_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    fix = r"Fix: pip install 'qhybrid\[tune\]'\.$"
    with pytest.raises(MissingDependencyError, match=f"`no_package` is needed here but not installed. {fix}"):
        optional_import("no_package.part", "tune")
    for name, why in (("broken_package", "nothing_of_this_name"), ("half_package", "of_no_such_name")):
        with pytest.raises(
            MissingDependencyError, match=f"cannot be imported as it is installed .*{why}.*{fix}"
        ):
            optional_import(name, "tune")
