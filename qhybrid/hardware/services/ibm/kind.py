"""IBM's service as one of the registered services: its backends, and what executes jobs on them."""

from __future__ import annotations

from pathlib import Path

from qhybrid.devices import list_devices
from qhybrid.errors import HardwareError
from qhybrid.hardware.services.ibm.service import IbmService
from qhybrid.hardware.services.interface import Backend, patiently
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.noise import NoiseProfile


def open_backend(settings: HardwareSettings) -> Backend:
    """Return a device of the account with its calibration, and what the account's instance has left.

    Raises:
        HardwareError: If the account is not usable, or has no such device or mode.
    """
    patience = settings.patience
    try:
        service = IbmService(settings)
        patiently(service.check_mode, patience)
        device = patiently(lambda: service.device(f"calibration of {settings.backend}"), patience)
    except HardwareError as error:
        snapshot = f"fake_{settings.backend.removeprefix('ibm_')}"
        if snapshot not in list_devices():
            raise
        raise type(error)(f"{error} (`{snapshot}`, a snapshot of it, needs no account.)") from error
    budget = patiently(service.budget, patience)
    left = "no limit" if budget.remaining_seconds is None else f"{budget.remaining_seconds:g} s left"
    account = f"{patiently(service.instance_name, patience)}: {left}"
    noise = NoiseProfile.from_backend(device)
    return Backend(device, noise, account, service.instance, service.rep_delays_us())


def make_service(settings: HardwareSettings, _folder: Path) -> IbmService:
    """Return what executes the jobs of a plan."""
    return IbmService(settings)
