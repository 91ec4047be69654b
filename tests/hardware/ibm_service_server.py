"""A local HTTP server that speaks the routes of IBM's quantum service, for the unmodified client.

with IbmServiceServer(ServiceState()) as server:
    monkeypatch.setenv(...)  # server.environment("token")
    QiskitRuntimeService()
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import socket
import threading
import time
import uuid
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlparse

from ibm_service_simulation import fake_backend
from ibm_service_state import FINAL, Fault, ServiceState

API = "/experimental/api/v1"
CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/account:instance::"
ROUTES = [
    ("POST", r"/identity/token", "token"),
    ("POST", r"/gs/v3/resources/search", "search"),
    ("GET", r"/gc/(?P<plan>[^/]+)", "catalog"),
    ("GET", rf"{API}/backends", "backends"),
    ("GET", rf"{API}/backends/(?P<name>[^/]+)/(?P<what>configuration|properties|status)", "backend"),
    ("GET", rf"{API}/instances/usage", "usage"),
    ("POST", rf"{API}/jobs", "submit"),
    ("GET", rf"{API}/jobs", "list"),
    ("GET", rf"{API}/jobs/(?P<id>[^/]+)", "job"),
    ("DELETE", rf"{API}/jobs/(?P<id>[^/]+)", "delete"),
    ("GET", rf"{API}/jobs/(?P<id>[^/]+)/results", "result"),
    ("GET", rf"{API}/jobs/(?P<id>[^/]+)/metrics", "metrics"),
    ("GET", rf"{API}/jobs/(?P<id>[^/]+)/logs", "logs"),
    ("POST", rf"{API}/jobs/(?P<id>[^/]+)/cancel", "cancel"),
    ("PUT", rf"{API}/jobs/(?P<id>[^/]+)/tags", "tags"),
    ("POST", rf"{API}/sessions", "open_session"),
    ("GET", rf"{API}/sessions/(?P<id>[^/]+)", "session"),
    ("PATCH", rf"{API}/sessions/(?P<id>[^/]+)", "session"),
    ("DELETE", rf"{API}/sessions/(?P<id>[^/]+)/close", "close_session"),
]


class Refusal(Exception):
    """An answer other than success."""

    def __init__(self, status: int, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet: clients that were killed reset their connections."""


class IbmServiceServer:
    """The server; stop and start it again to restart the service: its state stays."""

    def __init__(self, state: ServiceState) -> None:
        self.state = state
        self.port = 0
        self._http: ThreadingHTTPServer | None = None
        self._open: set[socket.socket] = set()

    def start(self) -> IbmServiceServer:
        handler = type("Handler", (_Handler,), {"state": self.state, "open": self._open})
        self._http = _Server(("127.0.0.1", self.port), handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None
            for connection in list(self._open):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> IbmServiceServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def environment(self, token: str) -> dict[str, str]:
        """Return the variables that point the client here."""
        base = f"http://127.0.0.1:{self.port}"
        return {
            "QISKIT_IBM_TOKEN": token,
            "QISKIT_IBM_INSTANCE": CRN,
            "QISKIT_IBM_CHANNEL": "ibm_quantum_platform",
            "QISKIT_IBM_URL": f"{base}{API}",
            "IAM_URL": base,
            "GLOBAL_SEARCH_URL": f"{base}/gs",
            "GLOBAL_CATALOG_URL": f"{base}/gc",
        }


class _Handler(BaseHTTPRequestHandler):
    state: ServiceState
    open: set[socket.socket]
    protocol_version = "HTTP/1.1"
    # Otherwise the body waits 40 ms for the acknowledgement of the headers.
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.open.add(self.connection)

    def finish(self) -> None:
        self.open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, *_: Any) -> None:
        """Stay quiet."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def do_PATCH(self) -> None:
        self._serve("PATCH")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        url = urlparse(self.path)
        self._query = parse_qs(url.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for verb, pattern, route in ROUTES:
            match = re.fullmatch(pattern, url.path)
            if verb == method and match:
                return self._route(route, match.groupdict(), body)
        return self._answer(404, {"error": {"message": f"no route {method} {url.path}", "code": 1}})

    def _route(self, route: str, parts: dict[str, str], body: bytes) -> None:
        fault = self.state.fault_of(parts.get("what", route))
        if fault is not None and self._before(fault, body):
            return
        try:
            self._check_token(route)
            answer = getattr(self, f"_{route}")(body=body, **parts)
        except Refusal as refusal:
            self._answer(refusal.status, {"error": {"message": str(refusal), "code": refusal.code}})
            return
        if fault is not None and self._after(fault, answer):
            return
        self._answer(204 if answer is None else 200, answer)

    def _before(self, fault: Fault, body: bytes) -> bool:
        """Misbehave before the request is looked at; return whether that was all."""
        if fault.kind == "drop_before":
            self._drop()
        elif fault.kind == "late":
            self.state.accept(json.loads(body), fault.seconds or 0.0)
            self._drop()
        elif fault.kind in ("hang", "hang_then_serve"):
            time.sleep(fault.seconds or 60.0)
            if fault.kind == "hang_then_serve":
                return False
            self._drop()
        elif fault.kind == "429":
            headers = {} if fault.seconds is None else {"Retry-After": f"{fault.seconds:g}"}
            self._answer(429, {"error": {"message": "too many requests", "code": 1429}}, headers)
        elif fault.kind in ("500_before", "400", "401", "403", "404", "503"):
            self._answer(int(fault.kind[:3]), {"error": {"message": f"fault {fault.kind}", "code": 1}})
        elif fault.kind == "empty":
            self._answer(200, {})
        elif fault.kind == "list":
            self._answer(200, [{"a": 1}])
        elif fault.kind == "html":
            self._send(200, b"<html><body>Please log in</body></html>", "text/html", {})
        else:
            return False
        return True

    def _after(self, fault: Fault, answer: Any) -> bool:
        """Misbehave although the request was carried out."""
        if fault.kind == "drop_after":
            self._drop()
        elif fault.kind == "hang_after":
            time.sleep(fault.seconds or 60.0)
            self._drop()
        elif fault.kind == "500_after":
            self._answer(500, {"error": {"message": "fault 500_after", "code": 1}})
        elif fault.kind == "truncate":
            text = answer if isinstance(answer, str) else json.dumps(answer)
            self._send(200, text.encode(), "application/json", {}, cut=len(text) // 2)
        else:
            return False
        return True

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        text = "" if content is None else content if isinstance(content, str) else json.dumps(content)
        self._send(status, text.encode(), "application/json", headers or {})

    def _send(
        self, status: int, body: bytes, kind: str, headers: dict[str, str], cut: int | None = None
    ) -> None:
        try:
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[:cut])
            if cut is not None:
                self._drop()
        except OSError:
            self.close_connection = True

    def _check_token(self, route: str) -> None:
        if route in ("token", "search", "catalog"):
            return
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given not in self.state.tokens:
            raise Refusal(401, "The token is not valid (any more).", 1200)

    # Routes. Each returns the content of its answer; None stands for 204 without content.

    def _token(self, body: bytes) -> Any:
        now = int(time.time())
        claims = {"iat": now, "exp": now + 3600, "jti": uuid.uuid4().hex}
        parts = [{"alg": "HS256", "typ": "JWT"}, claims]
        encoded = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts
        ]
        token = ".".join([*encoded, "c2lnbmF0dXJl"])
        self.state.tokens.add(token)
        return {
            "access_token": token,
            "refresh_token": "none",
            "token_type": "Bearer",
            "expires_in": 3600,
            "expiration": now + 3600,
        }

    def _search(self, body: bytes) -> Any:
        item = {"crn": CRN, "name": "instance", "service_plan_unique_id": "plan", "tags": []}
        return {"items": [{**item, "doc": {"extensions": [{"key": "value"}]}}], "limit": 100}

    def _catalog(self, plan: str, body: bytes) -> Any:
        return {
            "name": plan,
            "overview_ui": {"en": {"display_name": self.state.plan.title()}},
            "metadata": {"pricing": {"type": "free"}},
        }

    def _backends(self, body: bytes) -> Any:
        return {"devices": [{"name": name, "status": {"name": "online"}} for name in self.state.devices]}

    def _backend(self, name: str, what: str, body: bytes) -> Any:
        if name not in self.state.devices:
            raise Refusal(404, f"backend {name} not found", 1216)
        if what == "status":
            found = {"state": True, "status": "active", "length_queue": 3, "backend_version": "1.0.0"}
            self.state.edits.get("status", lambda _content: None)(found)
            return found
        content = json.loads(json.dumps(_calibration(self.state.devices[name], what)))
        if what in self.state.edits:
            self.state.edits[what](content)
        return {**content, "backend_name": name}

    def _usage(self, body: bytes) -> Any:
        used = sum(2 * job.executions for job in self.state.jobs.values())
        limit = self.state.usage_limit_seconds
        return {
            "instance_id": CRN,
            "plan_id": "plan",
            "usage_consumed_seconds": limit if self.state.used_up else used,
            "usage_limit_seconds": limit,
            "usage_limit_reached": self.state.used_up,
            "usage_period": {"start_time": "2026-11-01T00:00:00Z", "end_time": "2026-11-29T00:00:00Z"},
        }

    def _submit(self, body: bytes) -> Any:
        payload = json.loads(body)
        if payload["backend"] not in self.state.devices:
            raise Refusal(404, f"backend {payload['backend']} not found", 1216)
        self.state.advance()
        waiting = sum(job.status == "Queued" for job in self.state.jobs.values())
        if self.state.pending_limit is not None and waiting >= self.state.pending_limit:
            raise Refusal(
                self.state.pending_status,
                f"The maximum number of pending jobs ({self.state.pending_limit}) is reached.",
                3458,
            )
        job = self.state.accept(payload)
        return {"id": job.id, "backend": job.backend}

    def _list(self, body: bytes) -> Any:
        self.state.advance()
        wanted = set(self._query.get("tags", []))
        found = [
            job for job in self.state.visible() if wanted <= set(job.tags) and job.listed_at <= time.time()
        ]
        limit, offset = (
            int(self._query.get(key, [default])[0]) for key, default in (("limit", 20), ("offset", 0))
        )
        page = [job.as_json() for job in found[offset : offset + limit]]
        return {"jobs": page, "count": len(found), "limit": limit, "offset": offset}

    def _found(self, id: str) -> Any:
        self.state.advance()
        job = next((one for one in self.state.visible() if one.id == id), None)
        if job is None:
            raise Refusal(404, f"Job not found. Job ID: {id}", 1291)
        return job

    def _job(self, id: str, body: bytes) -> Any:
        job = self._found(id)
        waiting = [one.id for one in reversed(self.state.visible()) if one.status == "Queued"]
        place = {"position_in_queue": 1 + waiting.index(id)} if id in waiting else {}
        return job.as_json() | place

    def _delete(self, id: str, body: bytes) -> Any:
        del self.state.jobs[self._found(id).id]

    def _result(self, id: str, body: bytes) -> Any:
        job = self._found(id)
        lost = 404 if job.private and job.read else self.state.lost_results.get(id)
        if lost:
            raise Refusal(lost, f"Job result not found. Job ID: {id}", 1291)
        job.read = True
        return job.result if job.result is not None else (job.reason or "")

    def _metrics(self, id: str, body: bytes) -> Any:
        job = self._found(id)
        known = job.status in FINAL and self.state.billed
        usage = {"status": "done" if known else "pending", "qpu_charge_time_seconds": job.seconds}
        return {"timestamps": {}, "usage": usage}

    def _logs(self, id: str, body: bytes) -> Any:
        return f"logs of {self._found(id).id}"

    def _cancel(self, id: str, body: bytes) -> Any:
        job = self._found(id)
        if job.status in FINAL:
            raise Refusal(409, "Job is in a final state", 1204)
        job.status = "Cancelled"

    def _tags(self, id: str, body: bytes) -> Any:
        self._found(id).tags = json.loads(body)["tags"]

    def _open_session(self, body: bytes) -> Any:
        wanted = json.loads(body)
        mode = wanted.get("mode")
        if mode == "dedicated" and self.state.plan == "open":
            raise Refusal(400, "You are not authorized to run a session when using the open plan.", 1352)
        identity = f"s{uuid.uuid4().hex[:10]}"
        self.state.sessions[identity] = {
            "id": identity,
            "mode": mode,
            "backend_name": wanted.get("backend"),
            "max_ttl": wanted.get("max_ttl"),
            "state": "open",
            "accepting_jobs": True,
        }
        return self.state.sessions[identity]

    def _session(self, id: str, body: bytes) -> Any:
        if body:
            self.state.sessions[id] |= json.loads(body)
            return None
        return self.state.sessions[id]

    def _close_session(self, id: str, body: bytes) -> Any:
        self.state.sessions[id]["state"] = "closed"


@lru_cache
def _calibration(name: str, what: str) -> dict[str, Any]:
    backend = fake_backend(name)
    file = backend.conf_filename if what == "configuration" else backend.props_filename
    return json.loads((Path(backend.dirname) / file).read_text())


if __name__ == "__main__":
    server = IbmServiceServer(ServiceState()).start()
    print(json.dumps(server.environment(os.environ.get("QISKIT_IBM_TOKEN", "local-token"))), flush=True)
    threading.Event().wait()
