"""Every error a user can cause, in one hierarchy.

Messages follow one pattern: what must hold, what was found, and how to fix it, for example
``Argument `shots` must be at least 1, but is 0. Fix: ...``.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class QHybridError(Exception):
    """Base of all errors that qhybrid raises on purpose; the command line prints them without a traceback."""


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


class EngineError(QHybridError, ValueError):
    """An engine was given values that it cannot execute."""


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


class ServiceError(HardwareError):
    """The quantum service did not answer as it should; asking again may help. Never holds the token."""


class SubmissionRefusedError(ServiceError):
    """The service refused a job: it does certainly not run.

    Attributes:
        retry_after: Seconds after which it may be sent again; None if that would not help.
    """

    retry_after: float | None = None


class SubmissionUnsureError(ServiceError):
    """A job was sent, and it is not known whether the service accepted it."""


class MissingDependencyError(QHybridError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


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
        raise MissingDependencyError(
            f"Package `{module.split('.')[0]}` is needed here but not installed. "
            f"Fix: pip install 'qhybrid[{extra}]'."
        ) from error
