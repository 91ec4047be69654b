"""Services by name, and backends: fake devices, a simulator without noise, and devices of a service."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from qhybrid.devices import Device, load_device
from qhybrid.errors import HardwareError
from qhybrid.hardware.services.interface import JobService, patiently
from qhybrid.hardware.services.local import LocalService
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.noise import NoiseProfile
from qhybrid.plugins import Registry

SIMULATOR = "aer"
FAKE = "fake_"
JOBS_FOLDER = "jobs"
LOCAL, IBM = "local", "ibm"


@dataclass(frozen=True)
class Backend:
    """What is known of a backend before anything is sent.

    Attributes:
        device: Target and calibration; None for a simulator without a device.
        noise: Error rates from the calibration; None for none.
        account: Instance and what is left of its time, for people; empty for local backends.
        instance: The instance's CRN; None for local backends.
        rep_delays_us: Default, shortest and longest delay between two executions; None if not known, or if
            it cannot be chosen.
    """

    device: Device | None
    noise: NoiseProfile | None
    account: str = ""
    instance: str | None = None
    rep_delays_us: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class ServiceKind:
    """One service.

    Attributes:
        make: Function of a plan's settings and folder that returns what executes its jobs. Every call
            must reach the jobs of earlier ones: a plan may be collected by another process.
        open_backend: Function of a plan's settings that returns its backend; it checks the account.
        description: One line for lists.
        paid: Whether executions cost money or an allowance.
    """

    make: Callable[[HardwareSettings, Path], JobService]
    open_backend: Callable[[HardwareSettings], Backend]
    description: str
    paid: bool = True


SERVICES: Registry[ServiceKind] = Registry("service", HardwareError)


def register_service(
    name: str,
    make: Callable[[HardwareSettings, Path], JobService],
    open_backend: Callable[[HardwareSettings], Backend] | None = None,
    *,
    description: str = "",
    paid: bool = True,
    replace: bool = False,
) -> None:
    """Make a service known to hardware plans: `qhybrid hardware plan --service NAME`.

    Args:
        name: Its name.
        make: Function of a plan's settings and folder that returns the `JobService`; see `ServiceKind`.
        open_backend: Function of a plan's settings that returns the `Backend`; absent: the setting
            `backend` names a fake device or `aer`, whose target and calibration are used.
        description: One line for lists.
        paid: Whether executions cost money or an allowance.
        replace: Whether it may take the place of another one.

    Raises:
        PluginError: If the name is taken.
    """
    kind = ServiceKind(make, open_backend or local_backend, description, paid)
    SERVICES.register(name, kind, replace=replace)


def service_of(backend: str, service: str | None = None) -> ServiceKind:
    """Return the service of a plan: the one that it names, else the backend's own.

    Raises:
        HardwareError: If there is none of that name.
    """
    local = backend == SIMULATOR or backend.startswith(FAKE)
    return SERVICES.get(service or (LOCAL if local else IBM), "setting `service`")


def is_paid(backend: str, service: str | None = None) -> bool:
    """Return whether executions cost money or an allowance."""
    return service_of(backend, service).paid


def open_backend(settings: HardwareSettings) -> Backend:
    """Read a backend's target and calibration; for devices of the service this checks the account.

    Raises:
        ConfigError: If there is no such fake device.
        HardwareError: If the account is not usable, or there is no such device or service.
    """
    return service_of(settings.backend, settings.service).open_backend(settings)


def make_service(settings: HardwareSettings, folder: Path) -> JobService:
    """Return what executes the jobs of a plan.

    Args:
        settings: The plan's settings.
        folder: The plan's folder; jobs of local backends are files in it.

    Raises:
        HardwareError: If the account is not usable, or there is no such service.
    """
    return service_of(settings.backend, settings.service).make(settings, folder)


def local_backend(settings: HardwareSettings) -> Backend:
    """Return a fake device with its calibration, or the simulator without a device.

    Raises:
        ConfigError: If there is no such fake device.
    """
    if settings.backend == SIMULATOR:
        return Backend(None, None)
    device = load_device(settings.backend)
    return Backend(device, NoiseProfile.from_backend(device))


def _local_service(settings: HardwareSettings, folder: Path) -> JobService:
    simulator = "aer" if settings.backend == SIMULATOR else settings.simulator
    return LocalService(folder / JOBS_FOLDER, simulator, settings.seed)


def _ibm_backend(settings: HardwareSettings) -> Backend:
    # Imported when needed: the client takes seconds.
    from qhybrid.hardware.services.ibm import IbmService

    service = IbmService(settings)
    patience = settings.patience
    patiently(service.check_mode, patience)
    device = Device.from_backend(
        patiently(lambda: service.backend, patience), f"calibration of {settings.backend}"
    )
    budget = patiently(service.budget, patience)
    left = "no limit" if budget.remaining_seconds is None else f"{budget.remaining_seconds:g} s left"
    account = f"{patiently(service.instance_name, patience)}: {left}"
    noise = NoiseProfile.from_backend(device)
    return Backend(device, noise, account, service.instance, service.rep_delays_us())


def _ibm_service(settings: HardwareSettings, _folder: Path) -> JobService:
    from qhybrid.hardware.services.ibm import IbmService

    return IbmService(settings)


register_service(LOCAL, _local_service, description="fake devices and simulators here", paid=False)
register_service(IBM, _ibm_service, _ibm_backend, description="devices of IBM Quantum")
