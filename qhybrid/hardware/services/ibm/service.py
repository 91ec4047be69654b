"""Jobs on one device of IBM's service."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from qiskit_ibm_runtime import Batch, Session
from qiskit_ibm_runtime.exceptions import (
    IBMNotAuthorizedError,
    RuntimeInvalidStateError,
    RuntimeJobMaxTimeoutError,
)
from qiskit_ibm_runtime.executor_sampler import Sampler
from qiskit_ibm_runtime.options_models import SamplerOptions
from qiskit_ibm_runtime.utils.utils import is_isa_circuit

from qhybrid.devices import Device
from qhybrid.errors import HardwareError, SubmissionRefusedError
from qhybrid.hardware.circuits.prepared import Pub
from qhybrid.hardware.services.ibm.answers import (
    billed_of,
    budget_of,
    place_of,
    rep_delays_of,
    seconds_of,
    session_seconds_of,
    state_of,
)
from qhybrid.hardware.services.ibm.connection import Connection
from qhybrid.hardware.services.ibm.failures import explained, remedy_of_mode
from qhybrid.hardware.services.ibm.results import RawResult, text_of_result
from qhybrid.hardware.services.interface import (
    CANCELLED,
    DONE,
    FAILED,
    QUEUED,
    RUNNING,
    TOO_LONG,
    Budget,
    JobService,
    Listed,
    Outlook,
    Package,
    View,
)
from qhybrid.hardware.settings import HardwareSettings

LONGEST_SESSION = 28_800
"""Seconds: the service's own maximum for sessions and batches. Waiting in a batch costs nothing."""
STATUS = {
    "INITIALIZING": QUEUED,
    "QUEUED": QUEUED,
    "RUNNING": RUNNING,
    "DONE": DONE,
    "CANCELLED": CANCELLED,
    "ERROR": FAILED,
}


class IbmService(JobService):
    """Jobs on one device of the service.

    Args:
        settings: Backend, instance, mode, mitigation and patience.

    Raises:
        HardwareError: If there is no usable account.
    """

    paid = True
    marks = True

    def __init__(self, settings: HardwareSettings) -> None:
        self._settings = settings
        self._mode: Batch | Session | None = None
        self._mode_id: str | None = None
        self._limit: int | None = None
        self._connection = Connection(settings)

    @property
    def backend(self) -> Any:
        """The device as a Qiskit BackendV2."""
        return self._connection.backend

    @property
    def instance(self) -> str:
        """The CRN of the instance that pays."""
        return str(self._connection.service.active_instance())

    def instance_name(self) -> str:
        """Return name and plan of the instance."""

        def ask() -> str:
            found = self._connection.service.instances()
            own = [one for one in found if one.get("crn") == self.instance]
            return ", ".join(f"{one.get('name')} ({one.get('plan')})" for one in own) or self.instance

        return self._connection.ask("its instance", ask)

    def check_mode(self) -> None:
        """Check that the instance's plan has the kind of execution that is wanted.

        Raises:
            HardwareError: If it has not.
            ServiceError: If there was no proper answer.
        """
        if self._settings.mode == "session" and "(open)" in self.instance_name().lower():
            raise HardwareError(
                f"Setting `mode` must be one that the instance's plan allows, but {self.instance_name()} has "
                "no sessions. Fix: mode: batch, or job; nothing was sent."
            )

    def rep_delays_us(self) -> tuple[float, float, float] | None:
        """Return the device's default, shortest and longest delay between two executions in microseconds."""
        return self._connection.ask(
            f"device {self._settings.backend}", lambda: rep_delays_of(self.backend.configuration())
        )

    def submit(self, package: Package) -> str:
        """Send a job and return its id; see `JobService.submit`."""
        try:
            send = self._sender(package)
        except SubmissionRefusedError:
            raise
        except HardwareError as error:
            raise SubmissionRefusedError(str(error)) from None
        except Exception as error:  # nothing has been sent yet
            raise SubmissionRefusedError(
                f"The client must be able to build a job, but: {self._connection.scrub(error)}. Fix: plan "
                "with other settings."
            ) from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return str(send().job_id())
        except IBMNotAuthorizedError as error:
            text = self._connection.scrub(error)
            refused = SubmissionRefusedError(
                f"The service must accept the token, but refused a job: {text}. Fix: submit again; if that "
                "fails, renew the account's token."
            )
            refused.retry_after = 0.0
            self._renew()
            raise refused from None
        except Exception as error:
            raise explained(error, self._connection.scrub) from None

    def _sender(self, package: Package) -> Callable[[], Any]:
        """Return what sends a job; all of it is made ready before."""
        if package.learns is not None:
            from qhybrid.hardware.services.ibm.learning import learning_sender

            return learning_sender(package, self._execution_mode(), self.backend, self._settings)
        pubs = [self._sampler_pub(pub, package.mark) for pub in package.pubs]
        factors = [pub.circuit.variants[pub.variant].noise for pub in package.pubs]
        options, mode = self._options(package), self._execution_mode()
        if all(factor == 1 for factor in factors):
            sampler = Sampler(mode=mode, options=options)
            return lambda: sampler.run(pubs, shots=package.shots)
        from qhybrid.hardware.services.ibm.learning import injecting_sender

        given = [(*pub, factor) for pub, factor in zip(pubs, factors, strict=True)]
        return injecting_sender(package, given, options, mode, self._settings.mitigation)

    def find(self, tag: str) -> Sequence[Listed]:
        """Return the jobs that carry a tag, oldest first."""

        def ask() -> list[Listed]:
            found = self._connection.service.jobs(limit=None, job_tags=[tag], descending=False)
            # Ids decide between jobs of one moment: everybody must see the same order.
            found.sort(key=lambda job: (job.creation_date, job.job_id()))
            # Of a job without a session the client asks once more, each time.
            in_sessions = self._settings.mode != "job"
            return [
                Listed(job.job_id(), tuple(job.tags or ()), job.session_id if in_sessions else None)
                for job in found
            ]

        return self._connection.ask("its jobs", ask)

    def view(self, job_id: str) -> View:
        """Return the state of a job."""
        return self._connection.ask(f"job {job_id}", lambda: self._view(job_id))

    def result_text(self, job_id: str) -> str:
        """Return the result of a job that is done, as the service sends it."""
        private = self._settings.private
        return self._connection.ask(
            f"the result of job {job_id}", lambda: text_of_result(self._job(job_id), job_id, private)
        )

    def outlook(self, job_id: str) -> Outlook:
        """Return where a job stands."""

        def ask() -> Outlook:
            status = self._view(job_id).status
            return Outlook(status, *place_of(self._client.job_get(job_id)))

        return self._connection.ask(f"job {job_id}", ask)

    def told_of(self, job_id: str) -> tuple[str, float | None]:
        """Return a job's state in the service's own words, and the QPU seconds that it expects."""

        def ask() -> tuple[str, float | None]:
            job = self._job(job_id)
            expected = (job.usage_estimation or {}).get("quantum_seconds")
            return str(job.status()), None if expected is None else seconds_of(expected)

        return self._connection.ask(f"job {job_id}", ask)

    def waiting_jobs(self) -> int | None:
        """Return how many jobs of all users wait for the device."""

        def ask() -> int | None:
            found = self.backend.status().pending_jobs
            return None if found is None else int(found)

        return self._connection.ask("the device's queue", ask)

    def whereabouts(self) -> str:
        """Return how jobs are found in the provider's own pages."""
        return f"IBM Quantum Platform, page Workloads, instance {self.instance_name()}"

    def cancel(self, job_id: str) -> bool:
        """Cancel a job; return False if it was too late."""

        def ask() -> bool:
            try:
                self._job(job_id).cancel()
            except RuntimeInvalidStateError:
                return False
            return True

        return self._connection.ask(f"cancellation of job {job_id}", ask)

    def usage(self, job_id: str) -> float | None:
        """Return the QPU seconds that a job was billed; None if that is not known yet."""
        return self._connection.ask(
            f"the cost of job {job_id}", lambda: billed_of(self._job(job_id).metrics())
        )

    def budget(self) -> Budget:
        """Return what is left of the instance's time."""
        return self._connection.ask("its usage", lambda: budget_of(self._connection.service.usage()))

    def open(self, limit_seconds: int | None) -> None:
        """Say that jobs follow; a session that they open lasts for the limit at most.

        The device is loaded here, before any job is entered as being sent.
        """
        self._limit = limit_seconds
        _ = self.backend

    def begin(self) -> tuple[str, str, float | None] | None:
        """Open the session or batch of the jobs that follow; see `JobService.begin`."""
        kind = self._settings.mode
        if kind == "job":
            return None
        self._execution_mode()
        return None if self._mode_id is None else (self._mode_id, kind, self._max_time())

    def _max_time(self) -> int:
        """Return the seconds after which a session or batch ends, closed or not."""
        if self._settings.mode == "batch" or self._limit is None:
            return LONGEST_SESSION
        return max(1, self._limit)

    def close_session(self, session_id: str) -> None:
        """Close a session or batch that an earlier process has opened; jobs in it go on."""
        self._connection.ask("the end of the batch", lambda: self._client.close_session(session_id))

    def session_usage(self, session_id: str) -> float | None:
        """Return the QPU seconds that a session was billed; None if that is not known yet."""
        return self._connection.ask(
            "its session", lambda: session_seconds_of(self._client.session_details(session_id))
        )

    @property
    def _client(self) -> Any:
        service = self._connection.service
        return service._get_api_client(service.active_instance())

    def today(self) -> tuple[Device, str] | None:
        """Return the device as it is now, and what is to be known of its state."""
        self._connection.look_again()
        device = self.device()
        state = self._connection.ask("the device's state", lambda: state_of(self.backend.status()))
        if not state:
            return device, ""
        return device, f"{self._settings.backend} is `{state}` now: jobs wait until it is in operation again"

    def device(self, source: str = "") -> Device:
        """Return target and calibration of the device, as its backend was loaded.

        Args:
            source: Where they come from, for profiles.
        """
        return self._connection.ask(
            f"calibration of {self._settings.backend}", lambda: Device.from_backend(self.backend, source)
        )

    def close(self) -> None:
        """Close the batch or session: jobs that it has still run."""
        name, self._mode, self._mode_id = self._mode_id, None, None
        if name is not None:
            self.close_session(name)

    def _job(self, job_id: str) -> Any:
        return self._connection.service.job(job_id)

    def _sampler_pub(self, pub: Pub, mark: str) -> tuple[Any, Any]:
        """Return a measured circuit with its parameter sets as the sampler takes them.

        The sampler sends a circuit's metadata along, and the service gives them back with the result.
        """
        circuit = pub.circuit.measured(pub.variant)
        circuit.metadata = {"qhybrid": mark}
        problem = is_isa_circuit(circuit, self.backend.target)
        if problem:
            raise SubmissionRefusedError(
                f"Circuit `{circuit.name}` must consist of what {self._settings.backend} executes, but: "
                f"{problem}. Fix: plan again, its calibration has changed."
            )
        names = [p for copy in range(len(pub.circuit.copies)) for p in pub.circuit.parameters(copy)]
        used = [index for index, name in enumerate(names) if name in circuit.parameters]
        values = {tuple(names[index] for index in used): pub.values[:, used]} if used else None
        return circuit, values

    def _execution_mode(self) -> Any:
        kind = self._settings.mode
        if kind == "job":
            return self.backend
        if self._mode is None:
            make = Batch if kind == "batch" else Session
            try:
                if self._mode_id is None:
                    # A session is billed while it is open: it ends by itself, whatever becomes of us.
                    self._mode = make(backend=self.backend, max_time=self._max_time())
                    self._mode_id = str(self._mode.session_id)
                else:  # a second one would be in no ledger, and its time under no cap
                    self._mode = make.from_id(self._mode_id, self._connection.service)
            except Exception as error:
                text = self._connection.scrub(error)
                lost = "submit again, which opens another one; what was sent before is kept"
                fix = remedy_of_mode(error, text) if self._mode_id is None else lost
                raise SubmissionRefusedError(
                    f"A {kind} must be open before jobs are sent, but: {text}. Fix: {fix}."
                ) from None
        return self._mode

    def _options(self, package: Package) -> SamplerOptions:
        options = SamplerOptions(default_shots=package.shots)
        options.environment.job_tags = list(package.tags)
        options.environment.private = self._settings.private
        options.max_execution_time = package.max_execution_seconds
        mitigation = self._settings.mitigation
        options.dynamical_decoupling.enable = mitigation.dynamical_decoupling
        options.twirling.enable_gates = mitigation.gate_twirling
        options.twirling.enable_measure = mitigation.measure_twirling
        if (divided := mitigation.division(package.shots)) is not None:
            options.twirling.num_randomizations, options.twirling.shots_per_randomization = divided
        if self._settings.rep_delay_us is not None:
            options.execution.rep_delay = self._settings.rep_delay_us * 1e-6
        return options

    def _renew(self) -> None:
        """Sign in again; the next job goes on in the same batch or session. Errors show at that request."""
        self._mode = None
        with suppress(HardwareError):
            self._connection.sign_in()

    def _view(self, job_id: str) -> View:
        job = self._job(job_id)
        status = STATUS.get(str(job.status()), RUNNING)
        if status != FAILED:
            return View(status)
        message = self._connection.scrub(job.error_message() or "")
        try:
            job.result(decoder=RawResult)
        except RuntimeJobMaxTimeoutError:
            return View(TOO_LONG, message)
        except Exception:
            return View(FAILED, message)
        return View(FAILED, message)
