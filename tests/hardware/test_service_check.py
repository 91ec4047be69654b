"""The check for a first account: silent where the service is as assumed, and exact about what differs."""

from __future__ import annotations

import json
import re

import pytest
from ibm_service_state import Fault
from outcome_checks import TOKEN
from plan_cases import settings_of
from typer.testing import CliRunner

from qhybrid.cli.main import app
from qhybrid.errors import HardwareError
from qhybrid.hardware.service_kinds import rules_of
from qhybrid.hardware.services.ibm.smoke import FIRST, LEARNING, MOST_SECONDS, SECOND
from qhybrid.hardware.settings import HardwareSettings

PATIENT = settings_of(patience={"resend_after_s": 60.0, "retries": 1})
HASTY = settings_of(patience={"resend_after_s": 0.3, "retries": 1})
# The small device has cx and no cz, which the check says.
GATES = "gates"


def differences(state, edit=lambda _state: None, settings=PATIENT):
    edit(state)
    found = rules_of(settings).check_service(settings, lambda _text: None)
    return {one.what: one for one in found if one.agrees is False and one.what != GATES}


def test_a_service_that_is_as_assumed(server, service_state):
    assert differences(service_state) == {}
    limits = [job.limit_seconds for job in service_state.jobs.values()]
    assert limits == [FIRST, SECOND]
    assert sum(limits) <= MOST_SECONDS
    assert all(job.status in ("Completed", "Cancelled") for job in service_state.jobs.values())


PEA = settings_of(patience={"resend_after_s": 60.0, "retries": 1}, mitigation="pea")


def test_learning_noise_is_tried_out_where_it_is_asked_for(server, service_state):
    assert differences(service_state, settings=PEA) == {}
    learning = list(service_state.jobs.values())[2]
    assert (learning.program, learning.limit_seconds) == ("noise-learner", LEARNING)
    assert len(service_state.jobs) == 3


def test_noise_of_other_qubits_is_told(server, service_state):
    def edit(state):
        honest = state.simulate
        state.simulate = lambda params, device: honest(params, device).replace(
            '"num_qubits":2', '"num_qubits":5'
        )

    assert set(differences(service_state, edit, PEA)) == {"noise that was learned"}


def _bill(seconds):
    return lambda state: setattr(state, "bill", lambda params, device: (0, seconds))


def _swapped(text):
    """The result without its mark."""
    return re.sub("qhybrid-request-", "another-request-", text)


def _other_results(state):
    honest = state.simulate
    state.simulate = lambda params, device: _swapped(honest(params, device))


def _other_shots(state):
    def more(params, device):
        params = json.loads(json.dumps(params))
        params["quantum_program"]["shots"] *= 2
        return honest(params, device)

    honest, state.simulate = state.simulate, more


@pytest.mark.parametrize(
    ("edit", "what", "found"),
    [
        (lambda state: setattr(state, "listing_seconds", 3600.0), "listed by its tag", "not within"),
        (_bill(20.0), "bill of the job", "20 s"),
        (_other_results, "mark of the request in the result", "None"),
        (_other_shots, "shape of the result", "(3, 130, 2)"),
        (lambda state: state.outcomes.append("failed"), "how the job ended", "failed"),
    ],
)
def test_what_differs_is_named(edit, what, found, server, service_state):
    seen = differences(service_state, edit, HASTY if "listed" in what else PATIENT)
    assert found in seen[what].found
    waiting = [job for job in service_state.jobs.values() if job.status == "Queued"]
    assert waiting == []


def test_too_little_time_is_told_before_anything_is_sent(server, service_state):
    service_state.usage_limit_seconds = 9
    with pytest.raises(HardwareError, match="must have 10 s left for this check"):
        differences(service_state)
    assert service_state.jobs == {}


def test_what_was_sent_is_stopped_where_the_check_breaks_off(server, service_state):
    service_state.queue_seconds = 60.0
    service_state.faults = [Fault("usage", "500_before", times=0), Fault("metrics", "404", times=99)]
    seen = differences(service_state, settings=settings_of(patience={"deadline_s": 0.2, "retries": 0}))
    assert "the cost of job" in seen["this check"].found
    assert [job.status for job in service_state.jobs.values()] == ["Cancelled"]


def test_the_command(server, service_state):
    patience = ["--set", "patience.poll_s=0.02", "--set", "mode=job"]
    result = CliRunner().invoke(app, ["hardware", "check", "ibm_manila", *patience])
    assert result.exit_code == 1  # its gates are others
    assert "differs     gates" in result.output
    assert TOKEN not in result.output


def test_a_fake_device_has_no_service_to_check():
    settings = HardwareSettings(backend="fake_manila")
    with pytest.raises(HardwareError, match="must have a check of its own"):
        rules_of(settings).check_service(settings, print)


@pytest.mark.parametrize(("route", "kind"), [("job", "list"), ("list", "html"), ("metrics", "list")])
def test_what_was_seen_is_told_where_the_service_gives_up(route, kind, server, service_state):
    """Answers that are none: no traceback, the findings so far are paid for, and nothing is left running."""
    service_state.queue_seconds = 1e6 if route == "list" else 0.0
    service_state.faults = [Fault(route, kind, times=10**6)]
    settings = settings_of(patience={"retries": 0, "resend_after_s": 0.1, "deadline_s": 1.0})
    found = rules_of(settings).check_service(settings, lambda _text: None)
    assert found[-1].what == "this check"
    assert found[-1].agrees is False
    assert any(one.agrees for one in found)
    assert route == "job" or not any(job.status == "Queued" for job in service_state.jobs.values())
