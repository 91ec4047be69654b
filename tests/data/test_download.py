import hashlib
import threading
from collections import namedtuple
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from qhybrid.data import download
from qhybrid.data.download import fetch
from qhybrid.errors import DataError, WorkspaceError

CONTENT = bytes(range(256)) * 8192  # 2 MiB
CHUNK = 1 << 16
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = {"backoff_s": 0.001, "timeout_s": 10}


class Server:
    """What the server offers, how it behaves, and what it was asked for."""

    def __init__(self):
        self.content = CONTENT
        self.etag = '"one"'
        self.date = None
        self.ranges = True
        self.if_range = True
        self.cut_after = []  # bytes after which each of the next answers breaks off
        self.statuses = []  # statuses of the next answers
        self.length = True
        self.requests = []
        self.sent = 0
        self.url = ""

    def answer(self, handler):
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append(headers)
        status = self.statuses.pop(0) if self.statuses else 200
        if status != 200:
            handler.send_response(status)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = (
            int(headers["range"].removeprefix("bytes=").rstrip("-"))
            if "range" in headers and self.ranges
            else 0
        )
        if self.if_range and headers.get("if-range", self.etag or self.date) != (self.etag or self.date):
            start = 0
        if start and start >= len(self.content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.length:
            handler.send_header("Content-Length", str(len(body)))
        if self.etag:
            handler.send_header("ETag", self.etag)
        if self.date:
            handler.send_header("Last-Modified", self.date)
        handler.end_headers()
        body = body[: self.cut_after.pop(0)] if self.cut_after else body
        self.sent += len(body)  # before the client can have the last byte, and look
        handler.wfile.write(body)
        handler.close_connection = True


@contextmanager
def serving(server):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.answer(self)

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/archive.zip"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.fixture
def server():
    with serving(Server()) as running:
        yield running


@pytest.fixture
def target(tmp_path):
    return tmp_path / "sets" / "archive.zip"


def names(target):
    return sorted(path.name for path in target.parent.iterdir()) if target.parent.exists() else []


def test_download_with_progress_and_checksums(server, target):
    seen = []
    found = fetch(
        server.url, target, SHA256, MD5.upper(), len(CONTENT), lambda *step: seen.append(step), **QUICK
    )
    assert found.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert names(target) == ["archive.zip"]
    fetch(server.url, target, SHA256, **QUICK)
    assert len(server.requests) == 1  # what is there and right is not downloaded again


def test_an_interrupted_transfer_goes_on_where_it_stopped(server, target):
    server.cut_after = [11 * CHUNK, 5 * CHUNK + 100]
    assert fetch(server.url, target, SHA256, **QUICK).read_bytes() == CONTENT
    assert [request.get("range") for request in server.requests] == [
        None,
        f"bytes={11 * CHUNK}-",
        f"bytes={16 * CHUNK}-",
    ]
    assert [request.get("if-range") for request in server.requests] == [None, '"one"', '"one"']
    assert server.sent == len(CONTENT) + 100  # of an unfinished chunk


def test_a_later_call_goes_on_too(server, target):
    server.cut_after = [8 * CHUNK]
    with pytest.raises(WorkspaceError, match=r"524,288 bytes are kept in .*archive.zip.part.*start again"):
        fetch(server.url, target, SHA256, attempts=1, **QUICK)
    assert names(target) == ["archive.zip.part", "archive.zip.part.json"]
    assert fetch(server.url, target, SHA256, **QUICK).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)
    assert names(target) == ["archive.zip"]


def test_a_date_serves_where_there_is_no_etag(server, target):
    server.etag, server.date = None, "Wed, 21 Oct 2020 07:28:00 GMT"
    server.cut_after = [8 * CHUNK]
    assert fetch(server.url, target, SHA256, **QUICK).read_bytes() == CONTENT
    assert server.requests[1]["if-range"] == server.date
    assert server.sent == len(CONTENT)


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_the_file_starts_again(server, target, etag):
    server.etag = etag
    server.cut_after = [8 * CHUNK]
    assert fetch(server.url, target, SHA256, **QUICK).read_bytes() == CONTENT
    assert "range" not in server.requests[1]


def test_a_server_without_ranges_starts_again(server, target):
    server.ranges = False
    server.cut_after = [8 * CHUNK]
    assert fetch(server.url, target, SHA256, **QUICK).read_bytes() == CONTENT
    assert server.sent == len(CONTENT) + 8 * CHUNK


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changes_between_attempts_starts_again(server, target, if_range):
    server.cut_after, server.if_range = [8 * CHUNK], if_range
    with pytest.raises(WorkspaceError):
        fetch(server.url, target, attempts=1, **QUICK)
    server.content, server.etag = CONTENT[::-1] + b"more", '"two"'
    assert fetch(server.url, target, **QUICK).read_bytes() == server.content


def test_a_file_that_has_become_shorter_starts_again(server, target):
    server.cut_after, server.if_range = [8 * CHUNK], False
    with pytest.raises(WorkspaceError):
        fetch(server.url, target, attempts=1, **QUICK)
    server.content, server.etag = b"short", '"two"'
    assert fetch(server.url, target, **QUICK).read_bytes() == b"short"


def test_a_part_of_another_address_is_not_used(server, target):
    server.cut_after = [8 * CHUNK]
    with pytest.raises(WorkspaceError):
        fetch(server.url + "?other", target, attempts=1, **QUICK)
    fetch(server.url, target, SHA256, **QUICK)
    assert "range" not in server.requests[-1]


def test_killed_after_the_last_byte(server, target):
    """Everything is there but was not moved: the server answers 416, or nothing more comes."""
    fetch(server.url, target, **QUICK)
    target.rename(target.with_name("archive.zip.part"))
    notes = {"url": server.url, "validator": '"one"', "total": len(CONTENT)}
    import json

    target.with_name("archive.zip.part.json").write_text(json.dumps(notes))
    assert fetch(server.url, target, SHA256, **QUICK).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_damaged_notes_start_again(server, target):
    target.parent.mkdir()
    target.with_name("archive.zip.part").write_bytes(b"garbage")
    target.with_name("archive.zip.part.json").write_text("{")
    assert fetch(server.url, target, SHA256, **QUICK).read_bytes() == CONTENT


@pytest.mark.parametrize("checksum", [{"md5": "0" * 32}, {"sha256": "0" * 64}])
def test_a_wrong_checksum_leaves_nothing(server, target, checksum):
    (algorithm, value), *_ = checksum.items()
    with pytest.raises(DataError, match=rf"archive.zip: {algorithm} must be {value}, but is"):
        fetch(server.url, target, **checksum, **QUICK)
    assert names(target) == []


def test_a_wrong_file_in_the_way_is_kept_and_named(server, target):
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(DataError, match=r"archive.zip: sha256 must be"):
        fetch(server.url, target, SHA256, **QUICK)
    assert target.read_bytes() == b"mine"


def test_too_little_disk_is_noticed_before_anything_is_written(server, target, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage(1 << 40, 0, 65 << 20))
    with pytest.raises(WorkspaceError, match=r"66 MiB of disk space are needed, but 65 MiB are free"):
        fetch(server.url, target, SHA256, **QUICK)
    assert names(target) == []


def test_another_size_is_noticed_before_the_transfer(server, target):
    with pytest.raises(DataError, match=r"must have 5 bytes, but the server's has 2097152"):
        fetch(server.url, target, expected_size=5, **QUICK)
    server.length = False
    with pytest.raises(DataError, match=r"5 bytes must come, but 2097152 came"):
        fetch(server.url, target, expected_size=5, **QUICK)
    assert names(target) == []


def test_busy_servers_are_asked_again(server, target):
    server.statuses = [503, 429, 500]
    assert fetch(server.url, target, SHA256, attempts=4, **QUICK).read_bytes() == CONTENT
    server.statuses = [503] * 3
    with pytest.raises(WorkspaceError, match="answers 503"):
        fetch(server.url, target.with_name("b.zip"), attempts=3, **QUICK)
    assert len(server.requests) == 4 + 3


def test_a_transfer_that_makes_progress_is_not_given_up(server, target):
    server.cut_after = [200_000] * 8
    assert fetch(server.url, target, SHA256, attempts=2, **QUICK).read_bytes() == CONTENT


def test_refusals_are_final(server, target):
    server.statuses = [404]
    with pytest.raises(DataError, match=r"answers 404.*check the address"):
        fetch(server.url, target, **QUICK)
    assert len(server.requests) == 1
    for url in ("file:///etc/passwd", "ftp://example.org/x", "nothing"):
        with pytest.raises(DataError, match="must start with http"):
            fetch(url, target)
    with pytest.raises(DataError, match="not a valid address"):
        fetch("http://*.example/x", target, **QUICK)


def test_an_unreachable_server(target):
    server = Server()
    with serving(server):
        url = server.url
    with pytest.raises(WorkspaceError, match="cannot be downloaded"):
        fetch(url, target, attempts=2, **QUICK)
