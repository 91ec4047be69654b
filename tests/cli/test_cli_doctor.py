"""`qhybrid doctor`, and how the command line lets idle threads wait."""

from __future__ import annotations

import os

from qhybrid.cli.main import execute
from qhybrid.cli.waiting import POLICY, wait_passively
from qhybrid.engines.exact.native import library


def test_it_says_whether_circuits_run_in_compiled_kernels(monkeypatch, capsys):
    assert execute(["doctor"]) == 0
    shown = capsys.readouterr().out
    found = library.kernels()
    wanted = f"compiled kernels  yes, the build `{found.build}`" if found.library else "compiled kernels  no"
    assert wanted in shown
    monkeypatch.setenv(library.VARIABLE, "torch")
    assert execute(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "compiled kernels  no: QHYBRID_KERNEL=torch switches them off" in shown
    assert "Fix:" not in shown  # the user has chosen so


def test_it_says_how_to_get_them(monkeypatch, capsys):
    monkeypatch.setattr(library, "_found", lambda choice: library.Kernels(None, "", "there is no file"))
    monkeypatch.delenv(library.VARIABLE, raising=False)
    assert execute(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "no: there is no file" in shown
    assert "Fix: install g++ or clang++" in shown


def test_idle_threads_sleep_unless_the_user_decides(monkeypatch):
    for name in POLICY:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    wait_passively()
    assert {name: os.environ[name] for name in POLICY} == POLICY
    for name in POLICY:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"
    assert "GOMP_SPINCOUNT" not in os.environ
