"""Plugins in worker processes of a cluster, which inherit nothing from the process that gives the jobs."""

from __future__ import annotations

import pytest

from qhybrid.cluster import run_jobs
from qhybrid.experiments.sweeps.worker import provenance
from qhybrid.mitigations import MITIGATIONS
from qhybrid.plugins import loaded_plugins, temporary_plugins

CONTENT = """
from qhybrid.engines import register_mitigation

register_mitigation("nothing", lambda make, profile: make(profile, 0), label="nothing at all")
"""


def label_of(job):
    """Look up what a plugin adds, where the job is done."""
    made_with = [one["name"] for one in loaded_plugins()]
    return {"key": job["key"], "result": [MITIGATIONS.get(job["name"]).label, made_with]}


@pytest.fixture(scope="module")
def cluster():
    """A worker that was started before any plugin was named."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs="CRITICAL"
    ) as found:
        yield found.scheduler_address


def test_workers_load_the_plugins_of_the_jobs(cluster, tmp_path):
    file = tmp_path / "labels_plugin.py"
    file.write_text(CONTENT)
    job = {"key": "a", "name": "nothing"}
    with temporary_plugins(file):
        (answer,) = run_jobs([job], label_of, scheduler=cluster)
    label, made_with = answer["result"]
    assert label == "nothing at all"
    assert "labels_plugin" in made_with  # beside those of other tests in this process


def test_a_worker_without_the_plugin_fails_in_its_cell_alone(cluster, tmp_path):
    file = tmp_path / "absent_plugin.py"
    file.write_text(CONTENT.replace('"nothing"', '"other"').replace("nothing at all", "another"))
    jobs = [{"key": "a", "name": "other"}, {"key": "b", "name": "other"}]
    with temporary_plugins(file):
        file.unlink()  # the worker's machine does not have it
        answers = list(run_jobs(jobs, label_of, scheduler=cluster))
    assert sorted(answer["key"] for answer in answers) == ["a", "b"]
    for answer in answers:
        assert "absent_plugin.py must be a module or a .py file, but there is no such file" in answer["error"]
        assert answer["details"] == "PluginError"


def test_cells_note_the_plugins_of_their_time(tmp_path):
    """A script may load one after its first cell."""
    file = tmp_path / "later_plugin.py"
    file.write_text(CONTENT.replace("nothing", "later"))
    before = provenance().get("plugins", [])
    with temporary_plugins(file):
        assert [one["name"] for one in provenance()["plugins"] if one not in before] == ["later_plugin"]
    assert provenance().get("plugins", []) == before
