"""The account, the device and the instance behind an `IbmService`, and questions to them.

The account is the one saved by `QiskitRuntimeService.save_account`, or that of the environment
(QISKIT_IBM_TOKEN, QISKIT_IBM_INSTANCE, ...); the token is never written, logged or shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from qiskit.providers.exceptions import QiskitBackendNotFoundError
from qiskit_ibm_runtime import QiskitRuntimeService
from qiskit_ibm_runtime.exceptions import IBMInputValueError, IBMNotAuthorizedError, RuntimeJobNotFound

from qhybrid.errors import HardwareError, ServiceError
from qhybrid.hardware.services.ibm.failures import REMEDIES, remedy
from qhybrid.hardware.services.ibm.secrets import Scrubber, scrub_logs, scrubbed_warnings, secrets_of
from qhybrid.hardware.services.ibm.waiting import bound_requests
from qhybrid.hardware.services.interface import JobGoneError
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.plugins import near_name

T = TypeVar("T")
FRESH_SECONDS = 300.0
"""Age up to which a device's calibration is that of today."""


class Connection:
    """An account of the service, signed in; its device is loaded when it is needed.

    Args:
        settings: Backend, instance and patience.

    Attributes:
        service: The client.
        scrub: Takes the token out of texts.

    Raises:
        HardwareError: If there is no usable account.
    """

    service: QiskitRuntimeService
    scrub: Scrubber

    def __init__(self, settings: HardwareSettings) -> None:
        self._settings = settings
        self._backend: Any = None
        self._loaded = 0.0
        self.scrub = Scrubber(_saved_secrets())
        scrub_logs(self.scrub)
        self.sign_in()

    def sign_in(self) -> None:
        """Sign in, for the first time or again.

        Raises:
            HardwareError: If that does not work.
        """
        name, instance = self._settings.backend, self._settings.instance
        try:
            # Jobs are listed by instance: another one would have none of a plan's jobs, and they would be
            # sent twice. So a plan keeps to the instance that it was made with.
            with scrubbed_warnings(self.scrub):
                self.service = QiskitRuntimeService(instance=instance)
            account = self.service.active_account() or {}
            self.scrub = Scrubber([*secrets_of(account), *_saved_secrets()])
            scrub_logs(self.scrub)
            bound_requests(self.service, self._settings.patience)
            self._backend = None
        except Exception as error:  # the client raises many kinds, some of them not its own
            where = "" if instance is None else f" in the plan's instance {instance}"
            raise HardwareError(
                f"The service of {name} must be reachable{where} with the saved account or QISKIT_IBM_TOKEN "
                f"and QISKIT_IBM_INSTANCE, but: {self.scrub(error)}. Fix: {_remedy(error, self.scrub)}."
            ) from None

    @property
    def backend(self) -> Any:
        """The device as a Qiskit BackendV2, with its target and its calibration.

        The client loads both when they are first looked at, wherever that is: so it is done here.

        Raises:
            HardwareError: If the account has no such device.
            ServiceError: If there was no proper answer.
        """
        if self._backend is None:
            self._backend = self.ask(f"device {self._settings.backend}", self._load)
            self._loaded = time.monotonic()
        return self._backend

    def look_again(self) -> None:
        """Have the device loaded anew when it is needed, if that was a while ago: its calibration moves."""
        if time.monotonic() - self._loaded > FRESH_SECONDS:
            self._backend = None

    def _load(self) -> Any:
        name = self._settings.backend
        try:
            found = self.service.backend(
                name,
                instance=self._settings.instance,
                use_fractional_gates=self._settings.use_fractional_gates,
            )
        except IBMInputValueError as error:
            raise UnknownDeviceError(
                f"Device {name} must have fractional gates, but {self.scrub(error)} Fix: "
                "use_fractional_gates=false, or another device."
            ) from None
        except QiskitBackendNotFoundError as error:
            self._check_listed(name)
            self.sign_in()  # the client keeps what it was told, however little that was
            raise ServiceError(f"its configuration cannot be read ({error})") from None
        if found.target is None or found.properties() is None:
            raise ServiceError("it reports no calibration")
        return found

    def _check_listed(self, name: str) -> None:
        """Check that a device whose configuration cannot be read is one of the account's, as it is now."""
        client = self.service._get_api_client(self.service.active_instance())
        names = [str(one.get("name")) for one in client.list_backends(True)]
        if name not in names:
            raise UnknownDeviceError(
                f"Device {name} must be one of the account's devices, but these are "
                f"{', '.join(names) or 'none'}.{near_name(name.lower(), names)} Fix: another device for a "
                "new plan; results of jobs that a retired device has done can still be collected."
            )

    def ask(self, what: str, question: Callable[[], T]) -> T:
        """Ask; sign in again if the token has expired.

        Raises:
            ServiceError: For whatever goes wrong.
        """
        try:
            try:
                with scrubbed_warnings(self.scrub):
                    return question()
            except IBMNotAuthorizedError:
                self.sign_in()
                with scrubbed_warnings(self.scrub):
                    return question()
        except UnknownDeviceError:
            raise
        except Exception as error:
            if isinstance(error, HardwareError) and "Fix: " in str(error):  # of a question within this one
                raise error if isinstance(error, ServiceError) else ServiceError(str(error)) from None
            name = type(error).__name__
            kind = JobGoneError if isinstance(error, RuntimeJobNotFound) else ServiceError
            raise kind(
                f"The service must answer for {what}, but: {self.scrub(error)} ({name}). Fix: "
                f"{remedy(error, self.scrub(error))}."
            ) from None


class UnknownDeviceError(HardwareError):
    """The account has no such device, or not one with the gates that are wanted."""


def list_service_devices() -> list[str]:
    """Return the names of the account's devices that are in operation.

    Raises:
        HardwareError: If there is no usable account.
    """
    scrub = Scrubber(_saved_secrets())
    scrub_logs(scrub)
    try:
        with scrubbed_warnings(scrub):
            found = QiskitRuntimeService().backends(simulator=False, operational=True)
    except Exception as error:
        raise HardwareError(
            f"The saved account must be usable, but: {scrub(error)}. Fix: {_remedy(error, scrub)}."
        ) from None
    return [str(backend.name) for backend in found]


def _remedy(error: BaseException, scrub: Scrubber) -> str:
    """Return what helps where a sign-in failed."""
    found = remedy(error, scrub(error))
    if found == REMEDIES["network"]:
        return found
    return f"{found}; see token and instance, as saved with QiskitRuntimeService.save_account(...)"


def _saved_secrets() -> list[str]:
    """Return the secrets of all saved accounts: a sign-in that fails may name the one that it used."""
    try:
        return secrets_of(QiskitRuntimeService.saved_accounts())
    except Exception:  # a damaged file holds no token that could be used
        return []
