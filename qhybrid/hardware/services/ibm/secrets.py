"""Secrets of an account, and texts without them: tokens, keys, passwords in addresses and proxy settings.

Exceptions of the client hold whole addresses and requests, so every text of it passes through a `Scrubber`,
its warnings and log records included.
"""

from __future__ import annotations

import base64
import html
import json
import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

HIDDEN = "[token hidden]"
SHORTEST = 6
"""Shorter secrets could be parts of words; in addresses and headers they are hidden by their place."""
NAMES = re.compile(r"TOKEN|API_?KEY|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
"""Names of variables and settings whose values are secrets."""
ADDRESSES = re.compile(r"PROX|URL|ENDPOINT", re.IGNORECASE)
"""Names of variables and settings whose values may be addresses with a password."""
ACCESS_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]*")
"""What the service gives for the account's token: a JSON web token."""
USER = re.compile(r"(?<=://)[^/?#\s'\"]+@")
"""Name and password in front of an address."""
HEADER = re.compile(r"\b(bearer|apikey|basic)(\s+|%20)[\w.~+/=%-]{6,}", re.IGNORECASE)
"""Value of a header that signs in."""
LOGGERS = ("qiskit_ibm_runtime", "urllib3", "ibm-cloud-sdk-core", "ibm_platform_services", "requests")
"""Of the client and what it stands on. One of them writes whole messages of HTTP where DEBUG is on."""


class Scrubber:
    """Replaces secrets in texts, however they are quoted, and whatever looks like an access token.

    Args:
        secrets: Texts that must not appear.
    """

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        known = {one for one in [*secrets, *secrets_of(os.environ)] if one and len(one) >= SHORTEST}
        forms = {form for one in known for form in _forms(one)}
        self._secrets = sorted(forms, key=len, reverse=True)

    def __call__(self, text: object) -> str:
        """Return a text without the secrets."""
        result = str(text)
        for secret in self._secrets:
            result = result.replace(secret, HIDDEN)
        result = USER.sub(f"{HIDDEN}@", result)
        result = HEADER.sub(lambda found: f"{found[1]} {HIDDEN}", result)
        return ACCESS_TOKEN.sub(HIDDEN, result)


def secrets_of(settings: Mapping[str, Any]) -> list[str]:
    """Return the secrets in settings: of the environment, or of a saved account with its proxies.

    Args:
        settings: Values by name, nested.
    """
    found: list[str] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            inner = value.values() if ADDRESSES.search(str(name)) else ()
            found += [one for text in inner for one in _passwords(str(text))]
            found += secrets_of(value)
        elif isinstance(value, str) and NAMES.search(str(name)):
            found.append(value)
        elif isinstance(value, str) and ADDRESSES.search(str(name)):
            found += _passwords(value)
    return found


def _passwords(address: str) -> list[str]:
    """Return the password of an address, as it stands there and as it is meant, with its user."""
    try:
        password = urlsplit(address if "://" in address else f"//{address}").password
        user = urlsplit(address if "://" in address else f"//{address}").username
    except ValueError:
        return []
    if not password:
        return []
    plain = [unquote(password), f"{unquote(user or '')}:{unquote(password)}"]
    return [password, *plain, base64.b64encode(plain[1].encode()).decode()]


def _forms(secret: str) -> set[str]:
    """Return the ways in which a secret may be quoted in a message."""
    plain = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), html.escape(secret)}
    plain |= {json.dumps(secret)[1:-1], repr(secret)[1:-1], base64.b64encode(secret.encode()).decode()}
    plain |= {re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), one) for one in plain}
    # A message in a message is quoted once more.
    return plain | {json.dumps(one)[1:-1] for one in plain} | {repr(one)[1:-1] for one in plain}


@contextmanager
def scrubbed_warnings(scrub: Scrubber) -> Iterator[None]:
    """Give warnings of the client without secrets."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            told = [(scrub(one.message), one.category) for one in caught]
    for text, category in dict.fromkeys(told):
        warnings.warn(text, category, stacklevel=3)


def scrub_logs(scrub: Scrubber) -> None:
    """Let log records of the client pass through a scrubber, whichever handler takes them."""
    factory = logging.getLogRecordFactory()
    while isinstance(factory, _Factory):
        factory = factory.inner
    logging.setLogRecordFactory(_Factory(factory, scrub))


class _Factory:
    """Makes log records; those of the client without secrets."""

    def __init__(self, inner: Any, scrub: Scrubber) -> None:
        self.inner, self._scrub = inner, scrub

    def __call__(self, *arguments: Any, **options: Any) -> logging.LogRecord:
        record: logging.LogRecord = self.inner(*arguments, **options)
        if record.name.split(".")[0] in LOGGERS:
            try:
                text = record.getMessage()
            except (TypeError, ValueError):
                text = str(record.msg)
            record.msg, record.args, record.exc_info = self._scrub(text), (), None
        return record
