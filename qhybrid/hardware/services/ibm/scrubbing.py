"""Keeping the account's token out of messages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

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
