from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from qhybrid.engines import make_engine
from qhybrid.errors import ConfigError
from qhybrid.noise import NoiseProfile, load_profile, profile_files
from qhybrid.noise.summary import summary

ROOT = Path(__file__).resolve().parents[2] / "noise_profiles"
DEVICES = ("fake_torino", "fake_fez", "fake_nighthawk")
PAIRS = ((0.001, 0.01), (0.005, 0.01), (0.01, 0.02), (0.02, 0.03), (0.05, 0.1))
UNLIKE = NoiseProfile(
    name="unlike",
    date="2026-01-31",
    p_2q=0.01,
    qubits={3: {"p_1q": 0.2, "t1_us": 1 / 3}, 5: {"readout_p01": 0.1}},
    gates={"rz": {"p": 0.0, "ns": 0.0}, "cz 5 3": {"p": 0.03}, "cx 3 7": {"p": 0.07}, "sx 5": {"ns": 12.5}},
    idle="scheduled",
)


@pytest.mark.parametrize("file", sorted(ROOT.glob("*.yaml")), ids=lambda file: file.stem)
def test_committed_profiles_load_and_are_compact(file):
    profile = NoiseProfile.load(file)
    assert profile.name == file.stem
    assert profile.description
    assert file.stat().st_size < 30_000


def test_the_wanted_profiles_are_there():
    assert set(profile_files()) >= {"ideal", "readout", "thermal", *DEVICES}
    for p_1q, p_2q in PAIRS:
        assert load_profile(f"depolarizing_{p_1q:g}_{p_2q:g}").fingerprint == (
            NoiseProfile.depolarizing(p_1q=p_1q, p_2q=p_2q).fingerprint
        )
    assert load_profile("ideal").fingerprint == NoiseProfile().fingerprint


@pytest.mark.parametrize("name", DEVICES)
def test_snapshots_equal_the_backends_calibration(name):
    snapshot = load_profile(name)
    assert snapshot.date >= "2025"
    if f"qiskit-ibm-runtime {version('qiskit-ibm-runtime')}" not in snapshot.source:
        pytest.skip("the snapshot was taken from another version of the fake backends")
    assert snapshot == NoiseProfile.from_backend(name)


@pytest.mark.parametrize("profile", [UNLIKE, NoiseProfile(), load_profile("fake_fez")], ids=lambda p: p.name)
def test_what_is_saved_is_loaded(profile, tmp_path):
    assert NoiseProfile.load(profile.save(tmp_path / "file.yaml")) == profile


def test_names_and_files_and_engines(tmp_path, monkeypatch):
    assert load_profile(ROOT / "thermal.yaml") == load_profile("thermal")
    (tmp_path / "noise_profiles").mkdir()
    NoiseProfile.depolarizing(p_1q=0.5).save(tmp_path / "noise_profiles" / "thermal.yaml")
    monkeypatch.chdir(tmp_path)
    assert load_profile("thermal").p_1q == 0.5
    assert make_engine("exact", noise="thermal").describe()["noise"]["p_1q"] == 0.5


def test_unknown_names_get_suggestions():
    with pytest.raises(ConfigError, match="Did you mean .*fake_torino"):
        load_profile("fake_torin")
    with pytest.raises(ConfigError, match="Known names: .*ideal"):
        load_profile("zzzzzzzz.yaml")


def test_restricted_profiles_are_renumbered():
    part = UNLIKE.restrict([5, 3])
    assert part.qubits == {0: UNLIKE.qubits[5], 1: UNLIKE.qubits[3]}
    assert set(part.gates) == {"rz", "cz 0 1", "sx 0"}
    assert part.gate_error("cz", (1, 0)).p == 0.03
    assert part.gate_error("cx", (1, 0)).p == UNLIKE.gate_error("cx", (3, 5)).p == 0.01
    assert part.readout(0) == UNLIKE.readout(5)
    assert part.idle == "scheduled"


@pytest.mark.parametrize("qubits", [[1, 1], [-1]])
def test_qubits_to_keep_must_be_distinct_indices(qubits):
    with pytest.raises(ConfigError, match="distinct indices"):
        UNLIKE.restrict(qubits)


def test_a_device_must_have_the_qubits_to_keep():
    with pytest.raises(ConfigError, match="`fake_fez`, which has no 156, 200"):
        load_profile("fake_fez").restrict([0, 156, 200])


def test_only_symmetric_gates_are_found_from_both_sides():
    assert UNLIKE.gate_error("cz", (3, 5)).p == UNLIKE.gate_error("cz", (5, 3)).p == 0.03
    assert UNLIKE.gate_error("cx", (3, 7)).p == 0.07
    assert UNLIKE.gate_error("cx", (7, 3)).p == 0.01
    assert NoiseProfile(gates={"cs 0 1": {"p": 0.2}}).gate_error("cs", (1, 0)).p == 0.2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("idle: always", "idle"),
        ("listed_only: 3", "listed_only"),
        ("gates: {cz 0 1 2: {p: 0.1}}", "cz 0 1 2"),
    ],
)
def test_bad_values_name_file_and_key(tmp_path, text, message):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        NoiseProfile.load(file)
    assert "bad.yaml" in str(caught.value)


def test_a_summary_leaves_no_value_out():
    found = {row.label: (row.smallest, row.largest) for row in summary(UNLIKE)}
    assert found == {
        "one-qubit gates, p": (0.0, 0.2),
        "T1, us": (1 / 3, 1 / 3),
        "read 0 after 1": (0.0, 0.1),
        "two-qubit gates, p": (0.01, 0.01),
        "gate rz, p": (0.0, 0.0),
        "gate rz, ns": (0.0, 0.0),
        "gate cz, p": (0.03, 0.03),
        "gate cx, p": (0.07, 0.07),
        "gate sx, ns": (12.5, 12.5),
    }
    # Of a device all qubits are listed, and a value that no qubit has is not shown.
    times = {row.label: row for row in summary(load_profile("fake_torino"))}["T1, us"]
    assert times.smallest == min(qubit.t1_us for qubit in load_profile("fake_torino").qubits.values())
    read = {row.label: row for row in summary(load_profile("fake_torino"))}["read 0 after 1"]
    assert read.smallest > 0


def test_the_device_is_remembered_and_changes_no_results(tmp_path):
    device = NoiseProfile.from_backend("fake_manila")
    other = device.model_copy(update={"name": "mine"}).scale(2).save(tmp_path / "other.yaml")
    assert NoiseProfile.load(other).device == "fake_manila"
    assert device.model_copy(update={"device": ""}).fingerprint == device.fingerprint


def test_scaled_devices_stay_devices():
    profile = load_profile("fake_fez").scale(2)
    one = load_profile("fake_fez")
    assert profile.listed_only
    assert profile.gates["cz"].ns == one.gates["cz"].ns
    assert profile.gate_error("cz", (0, 1)).p == pytest.approx(2 * one.gate_error("cz", (0, 1)).p)
    assert profile.qubits[0].t1_us == pytest.approx(one.qubits[0].t1_us / 2)
