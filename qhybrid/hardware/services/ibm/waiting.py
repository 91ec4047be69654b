"""How long the client's requests may take, and which of them it may repeat by itself.

The client waits for ever where it is told no time-out, and 900 s for a job to be accepted; and it repeats a
submission after an answer of 500 and the like, although the service may have accepted the job: two would run.
Here every request ends, and a submission is sent once; listings decide whether it is sent again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qiskit_ibm_runtime import QiskitRuntimeService
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from qhybrid.hardware.settings import Patience

CONNECT_SECONDS = 10.0
Timeout = float | tuple[float, float | None] | None


class _BoundedAdapter(HTTPAdapter):
    """Sends requests that end.

    Args:
        patience: Read time-outs of questions and submissions.
        retries: What is repeated without being seen.
    """

    def __init__(self, patience: Patience, retries: Retry) -> None:
        self._patience = patience
        super().__init__(max_retries=retries)

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request."""
        if request.method == "POST" and (request.path_url or "").endswith("/jobs"):
            # One number: the time to connect is also the time in which the whole upload must be through.
            timeout = self._patience.send_timeout_s
        elif _is_open_ended(timeout):
            timeout = (CONNECT_SECONDS, self._patience.read_timeout_s)
        return super().send(request, stream, timeout, verify, cert, proxies)


def _is_open_ended(timeout: Timeout) -> bool:
    return timeout is None or (isinstance(timeout, tuple) and timeout[1] is None)


def bound_requests(service: QiskitRuntimeService, patience: Patience) -> None:
    """Set time limits for all further requests of a client.

    Args:
        service: The client, signed in.
        patience: Time-outs.
    """
    for client in getattr(service, "_api_clients", {}).values():
        session: Session | None = getattr(client, "_session", None)
        if session is None:
            continue
        for prefix in ("https://", "http://"):
            session.mount(prefix, _BoundedAdapter(patience, _retries(session, prefix)))
        base = getattr(session, "base_url", None)
        if base is not None:
            session.mount(f"{base}/jobs", _BoundedAdapter(patience, _without_posts(session)))


def _retries(session: Session, prefix: str) -> Retry:
    """Return the client's own rules."""
    found = session.get_adapter(prefix)
    return found.max_retries if isinstance(found, HTTPAdapter) else Retry(0)


def _without_posts(session: Session) -> Retry:
    """Return the client's rules, but submissions are repeated only if there was no connection at all."""
    own = _retries(session, "https://")
    return Retry(
        total=own.total,
        connect=own.connect,
        backoff_factor=own.backoff_factor,
        status_forcelist=own.status_forcelist,
    )
