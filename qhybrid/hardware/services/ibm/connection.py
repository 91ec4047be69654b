"""The account, the device and the instance behind an `IbmService`, and questions to them.

The account is the one saved by `QiskitRuntimeService.save_account`, or that of the environment
(QISKIT_IBM_TOKEN, QISKIT_IBM_INSTANCE, ...); the token is never written, logged or shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from qiskit_ibm_runtime import QiskitRuntimeService
from qiskit_ibm_runtime.exceptions import IBMNotAuthorizedError, RuntimeJobNotFound

from qhybrid.errors import HardwareError, ServiceError
from qhybrid.hardware.services.ibm.failures import Scrubber
from qhybrid.hardware.services.ibm.waiting import bound_requests
from qhybrid.hardware.services.interface import JobGoneError
from qhybrid.hardware.settings import HardwareSettings

T = TypeVar("T")


class Connection:
    """A device of the service, signed in.

    Args:
        settings: Backend, instance and patience.

    Attributes:
        service: The client.
        backend: The device as a Qiskit BackendV2.
        scrub: Takes the token out of texts.

    Raises:
        HardwareError: If there is no usable account, or no such device.
    """

    service: QiskitRuntimeService
    backend: Any
    scrub: Scrubber

    def __init__(self, settings: HardwareSettings) -> None:
        self._settings = settings
        self.scrub = Scrubber(_saved_tokens())
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
            self.service = QiskitRuntimeService(instance=instance)
            account = self.service.active_account() or {}
            self.scrub = Scrubber([account.get("token"), *_saved_tokens()])
            bound_requests(self.service, self._settings.patience)
            self.backend = self.service.backend(name, instance=instance)
        except Exception as error:  # the client raises many kinds, some of them not its own
            where = "" if instance is None else f" in the plan's instance {instance}"
            raise HardwareError(
                f"Device {name} must be reachable{where} with the saved account or QISKIT_IBM_TOKEN and "
                f"QISKIT_IBM_INSTANCE, but: {self.scrub(error)}. Fix: save the account with "
                "QiskitRuntimeService.save_account(...), check token, instance and the device's name; "
                "`qhybrid hardware backends RUN --service` lists devices."
            ) from None

    def ask(self, what: str, question: Callable[[], T]) -> T:
        """Ask; sign in again if the token has expired.

        Raises:
            ServiceError: For whatever goes wrong.
        """
        try:
            try:
                return question()
            except IBMNotAuthorizedError:
                self.sign_in()
                return question()
        except Exception as error:
            name = type(error).__name__
            kind = JobGoneError if isinstance(error, RuntimeJobNotFound) else ServiceError
            raise kind(
                f"The service must answer for {what}, but: {self.scrub(error)} ({name}). Fix: ask again; "
                "nothing is sent twice."
            ) from None


def list_service_devices() -> list[str]:
    """Return the names of the account's devices that are in operation.

    Raises:
        HardwareError: If there is no usable account.
    """
    try:
        found = QiskitRuntimeService().backends(simulator=False, operational=True)
    except Exception as error:
        raise HardwareError(
            f"The saved account must be usable, but: {Scrubber(_saved_tokens())(error)}. Fix: "
            "QiskitRuntimeService.save_account(...)."
        ) from None
    return [str(backend.name) for backend in found]


def _saved_tokens() -> list[str | None]:
    """Return the tokens of all saved accounts: a sign-in that fails may name the one that it used."""
    try:
        return [account.get("token") for account in QiskitRuntimeService.saved_accounts().values()]
    except Exception:  # a damaged file holds no token that could be used
        return []
