"""Two copies of a plan under kill -9 and faults at random moments: every chunk one bill and one result."""

from __future__ import annotations

import faulthandler
import logging
import os
import random
import shutil
import signal
import time
from dataclasses import dataclass, replace

import pytest
from ibm_service_state import Fault
from outcome_checks import check_complete, finish

from qhybrid.errors import HardwareError

PATIENCE = {"resend_after_s": 2.0, "read_timeout_s": 1.0, "send_timeout_s": 1.0, "retries": 6}
FAULTS = (
    ("submit", "drop_before"),
    ("submit", "drop_after"),
    ("submit", "500_before"),
    ("submit", "500_after"),
    ("submit", "hang_after"),
    ("submit", "429"),
    ("submit", "late"),
    ("submit", "html"),
    ("list", "drop_before"),
    ("list", "503"),
    ("list", "html"),
    ("job", "500_before"),
    ("job", "hang"),
    ("job", "html"),
    ("result", "truncate"),
    ("result", "drop_after"),
    ("metrics", "503"),
    ("token", "503"),
)
SECONDS = {"hang": 1.2, "hang_after": 1.2, "429": 0.05, "late": 0.3}
LONGEST = 180.0
"""Seconds after which a process that neither ends nor is killed counts as stuck."""
WAITING = 2
"""Faults that wait for a request: the client pauses seconds after one; with many more it would never end."""


@dataclass
class Copy:
    """A copy of the plan's folder and the process that works on it."""

    plan: object
    process: int | None = None
    since: float = 0.0
    done: bool = False

    def start(self):
        self.since = time.monotonic()
        self.process = os.fork()
        if self.process == 0:
            code = 1
            try:
                logging.disable(logging.CRITICAL)
                faulthandler.register(signal.SIGUSR1, file=self.stacks.open("w"))
                with (context := self.plan.context()).ledger:
                    finish(context, rounds=20)
                    code = 0
            except HardwareError:
                code = 2  # retries ran out: whoever starts it again goes on
            finally:
                os._exit(code)

    @property
    def stacks(self):
        """Where the process writes what it does when it is asked."""
        return self.plan.path.with_suffix(".stacks")

    def check_alive(self):
        """Fail, and say where the process stands, when it neither ends nor is killed for too long."""
        if time.monotonic() - self.since < LONGEST:
            return
        os.kill(self.process, signal.SIGUSR1)
        time.sleep(1.0)
        self.kill()
        pytest.fail(f"stuck for more than {LONGEST:g} s:\n{self.stacks.read_text()}")

    def look(self, options=os.WNOHANG):
        """Return whether the process has ended."""
        found, status = os.waitpid(self.process, options)
        if not found:
            return False
        self.process = None
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) in (0, 2)
            self.done = os.WEXITSTATUS(status) == 0
        return True

    def kill(self):
        """Return whether the process ended by the kill."""
        os.kill(self.process, signal.SIGKILL)
        _, status = os.waitpid(self.process, 0)
        self.process = None
        return os.WIFSIGNALED(status)


def undisturbed(make_plan, seed):
    """Return how long a process takes that nobody hurts: kills are to hit all of its steps."""
    copy = Copy(make_plan(name=f"undisturbed-{seed}", patience=PATIENCE))
    copy.start()
    copy.look(options=0)
    assert copy.done
    return time.monotonic() - copy.since


def work_on(copies, state, chance, left, usual):
    """Start, hurt and kill the processes of one plan until both are done; return the number of kills.

    A process takes a fraction of a second when nobody hurts it: after a dozen kills both may end.
    """
    kills, left = 0, min(left, chance.randint(4, 12))
    while not all(copy.done for copy in copies):
        for copy in copies:
            if copy.process is None and not copy.done:
                copy.start()
        if kills < left and chance.random() < 0.7 and sum(one.times for one in state.faults) < WAITING:
            route, kind = chance.choice(FAULTS)
            with state.lock:
                state.faults.append(Fault(route, kind, seconds=SECONDS.get(kind)))
        state.listing_seconds = chance.choice([0.0, 0.0, 0.4])
        time.sleep(chance.uniform(0.1, 1.2) * usual)
        for copy in copies:
            if copy.process is None or copy.look():
                continue
            copy.check_alive()
        running = [copy for copy in copies if copy.process is not None]
        if running and kills < left:
            kills += chance.choice(running).kill()
    return kills


def kill_often(number, seed, make_plan, state, exact, tmp_path):
    """Kill processes at random moments, over as many plans as that takes; check each plan at its end."""
    chance, kills, plans = random.Random(seed), 0, 0
    usual = undisturbed(make_plan, seed)
    while kills < number:
        plans += 1
        state.jobs.clear()
        state.faults.clear()
        state.queue_seconds = chance.choice([0.0, 0.2])
        # On a busy machine a job of a process that was killed may be accepted later than that.
        patience = {**PATIENCE, "resend_after_s": max(PATIENCE["resend_after_s"], 3 * usual)}
        plan = make_plan(name=f"random-{seed}-{plans}", patience=patience)
        folder = shutil.copytree(tmp_path, tmp_path.with_name(f"{tmp_path.name}-{plans}"))
        copies = [Copy(plan), Copy(replace(plan, path=folder / plan.path.name))]
        kills += work_on(copies, state, chance, number - kills, usual)
        state.faults.clear()
        for copy in copies:
            with (context := copy.plan.context()).ledger:
                finish(context)
                check_complete(context, state, exact)
        ran = [job.tags[1] for job in state.jobs.values() if job.executions]
        assert len(ran) == len(set(ran)) == 3, f"plan {plans} of seed {seed}: {sorted(ran)}"
    print(f"{kills} kills over {plans} plans of 3 chunks, two copies each: every chunk was billed once")
    return plans


def test_ten_random_kills(make_plan, server, service_state, samples, tmp_path):
    assert kill_often(10, 1, make_plan, service_state, samples[1], tmp_path) >= 1


@pytest.mark.slow
def test_two_hundred_random_kills(make_plan, server, service_state, samples, tmp_path):
    assert kill_often(200, 2, make_plan, service_state, samples[1], tmp_path) > 5
