"""No secret reaches screen, ledger, plan, results, logs or traceback, however it is quoted."""

from __future__ import annotations

import base64
import html
import json
import logging
import traceback
import warnings
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ibm_service_state import Fault
from outcome_checks import TOKEN
from plan_cases import map_workload, quick

from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.services.ibm.secrets import Scrubber, scrub_logs, scrubbed_warnings, secrets_of

PASSWORD = "m@rked/pass word&\"1'"
KEY = "MARKED-IAM-KEY-+/=%"
WAYS = {
    "plain": str,
    "in an address": lambda secret: quote(secret, safe=""),
    "in a form": quote_plus,
    "lower case escapes": lambda secret: (
        quote(secret, safe="").lower() if secret.islower() else quote(secret, safe="")
    ),
    "in JSON": lambda secret: json.dumps({"a": secret}),
    "as Python shows it": lambda secret: repr([secret]),
    "in JSON in JSON": lambda secret: json.dumps(json.dumps(secret)),
    "in HTML": html.escape,
    "in base64": lambda secret: base64.b64encode(secret.encode()).decode(),
}


def is_hidden(secret, text):
    forms = {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    forms |= {html.escape(secret), base64.b64encode(secret.encode()).decode()}
    return not any(form in text for form in forms)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("secret", [TOKEN, PASSWORD, KEY])
def test_all_ways_of_quoting_are_hidden(way, secret):
    text = f"before {WAYS[way](secret)} after"
    found = Scrubber([secret])(text)
    assert is_hidden(secret, found)
    assert found.startswith("before ")
    assert found.endswith(" after")


@given(st.text(min_size=6, max_size=40))
def test_any_secret_is_hidden(secret):
    scrub = Scrubber([secret])
    for way in WAYS.values():
        assert is_hidden(secret, scrub(f"<{way(secret)}>")) or secret in "<[token hidden]>"


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "http_proxy", "QISKIT_IBM_URL", "IAM_URL"])
def test_passwords_of_addresses_are_known(name, monkeypatch):
    monkeypatch.setenv(name, f"http://user:{quote(PASSWORD, safe='')}@host:8080/path")
    scrub = Scrubber()
    basic = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
    for text in (PASSWORD, quote(PASSWORD, safe=""), f"Proxy-Authorization: Basic {basic}"):
        found = scrub(f"it said {text}.")
        assert is_hidden(PASSWORD, found)
        assert basic not in found


@pytest.mark.parametrize(
    "text",
    [
        "http://user:pw@host/path",
        "ProxyError('https://user:p%40w@host:8080', timeout)",
        "{'Authorization': 'apikey abcdefghijkl'}",
        "Authorization: Bearer abcdef.ghijkl",
    ],
)
def test_secrets_that_nobody_knows_are_told_by_their_place(text):
    found = Scrubber()(text)
    assert not any(part in found for part in ("user", "pw", "p%40w", "abcdef"))


@pytest.mark.parametrize("name", ["IBMCLOUD_API_KEY", "QISKIT_IBM_TOKEN", "MY_SECRET", "DB_PASSWORD"])
def test_secrets_of_the_environment_are_known(name, monkeypatch):
    monkeypatch.setenv(name, KEY)
    assert is_hidden(KEY, Scrubber()(f"the key {KEY}"))


def test_secrets_of_saved_accounts_are_known():
    account = {
        "token": TOKEN,
        "channel": "ibm_quantum_platform",
        "proxies": {
            "urls": {"https": f"http://me:{quote(PASSWORD, safe='')}@proxy"},
            "password_ntlm": KEY,
        },
    }
    found = secrets_of({"default": account})
    assert {TOKEN, PASSWORD, KEY} <= set(found)
    assert "ibm_quantum_platform" not in found


def test_logs_and_warnings_of_the_client_are_scrubbed(caplog):
    scrub_logs(Scrubber([KEY]))
    caplog.set_level(logging.DEBUG)
    logging.getLogger("qiskit_ibm_runtime.api.session").warning("answer %s", f"{{'key': {KEY!r}}}")
    logging.getLogger("urllib3.connectionpool").debug("GET http://a:bcd@host %d", 200)
    # Under this name the client's SDK writes every message of HTTP.
    logging.getLogger("ibm-cloud-sdk-core").debug(f"send: b'X-Key: {KEY}' http://a:bcd@host")
    logging.getLogger("of.others").warning("untouched %s", "words")
    assert "untouched words" in caplog.text
    assert is_hidden(KEY, caplog.text)
    assert "bcd" not in caplog.text
    with pytest.warns(UserWarning, match="used instead") as caught, scrubbed_warnings(Scrubber([KEY])):
        warnings.warn(f"API key {KEY} is used instead", UserWarning, stacklevel=1)
    assert is_hidden(KEY, str(caught[0].message))


FAULTS = [None, Fault("list", "401", times=500), Fault("job", "html", times=500)]


@pytest.mark.parametrize("fault", FAULTS)
def test_marked_secrets_are_nowhere(fault, server, service_state, tmp_path, caplog, capfd, monkeypatch):
    """The address of the service has a password, the environment a key, and the service echoes both."""
    monkeypatch.setenv(
        "QISKIT_IBM_URL",
        f"http://user:{quote(PASSWORD, safe='')}@127.0.0.1:{server.port}/experimental/api/v1",
    )
    monkeypatch.setenv("IBMCLOUD_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    service_state.outcomes = [] if fault else ["failed"]
    service_state.reason = f"device said {KEY} and http://user:{PASSWORD}@host"
    workload = map_workload(1)
    patience = {"poll_s": 0.02, "resend_after_s": 0.1, "retries": 1, "attempts": 2}
    folder = make_plan(workload, quick(backend="ibm_manila", patience=patience), tmp_path)
    service_state.faults = [] if fault is None else [fault]
    said: list[str] = []
    text = ""
    try:
        with open_plan(folder, lambda *_: workload, say=said.append) as execution:
            write_outcome(execution, execution.run())
    except HardwareError as error:
        text = "".join(traceback.format_exception(error))
    printed = capfd.readouterr()
    everything = text + caplog.text + printed.out + printed.err + "".join(said)
    for file in tmp_path.rglob("*"):
        if file.is_file():
            everything += file.read_bytes().decode("utf-8", errors="replace")
    for secret in (TOKEN, PASSWORD, KEY):
        assert is_hidden(secret, everything)
    assert fault is None or text
