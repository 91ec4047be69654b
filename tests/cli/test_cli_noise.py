from __future__ import annotations

import pytest

from qhybrid.cli.main import execute
from qhybrid.noise import NoiseProfile, load_profile


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_list_shows_starter_profiles_and_own_ones(tmp_path, capsys):
    load_profile("fake_fez").scale(0.5).save(tmp_path / "noise_profiles" / "better.yaml")
    assert execute(["noise", "list"]) == 0
    shown = capsys.readouterr().out
    for name in ("ideal", "thermal", "fake_torino", "better"):
        assert name in shown
    assert "156" in shown


def test_show_of_a_device_and_of_a_uniform_profile(capsys):
    assert execute(["noise", "show", "fake_torino"]) == 0
    shown = capsys.readouterr().out
    assert "FakeTorino of qiskit-ibm-runtime" in shown
    assert "2025-02-26" in shown
    assert "T1, us" in shown
    assert "cz 15 19 (p = 1.07)" in shown
    assert execute(["noise", "show", "depolarizing_0.01_0.02"]) == 0
    shown = capsys.readouterr().out
    assert "0.02" in shown
    assert "T1" not in shown


def test_devices_are_listed(capsys):
    assert execute(["noise", "devices"]) == 0
    assert "fake_nighthawk" in capsys.readouterr().out


def test_from_backend_and_scale_write_files(tmp_path, capsys):
    made, doubled = tmp_path / "noise_profiles" / "mine.yaml", tmp_path / "double.yaml"
    assert execute(["noise", "from-backend", "FakeManilaV2", "-o", str(made), "--idle"]) == 0
    profile = NoiseProfile.load(made)
    assert (profile.name, profile.idle) == ("mine", "scheduled")
    assert profile.fingerprint != NoiseProfile.from_backend("fake_manila").fingerprint
    assert execute(["noise", "scale", "mine", "2", "-o", str(doubled)]) == 0
    assert NoiseProfile.load(doubled).gates["cx 0 1"].p == 2 * profile.gates["cx 0 1"].p
    assert "double.yaml" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "fake_torin"], "Did you mean fake_torino"),
        (["from-backend", "fake_torin", "-o", "x.yaml"], "Similar: fake_torino"),
        (["scale", "ideal", "-o", "x.yaml", "--", "-1"], "at least 0, but is -1"),
        (["scale", "ideal", "nan", "-o", "x.yaml"], "at least 0, but is nan"),
    ],
)
def test_bad_requests_are_explained(words, message, capsys, tmp_path):
    assert execute(["noise", *words]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x.yaml").exists()
