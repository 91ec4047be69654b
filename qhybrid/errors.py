"""Every error a user can cause, in one hierarchy.

Messages follow one pattern: what must hold, what was found, and how to fix it, for example
``Argument `shots` must be at least 1, but is 0. Fix: ...``.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, ClassVar, Self


class QHybridError(Exception):
    """Base of all errors that qhybrid raises on purpose; the command line prints them without a traceback.

    Errors about circuits and engines can also be caught as Qiskit's own. Importing Qiskit takes a third of a
    second, which commands without circuits are to be spared, so an error becomes one of Qiskit's when it is
    made, if Qiskit is loaded by then: whoever catches `QiskitError` has loaded it.

    Attributes:
        qiskit_errors: Qiskit's classes that fit, as `module:name`; the first one that is loaded is taken.
    """

    qiskit_errors: ClassVar[tuple[str, ...]] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make the error, as one of Qiskit's too where there is one that fits."""
        error: Self = super().__new__(_with_qiskit(cls), *args, **kwargs)
        if type(error) is not cls:
            error.__dict__["message"] = " ".join(str(part) for part in args)  # as Qiskit's errors have it
        return error

    def __str__(self) -> str:
        """Return the message; Qiskit's errors would put it in quotes."""
        return Exception.__str__(self)

    def __reduce__(self) -> Any:
        """Travel between processes as the class that was named."""
        named = type(self).__dict__.get("_named", type(self))
        return named, self.args, self.__dict__


class ConfigError(QHybridError, ValueError):
    """A recipe, a circuit definition or an option is invalid; the message names the file and the key."""


class PluginError(ConfigError):
    """Code of other people cannot be loaded, is missing, or adds a name that is taken."""


class WorkspaceError(QHybridError, OSError):
    """A file or folder that is needed cannot be used (missing, in the way, not writable, disk full)."""


class DataError(QHybridError, ValueError):
    """Image or label data is unusable; the message names the file."""


class DatasetNotFoundError(DataError):
    """A data set is not where it is expected; the message says how to get it and how it must be laid out."""


class EmptySplitError(DataError):
    """A split has no scenes; the others may have some."""


class CircuitError(QHybridError, ValueError):
    """A circuit cannot be built, or is of a kind that is not supported."""

    qiskit_errors = ("qiskit.circuit.exceptions:CircuitError", "qiskit.exceptions:QiskitError")


class EngineError(QHybridError, ValueError):
    """An engine was given values that it cannot execute."""

    qiskit_errors = (
        "qiskit_machine_learning.exceptions:QiskitMachineLearningError",
        "qiskit.exceptions:QiskitError",
    )


class NotFiniteError(EngineError):
    """Angles are NaN or infinite: something in front of the circuit has diverged."""


class CheckpointError(QHybridError, ValueError):
    """A run folder or weights file is incomplete, damaged, or of another architecture."""


class TrainingError(QHybridError, RuntimeError):
    """Training cannot go on, for example because the loss is not finite."""


class MetricError(QHybridError, RuntimeError):
    """A metric could not be computed; all others were, and what they say is kept.

    Attributes:
        evaluation: The result without it.
    """

    def __init__(self, message: str, evaluation: Any = None) -> None:
        super().__init__(message)
        self.evaluation = evaluation


class HardwareError(QHybridError, RuntimeError):
    """A plan, its ledger or its jobs cannot go on; the message says what was paid and what to do."""

    qiskit_errors = ("qiskit.exceptions:QiskitError",)


class ServiceError(HardwareError):
    """The quantum service did not answer as it should; asking again may help. Never holds the token."""


class SubmissionRefusedError(ServiceError):
    """The service refused a job: it does certainly not run.

    Attributes:
        retry_after: Seconds after which it may be sent again; None if that would not help.
    """

    retry_after: float | None = None


class TooManyPendingError(SubmissionRefusedError):
    """The account may have no more jobs waiting: it can be sent when one of them has ended."""


class SubmissionUnsureError(ServiceError):
    """A job was sent, and it is not known whether the service accepted it."""


class MissingDependencyError(QHybridError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


def _with_qiskit(named: type[Any]) -> type[Any]:
    """Return the class that also derives from Qiskit's error that fits, if one is loaded."""
    for entry in named.qiskit_errors:
        module, name = entry.split(":")
        found = getattr(sys.modules.get(module), name, None)
        if found is not None:
            return _joined(named, found)
    return named


_JOINED: dict[tuple[type, type], type] = {}


def _joined(named: type[Any], other: type[Any]) -> type[Any]:
    if issubclass(named, other):
        return named
    content = {"__module__": named.__module__, "__qualname__": named.__qualname__, "__doc__": named.__doc__}
    if (named, other) not in _JOINED:
        _JOINED[named, other] = type(named.__name__, (named, other), {**content, "_named": named})
    return _JOINED[named, other]


def optional_import(module: str, extra: str) -> ModuleType:
    """Import an optional dependency.

    Args:
        module: Dotted module name.
        extra: The extra of the qhybrid distribution that installs it.

    Returns:
        The imported module.

    Raises:
        MissingDependencyError: If the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.split(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            why = "not installed"
        else:  # it may be too old, or lack something itself
            why = f"cannot be imported as it is installed ({error})"
        raise MissingDependencyError(
            f"Package `{package}` is needed here but {why}. Fix: pip install 'qhybrid[{extra}]'."
        ) from error
