"""Backends by name: fake devices, a simulator without noise, and devices of the service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qhybrid.devices import Device, load_device
from qhybrid.hardware.services.interface import JobService
from qhybrid.hardware.services.local import LocalService
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.noise import NoiseProfile

SIMULATOR = "aer"
FAKE = "fake_"
JOBS_FOLDER = "jobs"


def is_local(backend: str) -> bool:
    """Return whether a backend needs no network and costs nothing."""
    return backend == SIMULATOR or backend.startswith(FAKE)


@dataclass(frozen=True)
class Backend:
    """What is known of a backend before anything is sent.

    Attributes:
        device: Target and calibration; None for a simulator without a device.
        noise: Error rates from the calibration; None for none.
        account: Instance and what is left of its time, for people; empty for local backends.
        instance: The instance's CRN; None for local backends.
    """

    device: Device | None
    noise: NoiseProfile | None
    account: str = ""
    instance: str | None = None


def open_backend(settings: HardwareSettings) -> Backend:
    """Read a backend's target and calibration; for devices of the service this checks the account.

    Raises:
        ConfigError: If there is no such fake device.
        HardwareError: If the account is not usable, or there is no such device.
    """
    if settings.backend == SIMULATOR:
        return Backend(None, None)
    if settings.backend.startswith(FAKE):
        device = load_device(settings.backend)
        return Backend(device, NoiseProfile.from_backend(device))
    # Imported when needed: the client takes seconds.
    from qhybrid.hardware.services.ibm import IbmService

    service = IbmService(settings)
    device = Device.from_backend(service.backend, f"calibration of {settings.backend}")
    budget = service.budget()
    left = "no limit" if budget.remaining_seconds is None else f"{budget.remaining_seconds:g} s left"
    account = f"{service.instance_name()}: {left}"
    return Backend(device, NoiseProfile.from_backend(device), account, service.instance)


def make_service(settings: HardwareSettings, folder: Path) -> JobService:
    """Return what executes the jobs of a plan.

    Args:
        settings: The plan's settings.
        folder: The plan's folder; jobs of local backends are files in it.

    Raises:
        HardwareError: If the account is not usable.
    """
    if is_local(settings.backend):
        simulator = "aer" if settings.backend == SIMULATOR else settings.simulator
        return LocalService(folder / JOBS_FOLDER, simulator, settings.seed)
    from qhybrid.hardware.services.ibm import IbmService

    return IbmService(settings)
