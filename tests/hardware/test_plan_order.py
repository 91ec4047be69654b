"""The newest plan of a run is the one that was made last, whatever a copy did to its files."""

import json
import os
import time

from qhybrid.api.plan_folders import find_plan, plans_of
from qhybrid.report.hardware_sources import read_plans
from qhybrid.workspace import write_text

SETTINGS = {"settings": {"backend": "fake_torino"}}


def add(run, name, created, changed):
    file = run / "hardware" / name / "plan.json"
    write_text(file, json.dumps(SETTINGS | ({} if created is None else {"created": created})))
    os.utime(file, (changed, changed))
    return file.parent


def test_the_newest_plan_is_told_by_its_own_time(tmp_path):
    write_text(tmp_path / "recipe.yaml", "")
    now = time.time()
    new = add(tmp_path, "a", "2026-11-30T09:00:02Z", now - 100)
    old = add(tmp_path, "b", "2026-11-30T09:00:01Z", now)  # copied last
    assert plans_of(tmp_path) == [old, new]
    assert find_plan(tmp_path) == new
    assert [plan.folder for plan in read_plans(tmp_path)] == [old, new]


def test_plans_of_one_second_or_without_a_time_go_by_their_files(tmp_path):
    second = add(tmp_path, "a", "2026-11-30T09:00:00Z", 1000)
    first = add(tmp_path, "b", "2026-11-30T09:00:00Z", 900)
    unknown = add(tmp_path, "c", None, 800)
    assert plans_of(tmp_path) == [unknown, first, second]
