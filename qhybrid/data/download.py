"""Downloads that can be interrupted, are checked, and appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests

from qhybrid.errors import DataError, WorkspaceError

Progress = Callable[[int, "int | None"], None]
_CHUNK = 1 << 16
"""Bytes written at once; what has come of an unfinished chunk is lost when the transfer breaks off."""
_SPARE_BYTES = 64 << 20
"""Disk space left free for others."""
_RETRIED_STATUS = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class _Part:
    """What a partial download belongs to, kept beside it."""

    url: str
    validator: str | None
    total: int | None


def check_disk_space(folder: Path, needed: int) -> None:
    """Check that a folder's disk has room.

    Raises:
        WorkspaceError: If it has not; the message says how much is missing.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed + _SPARE_BYTES:
        raise WorkspaceError(
            f"{folder}: {(needed + _SPARE_BYTES) / 2**20:,.0f} MiB of disk space are needed, but "
            f"{free / 2**20:,.0f} MiB are free. Fix: free disk space or choose another folder."
        )


def file_digest(path: Path, algorithm: str) -> str:
    """Return the hexadecimal digest of a file."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def _check_digest(path: Path, shown: Path, sha256: str | None, md5: str | None) -> None:
    for algorithm, expected in (("sha256", sha256), ("md5", md5)):
        if expected is None:
            continue
        found = file_digest(path, algorithm)
        if found != expected.lower():
            raise DataError(
                f"{shown}: {algorithm} must be {expected.lower()}, but is {found}: the file is damaged or "
                "another one. Fix: remove it if it is there, and download again; check the address."
            )


class _Download:
    """One file on its way to `target`, by way of `<target>.part` and `<target>.part.json`."""

    def __init__(self, url: str, target: Path, expected_size: int | None, progress: Progress | None) -> None:
        self.url = url
        self.target = target
        self.expected_size = expected_size
        self.progress = progress
        self.part = target.with_name(f"{target.name}.part")
        self.notes = target.with_name(f"{target.name}.part.json")

    def known(self) -> _Part | None:
        """Return what the partial file belongs to, if the download can be resumed."""
        if not self.part.is_file():
            return None
        try:
            known = _Part(**json.loads(self.notes.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
        # Without an ETag or a date nothing tells whether the rest would be of the same file.
        return known if known.url == self.url and known.validator else None

    def forget(self) -> None:
        """Remove the partial file."""
        self.part.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)

    def attempt(self, session: requests.Session, timeout: float) -> None:
        """Send one request and append its body; an error of `requests` means a lost connection."""
        known = self.known()
        start = self.part.stat().st_size if known else 0
        headers = {"Accept-Encoding": "identity"}
        if known and start:
            headers |= {"Range": f"bytes={start}-", "If-Range": str(known.validator)}
        with session.get(self.url, headers=headers, stream=True, timeout=timeout) as response:
            if response.status_code == 416 and known:
                if known.total == start:
                    return
                self.forget()
                raise requests.ConnectionError(
                    "the server has less than was already received; starting again"
                )
            if response.status_code in _RETRIED_STATUS:
                raise requests.ConnectionError(f"the server answers {response.status_code} {response.reason}")
            if response.status_code not in (200, 206):
                raise DataError(
                    f"{self.url}: the server answers {response.status_code} {response.reason}. Fix: check "
                    f"the address."
                )
            validator = _validator(response)
            start, total = self._start_and_total(response, known, start, validator)
            self._check_size(total)
            check_disk_space(self.target.parent, (total or self.expected_size or 0) - start)
            self.notes.write_text(json.dumps(asdict(_Part(self.url, validator, total))), encoding="utf-8")
            self._receive(response, start, total)

    def _start_and_total(
        self, response: requests.Response, known: _Part | None, start: int, validator: str | None
    ) -> tuple[int, int | None]:
        """Say where the body starts in the file, and how long the file is."""
        if response.status_code == 200:  # no ranges here, or the file has changed: from the beginning
            length = response.headers.get("Content-Length")
            return 0, int(length) if length and length.isdecimal() else None
        span, _, size = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = span.partition("-")[0]
        total = int(size) if size.isdecimal() else None
        same = (
            known is not None
            and first == str(start)
            and total == known.total
            and validator == known.validator
        )
        if not same:
            self.forget()
            raise requests.ConnectionError("the server's file has changed; starting again")
        return start, total

    def _check_size(self, total: int | None) -> None:
        if self.expected_size is not None and total is not None and total != self.expected_size:
            self.forget()
            raise DataError(
                f"{self.url}: the file must have {self.expected_size} bytes, but the server's has {total}. "
                "Fix: check the address."
            )

    def _receive(self, response: requests.Response, start: int, total: int | None) -> None:
        received = start
        with self.part.open("ab" if start else "wb") as handle:
            for chunk in response.iter_content(_CHUNK):
                handle.write(chunk)
                received += len(chunk)
                if self.progress is not None:
                    self.progress(received, total)
            handle.flush()
            os.fsync(handle.fileno())
        if total is not None and received != total:
            raise requests.ConnectionError(f"the transfer ended after {received} of {total} bytes")


def _validator(response: requests.Response) -> str | None:
    """Return what tells this version of the file from others: a strong ETag, else the date of change."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return str(etag)
    date = response.headers.get("Last-Modified")
    return str(date) if date else None


def fetch(
    url: str,
    target: str | Path,
    sha256: str | None = None,
    md5: str | None = None,
    expected_size: int | None = None,
    progress: Progress | None = None,
    attempts: int = 5,
    backoff_s: float = 1.0,
    timeout_s: float = 60.0,
) -> Path:
    """Download a file; a later call resumes an interrupted one.

    A file that is already there with the right checksum is not downloaded again.

    Args:
        url: Address (http or https).
        target: The file; its folder is created.
        sha256: Checksum that the file must have.
        md5: Checksum that the file must have.
        expected_size: Bytes that the file must have.
        progress: Called with (bytes so far, bytes in all or None).
        attempts: Requests without any progress after which to give up.
        backoff_s: Seconds before the second request; doubled before each further one.
        timeout_s: Seconds without an answer or a byte after which a request has failed.

    Returns:
        The file.

    Raises:
        DataError: If the server refuses, or size or checksum are wrong.
        WorkspaceError: If the disk is too small, or the server cannot be reached. What has come stays for
            the next
            call.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise DataError(f"{url}: an address must start with http:// or https://.")
    final = Path(target)
    if final.exists():
        _check_digest(final, final, sha256, md5)
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    download = _Download(url, final, expected_size, progress)
    with requests.Session() as session:
        _until_complete(download, session, attempts, backoff_s, timeout_s)
    try:
        if expected_size is not None and download.part.stat().st_size != expected_size:
            raise DataError(
                f"{url}: {expected_size} bytes must come, but {download.part.stat().st_size} came."
            )
        _check_digest(download.part, final, sha256, md5)
    except DataError:
        download.forget()
        raise
    download.part.replace(final)
    download.notes.unlink(missing_ok=True)
    return final


def _until_complete(
    download: _Download, session: requests.Session, attempts: int, backoff_s: float, timeout_s: float
) -> None:
    failures, reached = 0, 0
    while True:
        try:
            download.attempt(session, timeout_s)
            return
        except OSError as error:  # requests' errors are OSErrors, as a full disk is
            if isinstance(error, requests.exceptions.InvalidURL):
                raise DataError(f"{download.url}: is not a valid address ({error}).") from error
            if not isinstance(error, requests.RequestException):
                raise
            size = download.part.stat().st_size if download.part.exists() else 0
            failures, reached = (1 if size > reached else failures + 1), size
            if failures >= attempts:
                raise WorkspaceError(
                    f"{download.url}: cannot be downloaded ({error}); {size:,} bytes are kept in "
                    f"{download.part}. Fix: check the connection and start again: it goes on from there."
                ) from error
        time.sleep(backoff_s * 2 ** (failures - 1))
