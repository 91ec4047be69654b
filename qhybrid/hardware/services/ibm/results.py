"""The result of a job as the service sends it, and what it means that there is none."""

from __future__ import annotations

from typing import Any

from qiskit_ibm_runtime.api.exceptions import RequestsApiError
from qiskit_ibm_runtime.decoders.result_decoder import ResultDecoder

from qhybrid.errors import ServiceError
from qhybrid.hardware.services.interface import AbsentResultError, ResultGoneError

DELETED = (400, 403, 404, 409, 410, 422)
"""HTTP statuses that say of a private job which is there that its result is not any more."""
NOT_THERE = (404, 410)
"""Those that say so of any job."""


class RawResult(ResultDecoder):  # type: ignore[misc]
    """Returns the service's text unchanged."""

    @classmethod
    def decode(cls, data: Any) -> Any:
        """Return the text."""
        return data


def text_of_result(job: Any, job_id: str, private: bool) -> str:
    """Return the result of a job that is done.

    Args:
        job: The client's job.
        job_id: Its id.
        private: Whether its result can be read once.

    Raises:
        ResultGoneError: If it can be read once, and was read before.
        AbsentResultError: If the service says that there is none, or none any more.
        ServiceError: If something else came than a result.
        RequestsApiError: For any other answer.
    """
    try:
        text = job.result(decoder=RawResult)
    except RequestsApiError as error:
        if private and error.status_code in DELETED:
            raise ResultGoneError(
                f"The result of private job {job_id} can be read once, and was read before: by a process "
                "that ended before it had it on disk, in a transfer that broke off, or from a copy of the "
                "plan's folder. Fix: collect in that folder; `submit --again` pays for it once more."
            ) from None
        if error.status_code in NOT_THERE:
            raise AbsentResultError(
                f"Job {job_id} must have a result, but the service says that it has none, or none any more: "
                "results are kept for a limited time. Fix: collect again; if that does not help, `submit "
                "--again` has it executed, and paid for, once more."
            ) from None
        raise
    if not isinstance(text, str) or not text:
        raise ServiceError(f"Job {job_id} must have a result, but the service sent none. Fix: collect again.")
    if not text.lstrip().startswith("{"):
        # It says nothing of the result, which may still be there.
        raise ServiceError(
            f"The result of job {job_id} must be JSON, but something else came: a page of a proxy or a "
            "sign-in, as a rule. Fix: see that the service can be reached, and collect again."
        )
    return text
