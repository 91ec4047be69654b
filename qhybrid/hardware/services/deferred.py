"""A service that is opened when something is asked of it: what is in the ledger needs no account."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qhybrid.hardware.services.interface import Budget, JobService, Listed, Package, View


class DeferredService(JobService):
    """Passes everything on to a service that is made at the first question.

    Args:
        make: Returns the service.
        paid: Whether its executions cost money or an allowance.
    """

    def __init__(self, make: Callable[[], JobService], paid: bool) -> None:
        self.paid = paid
        self._make = make
        self._made: JobService | None = None

    @property
    def _service(self) -> JobService:
        if self._made is None:
            self._made = self._make()
        return self._made

    def submit(self, package: Package) -> str:
        """Send a job and return its id."""
        return self._service.submit(package)

    def find(self, tag: str) -> Sequence[Listed]:
        """Return the jobs that carry a tag, oldest first."""
        return self._service.find(tag)

    def view(self, job_id: str) -> View:
        """Return the state of a job."""
        return self._service.view(job_id)

    def result_text(self, job_id: str) -> str:
        """Return the result of a job that is done, as the service sends it."""
        return self._service.result_text(job_id)

    def cancel(self, job_id: str) -> bool:
        """Cancel a job; return False if it was too late."""
        return self._service.cancel(job_id)

    def usage(self, job_id: str) -> float | None:
        """Return the QPU seconds that a job was billed; None if that is not known yet."""
        return self._service.usage(job_id)

    def budget(self) -> Budget:
        """Return what is left of the account's time."""
        return self._service.budget()

    def open(self, limit_seconds: int | None) -> None:
        """Say that jobs follow."""
        self._service.open(limit_seconds)

    def close(self) -> None:
        """Say that no more jobs will be sent."""
        if self._made is not None:
            self._made.close()
