"""What a failed submission means: the job certainly does not run, or nobody knows."""

from __future__ import annotations

from qiskit_ibm_runtime.exceptions import IBMInputValueError

from qhybrid.errors import ServiceError, SubmissionRefusedError, SubmissionUnsureError
from qhybrid.hardware.services.ibm.scrubbing import Scrubber

DEFAULT_RETRY_SECONDS = 30.0


def explained(error: Exception, scrub: Scrubber) -> ServiceError:
    """Return the error of a submission that failed.

    Args:
        error: What the client raised; it hides the service's answer in the context.
        scrub: Takes the token out of texts.
    """
    text = scrub(error)
    if isinstance(error, IBMInputValueError):
        return SubmissionRefusedError(
            f"The client must be able to build a job, but: {text}. Fix: plan with other settings."
        )
    answer = error.__context__ if error.__context__ is not None else error
    status = getattr(answer, "status_code", None)
    if isinstance(status, int) and 400 <= status < 500:
        refused = SubmissionRefusedError(
            f"The service refused a job (HTTP {status}): {text}. Fix: see the service's explanation, then "
            "submit again; what was sent before is kept."
        )
        if status == 429:
            refused.retry_after = _retry_after(answer)
        return refused
    return SubmissionUnsureError(
        f"The service must say whether it accepted a job, but: {text}. Fix: submit or collect again; the "
        "service's listings tell, and nothing is sent twice."
    )


def _retry_after(error: BaseException) -> float:
    response = getattr(error.__cause__, "response", None)
    given = getattr(response, "headers", {}).get("Retry-After", "")
    try:
        return max(0.0, float(given))
    except ValueError:
        return DEFAULT_RETRY_SECONDS
