"""kill -9 at every step from planning to the result files, over two rounds that depend on each other.

The service is a local one whose jobs are files, so what it has survives the process, as a real one's does.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from ledger_files import watch_statements
from plan_cases import class_workload, quick

from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.services.local import LocalService
from qhybrid.layers import quantum_layers

WRITES = ("INSERT", "UPDATE", "COMMIT")
ASKED = ("submit", "find", "view", "result_text", "usage")


class PaidService(LocalService):
    """A local service that counts as one that bills."""

    paid = True


class Killer:
    """Kills this process at its n-th step: ledger writes, files that appear, and calls of the service."""

    def __init__(self, number):
        self.left = number

    def step(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner, name):
        function = getattr(owner, name)

        def stepped(*arguments, **options):
            self.step()
            result = function(*arguments, **options)
            self.step()
            return result

        setattr(owner, name, stepped)

    def install(self):
        for name in ASKED:
            self.around(PaidService, name)
        self.around(Path, "replace")
        self.around(Path, "rename")
        watch_statements(lambda statement: self.step() if statement.startswith(WRITES) else None)


def work_through(folder, workload):
    """What `hardware run` does with a plan."""
    with open_plan(folder, lambda *_: workload, PaidService(folder / "jobs")) as execution:
        write_outcome(execution, execution.run())


def was_killed(number, action):
    """Do something in a forked process that is killed at a step."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            Killer(number).install()
            action()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def settings_for(workload):
    return quick(
        layers=tuple(quantum_layers(workload.model)),
        shots=50,
        limits={"executions": 50 * 20, "jobs_per_minute": 1e6},
        patience={"poll_s": 0.01, "poll_max_s": 0.01, "resend_after_s": 0.0},
    )


@pytest.fixture(scope="module")
def two_rounds(tmp_path_factory):
    workload = class_workload(2)
    return workload, make_plan(workload, settings_for(workload), tmp_path_factory.mktemp("plan"))


def check(folder):
    """Every chunk was executed once, and the results are whole."""
    files = list((folder / "jobs").glob("local-*.json"))
    own = Counter(json.loads(file.read_text())["tags"][1] for file in files)
    assert set(own.values()) == {1}
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    assert metrics["status"]["chunks"] == {"done": len(own)}
    assert metrics["status"]["jobs"] == {"done": len(own)}
    assert metrics["status"]["rounds"] == {"entered": 2, "planned": 2}
    names = {"deviations.csv", "predictions.csv", "outputs.safetensors", "metrics.json"}
    assert names <= {file.name for file in (folder / "results").iterdir()}
    return metrics["obtained"]


def kill_from(plan, workload, tmp_path, first, stride):
    number, found = first, []
    while True:
        folder = shutil.copytree(plan, tmp_path / f"kill-{number}")
        killed = was_killed(number, lambda folder=folder: work_through(folder, workload))
        work_through(folder, workload)
        found.append(check(folder))
        shutil.rmtree(folder)
        if not killed:
            return number, found
        number += stride


def test_killed_now_and_then(two_rounds, tmp_path):
    workload, plan = two_rounds
    steps, found = kill_from(plan, workload, tmp_path, first=1, stride=23)
    assert steps > 60
    assert len({json.dumps(one) for one in found}) == 1


@pytest.mark.slow
def test_killed_at_every_single_step(two_rounds, tmp_path):
    workload, plan = two_rounds
    steps, found = kill_from(plan, workload, tmp_path, first=1, stride=1)
    assert len(found) == steps > 60


PLAN = """
import sys
sys.path.insert(0, {tests!r})
import test_kill_whole_plans as kills
workload = kills.class_workload(2)
number = 1
while kills.was_killed(number, lambda: kills.make_plan(workload, kills.settings_for(workload), sys.argv[1])):
    number += int(sys.argv[2])
print(number)
"""


@pytest.mark.parametrize("stride", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_a_plan_is_there_whole_or_not_at_all(stride, tmp_path):
    # A process of its own: the transpiler's threads do not survive a fork.
    found = subprocess.run(
        [sys.executable, "-c", PLAN.format(tests=str(Path(__file__).parent)), str(tmp_path), str(stride)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 12
    workload = class_workload(2)
    plans = list(tmp_path.glob("[!.]*/plan.json"))
    assert 1 <= len(plans) <= 2
    for plan in plans:
        work_through(plan.parent, workload)
        check(plan.parent)


COLLECT = """
import sys
sys.path.insert(0, {tests!r})
from plan_cases import class_workload
from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
workload = class_workload(2)
print("ready", flush=True)
sys.stdin.readline()
try:
    with open_plan(sys.argv[1], lambda *_: workload) as execution:
        write_outcome(execution, execution.run())
    print("done")
except HardwareError as error:
    print(error)
"""


def test_two_processes_at_once(two_rounds, tmp_path):
    folder = shutil.copytree(two_rounds[1], tmp_path / "plan")
    command = [sys.executable, "-c", COLLECT.format(tests=str(Path(__file__).parent)), str(folder)]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for one in running:
        assert one.stdout.readline() == "ready\n"
    for one in running:
        one.stdin.write("\n")
        one.stdin.flush()
    said = sorted(one.communicate(timeout=120)[0].strip() for one in running)
    assert "done" in said
    assert all(text == "done" or "Only one process" in text for text in said)
    check(folder)
