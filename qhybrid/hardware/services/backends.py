"""The backend of a plan, and what executes its jobs, by the service that has the device."""

from __future__ import annotations

from pathlib import Path

from qhybrid.hardware.service_kinds import (
    SERVICES,
    ServiceKind,
    ServiceRules,
    is_paid,
    list_service_devices,
    register_service,
    rules_of,
    service_of,
)
from qhybrid.hardware.services.interface import Backend, JobService
from qhybrid.hardware.services.local import JOBS_FOLDER, local_backend
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.plugins import resolved

__all__ = [
    "JOBS_FOLDER",
    "SERVICES",
    "Backend",
    "ServiceKind",
    "ServiceRules",
    "is_paid",
    "list_service_devices",
    "local_backend",
    "make_service",
    "open_backend",
    "register_service",
    "rules_of",
    "service_of",
]


def open_backend(settings: HardwareSettings) -> Backend:
    """Read a backend's target and calibration; for devices of an account this checks the account.

    Raises:
        ConfigError: If there is no such fake device.
        HardwareError: If the account is not usable, there is no such device or service, or the service does
            not do what the settings ask for.
    """
    kind = service_of(settings.backend, settings.service)
    kind.rules.check_settings(settings)
    found: Backend = resolved(kind.open_backend)(settings)
    return found


def make_service(settings: HardwareSettings, folder: Path) -> JobService:
    """Return what executes the jobs of a plan.

    Args:
        settings: The plan's settings.
        folder: The plan's folder; jobs of local backends are files in it.

    Raises:
        HardwareError: If the account is not usable, or there is no such service.
    """
    found: JobService = resolved(service_of(settings.backend, settings.service).make)(settings, folder)
    return found
