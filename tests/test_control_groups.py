"""Limits of containers and jobs, of both versions of control groups."""

from __future__ import annotations

import pytest

from qhybrid import cluster, control_groups
from qhybrid.control_groups import MemoryLimit, allowed_cores, memory_limit


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Return a function that writes which groups this process is in, and their files."""
    monkeypatch.setattr(control_groups, "ROOT", tmp_path / "root")
    monkeypatch.setattr(control_groups, "OWN", tmp_path / "own")

    def write(own, **files):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            file = tmp_path / "root" / name.replace("__", "/").replace("_dot_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)

    return write


def test_no_groups(groups):
    assert (allowed_cores(), memory_limit()) == (None, None)
    groups("0::/job\n", job__cpu_dot_max="max 100000", job__memory_dot_max="max", job__memory_dot_current="7")
    assert (allowed_cores(), memory_limit()) == (None, None)
    groups("nonsense\n")
    assert (allowed_cores(), memory_limit()) == (None, None)


def test_the_narrowest_of_nested_groups(groups):
    groups(
        "0::/job/step\n",
        cpu_dot_max="200000 100000",
        job__cpu_dot_max="150000 100000",
        job__step__cpu_dot_max="max 100000",
        job__memory_dot_max="4000",
        job__memory_dot_current="1500",
        job__memory_dot_stat="anon 900\ninactive_file 500\n",
    )
    assert allowed_cores() == 1.5
    assert memory_limit() == MemoryLimit(4000, 1000)


def test_a_container_that_does_not_see_its_own_path(groups):
    groups("0::/not/here\n", cpu_dot_max="50000 100000", memory_dot_max="4000", memory_dot_current="1")
    assert allowed_cores() == 0.5
    assert memory_limit() == MemoryLimit(4000, 1)


def test_the_first_version(groups):
    names = ("cpu,cpuacct__pod__cpu_dot_cfs_", "memory__pod__memory_dot_")
    groups(
        "4:memory:/pod\n1:cpu,cpuacct:/pod\n0::/\n",
        **{f"{names[0]}quota_us": "300000\n", f"{names[0]}period_us": "100000\n"},
        **{f"{names[1]}limit_in_bytes": "4000", f"{names[1]}usage_in_bytes": "3000"},
        **{f"{names[1]}stat": "inactive_file 1\ntotal_inactive_file 2500\n"},
        memory__memory_dot_limit_in_bytes="9223372036854771712",
        memory__memory_dot_usage_in_bytes="3000",
    )
    assert allowed_cores() == 3.0
    assert memory_limit() == MemoryLimit(4000, 500)


@pytest.mark.parametrize(("limit", "expected"), [(None, 8), (2.5, 2), (0.5, 1), (64.0, 8)])
def test_no_more_processes_than_a_container_may_use(monkeypatch, limit, expected):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cluster, "allowed_cores", lambda: limit)
    assert cluster.usable_cores() == expected
