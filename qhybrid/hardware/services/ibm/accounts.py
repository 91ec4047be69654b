"""Whether an account of the service is there, without a word of what it holds."""

from __future__ import annotations

import os
from dataclasses import dataclass

from qiskit_ibm_runtime import QiskitRuntimeService

TOKEN = "QISKIT_IBM_TOKEN"


@dataclass(frozen=True)
class SavedAccount:
    """An account that the client would find; its secrets are left out.

    Attributes:
        origin: `environment`, or the name under which it was saved.
        channel: The service's channel, or "" where that is not said.
        instance: Whether an instance is named.
    """

    origin: str
    channel: str
    instance: bool


def saved_accounts() -> tuple[SavedAccount, ...]:
    """Return the accounts of the environment and of the client's file; nothing is asked of the service.

    Raises:
        OSError: If the client's file cannot be read.
        ValueError: If it is damaged.
    """
    found = []
    if os.environ.get(TOKEN):
        channel = os.environ.get("QISKIT_IBM_CHANNEL", "")
        found.append(SavedAccount("environment", channel, bool(os.environ.get("QISKIT_IBM_INSTANCE"))))
    for name, account in QiskitRuntimeService.saved_accounts().items():
        found.append(SavedAccount(name, str(account.get("channel") or ""), bool(account.get("instance"))))
    return tuple(found)
