"""IBM's quantum service through the unmodified client of qiskit-ibm-runtime.

The account is the one saved by `QiskitRuntimeService.save_account`, or that of the environment
(QISKIT_IBM_TOKEN, QISKIT_IBM_INSTANCE, ...); the token is never written, logged or shown.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from qiskit_ibm_runtime import Batch, QiskitRuntimeService, Session
from qiskit_ibm_runtime.decoders.result_decoder import ResultDecoder
from qiskit_ibm_runtime.exceptions import (
    IBMInputValueError,
    IBMNotAuthorizedError,
    RuntimeInvalidStateError,
    RuntimeJobMaxTimeoutError,
)
from qiskit_ibm_runtime.executor_sampler import Sampler
from qiskit_ibm_runtime.options_models import SamplerOptions
from qiskit_ibm_runtime.utils.utils import is_isa_circuit

from qhybrid.errors import HardwareError, ServiceError, SubmissionRefusedError, SubmissionUnsureError
from qhybrid.hardware.scrubbing import Scrubber
from qhybrid.hardware.service import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    TOO_LONG,
    Budget,
    JobService,
    Listed,
    Package,
    View,
)
from qhybrid.hardware.settings import HardwareSettings

STATUS = {
    "INITIALIZING": QUEUED,
    "QUEUED": QUEUED,
    "RUNNING": RUNNING,
    "DONE": DONE,
    "CANCELLED": CANCELLED,
    "ERROR": FAILED,
}
CONNECT_SECONDS = 10.0
DEFAULT_RETRY_SECONDS = 30.0
T = TypeVar("T")


class RawResult(ResultDecoder):  # type: ignore[misc]
    """Hands the service's text on as it is."""

    @classmethod
    def decode(cls, data: Any) -> Any:
        """Return the text."""
        return data


class IbmService(JobService):
    """Jobs on one device of the service.

    Args:
        settings: Backend, mode, mitigation and patience.

    Raises:
        HardwareError: If there is no usable account, or no such device.
    """

    paid = True

    def __init__(self, settings: HardwareSettings) -> None:
        self._settings = settings
        self._scrub = Scrubber()
        self._mode: Batch | Session | None = None
        self._connect()

    @property
    def backend(self) -> Any:
        """The device as a Qiskit BackendV2."""
        return self._backend

    def instance(self) -> str:
        """Return name and plan of the account's instance."""
        found = self._ask("its instance", self._service.instances)
        return ", ".join(f"{one.get('name')} ({one.get('plan')})" for one in found)

    def submit(self, package: Package) -> str:
        """Send a job and return its id; see `JobService.submit`."""
        sampler = Sampler(mode=self._execution_mode(), options=self._options(package))
        circuits = [(pub.circuit.measured(pub.variant), pub) for pub in package.pubs]
        pubs = []
        for circuit, pub in circuits:
            problem = is_isa_circuit(circuit, self._backend.target)
            if problem:
                raise SubmissionRefusedError(
                    f"Circuit `{circuit.name}` must consist of what {self._settings.backend} executes, but: "
                    f"{problem}. Fix: plan again, its calibration has changed."
                )
            names = [p for copy in range(len(pub.circuit.copies)) for p in pub.circuit.parameters(copy)]
            used = [index for index, name in enumerate(names) if name in circuit.parameters]
            values = {tuple(names[index] for index in used): pub.values[:, used]} if used else None
            pubs.append((circuit, values))
        return self._send(sampler, pubs, package.shots)

    def find(self, tag: str) -> Sequence[Listed]:
        """Return the jobs that carry a tag, oldest first."""
        jobs = self._ask("its jobs", lambda: self._service.jobs(limit=None, job_tags=[tag], descending=False))
        return [Listed(job.job_id(), tuple(job.tags or ())) for job in jobs]

    def view(self, job_id: str) -> View:
        """Return the state of a job."""
        return self._ask(f"job {job_id}", lambda: self._view(job_id))

    def result_text(self, job_id: str) -> str:
        """Return the result of a job that is done, as the service sends it."""
        text = self._ask(
            f"the result of job {job_id}", lambda: self._service.job(job_id).result(decoder=RawResult)
        )
        if not isinstance(text, str) or not text:
            raise ServiceError(
                f"Job {job_id} must have a result, but the service sent none. Fix: collect again."
            )
        return text

    def cancel(self, job_id: str) -> bool:
        """Cancel a job; return False if it was too late."""

        def ask() -> bool:
            try:
                self._service.job(job_id).cancel()
            except RuntimeInvalidStateError:
                return False
            return True

        return self._ask(f"cancellation of job {job_id}", ask)

    def usage(self, job_id: str) -> float | None:
        """Return the QPU seconds that a job was billed; None if that is not known yet."""
        metrics = self._ask(f"the cost of job {job_id}", lambda: self._service.job(job_id).metrics())
        usage = metrics.get("usage") or {}
        billed = usage.get("qpu_charge_time_seconds", usage.get("quantum_seconds"))
        return None if usage.get("status") == "pending" or billed is None else float(billed)

    def budget(self) -> Budget:
        """Return what is left of the instance's time."""
        usage = self._ask("its usage", self._service.usage)
        return Budget(usage.get("usage_remaining_seconds"), bool(usage.get("usage_limit_reached")))

    def close(self) -> None:
        """Close the batch or session: jobs that it has still run."""
        if self._mode is not None:
            mode, self._mode = self._mode, None
            self._ask("the end of the batch", mode.close)

    def _connect(self) -> None:
        try:
            self._service = QiskitRuntimeService()
            account = self._service.active_account() or {}
            self._scrub = Scrubber([account.get("token")])
            self._limit_waiting()
            self._backend = self._service.backend(self._settings.backend)
        except Exception as error:  # the client raises many kinds, some of them not its own
            text = self._scrub(error)
            raise HardwareError(
                f"Device {self._settings.backend} must be reachable with the saved account or "
                "QISKIT_IBM_TOKEN "
                f"and QISKIT_IBM_INSTANCE, but: {text}. Fix: QiskitRuntimeService.save_account(...), "
                "check token, "
                "instance and the device's name; `qhybrid hardware backends` lists devices."
            ) from None

    def _limit_waiting(self) -> None:
        """Give every request a read time-out: the client's default is to wait for ever."""
        timeout = (CONNECT_SECONDS, self._settings.patience.read_timeout_s)
        for client in getattr(self._service, "_api_clients", {}).values():
            session = getattr(client, "_session", None)
            if session is not None:
                session._timeout = timeout

    def _execution_mode(self) -> Any:
        kind: Literal["batch", "job", "session"] = self._settings.mode
        if kind == "job":
            return self._backend
        if self._mode is None:
            make = Batch if kind == "batch" else Session
            try:
                self._mode = make(backend=self._backend)
            except Exception as error:
                raise SubmissionRefusedError(
                    f"A {kind} must be opened before jobs are sent, but: {self._scrub(error)}. Fix: "
                    "mode: job, "
                    "or batch; the open plan has no sessions."
                ) from None
        return self._mode

    def _options(self, package: Package) -> SamplerOptions:
        options = SamplerOptions(default_shots=package.shots)
        options.environment.job_tags = list(package.tags)
        options.max_execution_time = package.max_execution_seconds
        mitigation = self._settings.mitigation
        options.dynamical_decoupling.enable = mitigation.dynamical_decoupling
        options.twirling.enable_gates = mitigation.gate_twirling
        options.twirling.enable_measure = mitigation.measure_twirling
        return options

    def _send(self, sampler: Sampler, pubs: list[Any], shots: int) -> str:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return str(sampler.run(pubs, shots=shots).job_id())
        except IBMNotAuthorizedError as error:
            refused = SubmissionRefusedError(
                f"The service refused a job, since the token is not valid: {self._scrub(error)}. Fix: submit "
                "again; if that fails, renew the account's token."
            )
            refused.retry_after = 0.0
            self._renew()
            raise refused from None
        except IBMInputValueError as error:
            raise SubmissionRefusedError(f"A job could not be built: {self._scrub(error)}.") from None
        except Exception as error:
            raise self._explained(error) from None

    def _explained(self, error: Exception) -> ServiceError:
        """Tell errors after which a job certainly does not run from all others."""
        answer = error.__context__ if error.__context__ is not None else error
        status = getattr(answer, "status_code", None)
        text = self._scrub(error)
        if isinstance(status, int) and 400 <= status < 500:
            refused = SubmissionRefusedError(
                f"The service refused a job (HTTP {status}): {text}. Fix: see the service's explanation."
            )
            if status == 429:
                refused.retry_after = _retry_after(answer)
            return refused
        return SubmissionUnsureError(f"It is not known whether the service accepted a job: {text}.")

    def _renew(self) -> None:
        """Sign in again; errors show at the next request."""
        self._mode = None
        try:
            self._connect()
        except HardwareError:
            return

    def _view(self, job_id: str) -> View:
        job = self._service.job(job_id)
        status = STATUS.get(str(job.status()), RUNNING)
        if status != FAILED:
            return View(status)
        message = self._scrub(job.error_message() or "")
        try:
            job.result(decoder=RawResult)
        except RuntimeJobMaxTimeoutError:
            return View(TOO_LONG, message)
        except Exception:
            return View(FAILED, message)
        return View(FAILED, message)

    def _ask(self, what: str, question: Callable[[], T]) -> T:
        """Ask; sign in again if the token has expired.

        Raises:
            ServiceError: For whatever goes wrong.
        """
        try:
            try:
                return question()
            except IBMNotAuthorizedError:
                self._connect()
                return question()
        except Exception as error:
            kind = type(error).__name__
            raise ServiceError(
                f"The service must answer for {what}, but: {self._scrub(error)} ({kind}). Fix: ask again; "
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
            f"The saved account must be usable, but: {Scrubber()(error)}. Fix: "
            "QiskitRuntimeService.save_account(...)."
        ) from None
    return [str(backend.name) for backend in found]


def _retry_after(error: BaseException) -> float:
    response = getattr(error.__cause__, "response", None)
    given = getattr(response, "headers", {}).get("Retry-After", "")
    try:
        return max(0.0, float(given))
    except ValueError:
        return DEFAULT_RETRY_SECONDS
