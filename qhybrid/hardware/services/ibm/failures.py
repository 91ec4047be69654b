"""What errors of the service mean, in messages without the account's token."""

from __future__ import annotations

import re

from qiskit_ibm_runtime.exceptions import IBMInputValueError

from qhybrid.errors import (
    ServiceError,
    SubmissionRefusedError,
    SubmissionUnsureError,
    TooManyPendingError,
)
from qhybrid.hardware.services.ibm.secrets import Scrubber

DEFAULT_RETRY_SECONDS = 30.0
PENDING = re.compile(
    r"(limit|maximum|max|too many|exceed)[^.]{0,80}(pending|queued|concurrent|active)[^.]{0,40}(job|workload)"
    r"|(pending|queued|concurrent|active)[^.]{0,40}(job|workload)[^.]{0,80}(limit|maximum|max|exceed)",
    re.IGNORECASE,
)
"""How a service says that too many jobs wait; which status comes with it differs."""
REMEDIES = {
    "network": "check the connection to the internet, a proxy or a firewall, and go on later; jobs run "
    "on and nothing is lost",
    "sign-in": "the sign-in (IAM) failed: see that the API key is neither wrong nor revoked and is of the "
    "account of the instance, or wait if IBM Cloud has a failure",
    "token": "the token is not accepted: make a new API key and save it with "
    "QiskitRuntimeService.save_account(..., overwrite=True)",
    "quota": "the instance's time is used up: wait for the next period, or plan with another instance",
    "closed": "the service has ended the batch or session: give the same command again, which opens another "
    "one; nothing is sent twice",
    "other": "see the service's explanation, then give the same command again; nothing is sent twice",
}


NO_CONNECTION = r"ConnectionError|ConnectTimeout|NameResolution|ProxyError"
"""In the names of exceptions that mean that nobody was reached."""


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and those that it hides, the last one first."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in found:
        found.append(one)
        one = one.__cause__ or one.__context__
    return found


def remedy(error: BaseException, text: str) -> str:
    """Return what helps against an error of the client.

    Args:
        error: What it raised.
        text: Its message, which names what other exceptions it hides.
    """
    names = " ".join(type(one).__name__ for one in _chain(error))
    words = f"{names} {text}"
    if re.search(NO_CONNECTION, names):  # whatever the client makes of it: a sign-in that failed, say
        return REMEDIES["network"]
    if re.search(r"usage limit|quota|no more time|usage_limit|time available", words, re.IGNORECASE):
        return REMEDIES["quota"]
    if re.search(r"session\b[^.]{0,40}\b(closed|ended|expired)|Error code: 1217\b", text, re.IGNORECASE):
        return REMEDIES["closed"]
    if "IBMNotAuthorized" in names or re.search(r"\b401\b", text):
        return REMEDIES["token"]
    if "InvalidAccount" in names or re.search(r"\bIAM\b|/identity/token|API ?key", text):
        return REMEDIES["sign-in"]
    if re.search(rf"{NO_CONNECTION}|Max retries|Connection refused|Failed to establish", words):
        return REMEDIES["network"]
    return REMEDIES["other"]


def remedy_of_mode(error: Exception, text: str) -> str:
    """Return what helps where no batch or session can be opened.

    Args:
        error: What the client raised.
        text: Its message.
    """
    found = remedy(error, text)
    return "mode: job, or batch; the open plan has no sessions" if found == REMEDIES["other"] else found


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
        kind = TooManyPendingError if PENDING.search(text) else SubmissionRefusedError
        refused = kind(
            f"The service refused a job (HTTP {status}): {text}. Fix: {remedy(error, text)}; what was sent "
            "before is kept."
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
