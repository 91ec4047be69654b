"""kill -9 at every step of submit and collect: afterwards nothing is lost, and nothing ran twice."""

from __future__ import annotations

import os
import signal

import requests
from ledger_files import watch_statements
from outcome_checks import check_complete, finish

from qhybrid.hardware.ledger import Ledger
from qhybrid.noise import NoiseProfile

WRITES = ("INSERT", "UPDATE", "COMMIT")


class KillAt:
    """Kills this process at its n-th step: each write of the ledger, before and after each send and fetch."""

    def __init__(self, number):
        self.left = number

    def step(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_statement(self, statement):
        if statement.startswith(WRITES):
            self.step()

    def install(self):
        watch_statements(self.on_statement)
        send = requests.Session.send

        def counted(session, request, **options):
            counts = request.method == "POST" or request.url.endswith("/results")
            if counts:
                self.step()
            response = send(session, request, **options)
            if counts:
                self.step()
            return response

        requests.Session.send = counted


def in_child(plan, number):
    """Run the whole plan in a forked process that is killed at a step; return whether it was."""
    child = os.fork()
    if child == 0:
        try:
            KillAt(number).install()
            finish(plan.context())
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def test_killed_at_every_step(make_plan, server, service_state, samples, tmp_path):
    killed = 0
    while True:
        service_state.jobs.clear()
        # One chunk holds everything: what is true of one is true of all.
        plan = make_plan(name=f"kill-{killed + 1}", limits={"jobs_per_minute": 1000.0})
        was_killed = in_child(plan, killed + 1)
        with (context := plan.context()).ledger:
            finish(context)
            check_complete(context, service_state, samples[1])
            # Killed anywhere, the one job ran once: no duplicate, nothing sent again.
            assert list(service_state.executions().values()) == [1]
        if not was_killed:
            break
        killed += 1
    assert killed >= 15


def test_only_one_process_works_on_a_plan(tmp_path):
    import pytest

    from qhybrid.errors import HardwareError
    from qhybrid.hardware.jobs.opening import locked

    with locked(tmp_path), pytest.raises(HardwareError, match="one process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_tags_are_on_disk_before_anything_is_sent(make_plan, server, service_state, monkeypatch):
    plan = make_plan()
    seen = []
    with (context := plan.context()).ledger:
        submit = context.service.submit

        def watched(package):
            with Ledger(plan.path, context.ledger.plan) as other:
                seen.append(package.tags[1] in {job.tag for job in other.jobs("sending")})
            return submit(package)

        monkeypatch.setattr(context.service, "submit", watched)
        finish(context)
    assert seen == [True] * 3


def test_calibration_is_plain_text(tmp_path):
    path = NoiseProfile.from_backend("fake_manila").save(tmp_path / "calibration.yaml")
    assert NoiseProfile.load(path).readout(0) == NoiseProfile.from_backend("fake_manila").readout(0)
