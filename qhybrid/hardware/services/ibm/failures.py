"""What errors of the service mean, in messages without the account's token."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from qiskit_ibm_runtime.exceptions import IBMInputValueError

from qhybrid.errors import ServiceError, SubmissionRefusedError, SubmissionUnsureError

TOKEN_VARIABLES = ("QISKIT_IBM_TOKEN", "IBMCLOUD_API_KEY")
HIDDEN = "[token hidden]"
SHORTEST = 6
ACCESS_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
"""What the service gives for the account's token: a JSON web token."""


class Scrubber:
    """Replaces secrets in texts, and whatever looks like an access token.

    Args:
        secrets: Texts that must not appear.
    """

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        known = [*secrets, *(os.environ.get(name) for name in TOKEN_VARIABLES)]
        self._secrets = sorted({one for one in known if one and len(one) >= SHORTEST}, key=len, reverse=True)

    def __call__(self, text: object) -> str:
        """Return a text without the secrets."""
        result = str(text)
        for secret in self._secrets:
            result = result.replace(secret, HIDDEN)
        return ACCESS_TOKEN.sub(HIDDEN, result)


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
