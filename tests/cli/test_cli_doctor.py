"""`qhybrid doctor`, and how the command line lets idle threads wait."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement

from qhybrid.api import doctor
from qhybrid.cli.main import execute
from qhybrid.cli.waiting import POLICY, wait_passively
from qhybrid.control_groups import MemoryLimit
from qhybrid.engines.exact.native import library

CHECKOUT = Path(__file__).parents[2]


def test_it_says_whether_circuits_run_in_compiled_kernels(monkeypatch, capsys):
    execute(["doctor"])
    shown = capsys.readouterr().out
    found = library.kernels()
    wanted = f"compiled kernels  yes, the build `{found.build}`" if found.library else "compiled kernels  no"
    assert wanted in shown
    monkeypatch.setenv(library.VARIABLE, "torch")
    execute(["doctor"])
    shown = capsys.readouterr().out
    assert "compiled kernels  no: QHYBRID_KERNEL=torch switches them off" in shown
    assert "g++" not in shown  # the user has chosen so


def test_it_says_how_to_get_them(monkeypatch, capsys):
    monkeypatch.setattr(library, "_found", lambda choice: library.Kernels(None, "", "there is no file"))
    monkeypatch.delenv(library.VARIABLE, raising=False)
    assert execute(["doctor"]) == 1
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


def found(topic):
    return next(one for one in doctor.examine() if one.topic == topic)


def test_an_account_is_told_without_its_secrets(monkeypatch, capsys):
    secrets = {"token": "SECRET-TOKEN", "instance": "crn:SECRET-CRN", "url": "https://u:SECRET-PW@host"}
    saved = {"work": {"channel": "ibm_quantum_platform", **secrets}, "bare": {"token": "SECRET-2"}}
    monkeypatch.setattr(
        "qhybrid.hardware.services.ibm.accounts.QiskitRuntimeService",
        SimpleNamespace(saved_accounts=lambda: saved),
    )
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "SECRET-3")
    for arguments in (["doctor"], ["doctor", "--json"]):
        execute(arguments)
        shown = capsys.readouterr().out
        assert "SECRET" not in shown
        assert "work (ibm_quantum_platform)" in shown
    one = found("IBM account")
    assert one.value.startswith("environment (no channel), work (ibm_quantum_platform), bare (no channel)")
    assert "instance in environment, bare" in one.fix


def test_a_client_that_fails_is_a_finding_without_its_message(monkeypatch):
    def fails():
        raise ValueError("file with SECRET")

    monkeypatch.setattr(
        "qhybrid.hardware.services.ibm.accounts.QiskitRuntimeService", SimpleNamespace(saved_accounts=fails)
    )
    monkeypatch.delenv("QISKIT_IBM_TOKEN", raising=False)
    one = found("IBM account")
    assert one.hurts
    assert "SECRET" not in one.value + one.fix


def test_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("QHYBRID_DATA", str(tmp_path / "none"))
    assert "QHYBRID_DATA" in found("data").fix
    (tmp_path / "mnist").mkdir()
    (tmp_path / ".hidden").mkdir()
    monkeypatch.setenv("QHYBRID_DATA", str(tmp_path))
    assert found("data").value.endswith(": mnist")


@pytest.mark.parametrize(("load", "told"), [(0.0, False), (64.0, True)])
def test_busy_cores(monkeypatch, load, told):
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    assert any(one.topic == "load" and "OMP_NUM_THREADS=1" in one.fix for one in doctor.examine()) == told


def test_more_threads_than_cores(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 10_000)
    assert found("threads").hurts


def test_little_room(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1024**3))
    assert found("disk (here)").hurts


def test_all_extras_of_users_are_looked_at():
    content = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    modules = {"tensorboard": "tensorboard", "mlflow-skinny": "mlflow", "pystac-client": "pystac_client"}
    wanted = {
        extra: {modules.get(name := Requirement(one).name, name) for one in needs}
        for extra, needs in content.items()
        if extra not in ("test", "bench", "docs")
    }
    assert {extra: set(found) for extra, (found, _) in doctor.EXTRAS.items()} == wanted


def test_an_extra_of_which_a_part_is_missing(monkeypatch):
    monkeypatch.setattr("qhybrid.api.doctor.find_spec", lambda name: None if name == "mlflow" else name)
    assert "loggers" not in found("extras").value
    assert "qhybrid[loggers]" in found("extras").fix


def test_limits_of_a_container(monkeypatch):
    monkeypatch.setattr(doctor, "usable_cores", lambda: 1)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("torch.get_num_threads", lambda: 64)
    monkeypatch.setattr("os.getloadavg", lambda: (20.0, 0.0, 0.0))
    monkeypatch.setattr(doctor, "memory_limit", lambda: MemoryLimit(2 * 1024**3, 1024**3))
    one = found("threads")
    assert one.value == "1 of the machine's 64 cores allowed, 64 threads of torch"
    assert (one.fix, one.hurts) == ("OMP_NUM_THREADS=1", True)
    assert not any(other.topic == "load" for other in doctor.examine())  # 44 cores are free
    assert found("memory").value.startswith("1.0 of 2.0 GiB free, by the limit of a container or job")


def test_missing_extra(monkeypatch):
    monkeypatch.setattr("qhybrid.api.doctor.find_spec", lambda name: None if name == "optuna" else name)
    one = found("extras")
    assert one.value == "encoders, vit, unetpp, stac, loggers"
    assert one.fix.startswith("pip install 'qhybrid[tune]'")
    assert not one.hurts


def test_as_json(capsys):
    execute(["doctor", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert {"qhybrid", "packages", "device", "Aer", "extras"} <= {row["topic"] for row in rows}
