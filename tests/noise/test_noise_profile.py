from __future__ import annotations

import pytest

from qhybrid.errors import ConfigError
from qhybrid.noise import NoiseProfile


def loaded(tmp_path, text):
    file = tmp_path / "device.yaml"
    file.write_text(text)
    return NoiseProfile.load(file)


def test_yaml_with_values_of_qubits_and_gates(tmp_path):
    profile = loaded(
        tmp_path,
        """
        source: calibration sheet
        date: 2026-01-31
        p_1q: 0.001
        p_2q: 0.01
        t1_us: 100
        t2_us: 80
        gate_1q_ns: 50
        gate_2q_ns: 300
        readout_p01: 0.02
        qubits:
          3: {p_1q: 0.005, t1_us: 40, t2_us: 30, readout_p10: 0.04}
        gates:
          rz: {p: 0, ns: 0}
          cx 0 3: {p: 0.07}
        """,
    )
    assert profile.name == "device"
    assert profile.date == "2026-01-31"
    assert profile.gate_error("rz", (0,)).ideal
    assert profile.gate_error("sx", (0,)).p == 0.001
    assert profile.gate_error("sx", (3,)).p == 0.005
    assert profile.gate_error("sx", (3,)).relaxations[0].t1_us == 40
    assert profile.gate_error("cx", (3, 0)).p == 0.01
    assert profile.gate_error("cx", (0, 3)).p == 0.07
    assert [relaxation.ns for relaxation in profile.gate_error("cx", (0, 3)).relaxations] == [300, 300]
    assert profile.readout(0) == (0.02, 0.0)
    assert profile.readout(3) == (0.02, 0.04)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p_1q: -0.1", "p_1q"),
        ("p_1q: 1.4", "p_1q"),
        ("p_2q: 1.1", "p_2q"),
        ("t1_us: 0", "t1_us"),
        ("{t1_us: 10, t2_us: 21}", "2 \\* t1_us"),
        ("{t1_us: 100, t2_us: 80, qubits: {1: {t1_us: 10}}}", "qubit 1"),
        ("readout_p01: 1.5", "readout_p01"),
        ("p_3q: 0.1", "p_3q"),
        ("gates: {cx 0 one: {p: 0.1}}", "cx 0 one"),
        ("gates: {cx 0 1: {p: 1.2}}", "16/15"),
        ("qubits: {-1: {p_1q: 0.1}}", "at least 0"),
        ("p_1q: .nan", "p_1q"),
        ("p_1q: true", "must be a number, but is true"),
        ("qubits: {1: {p_2q: 0.1}}", "`qubits.1.p_2q` is unknown. Did you mean `p_1q`"),
        ("gates: {cx 0 0: {p: 0.1}}", "two different qubits"),
        ("gates: {cx 0 1: {p: 0.1}, cx  0 1: {p: 0.2}}", "`cx 0 1` must stand once"),
    ],
)
def test_bad_values_name_file_and_key(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        loaded(tmp_path, text)
    assert "device.yaml" in str(caught.value)


def test_depolarizing_checks_its_range():
    assert NoiseProfile.depolarizing(p_1q=1.0, p_2q=16 / 15).p_2q == pytest.approx(16 / 15)
    with pytest.raises(ConfigError, match="p_2q"):
        NoiseProfile.depolarizing(p_2q=1.2)


def test_scale_multiplies_rates_divides_times_and_saturates():
    profile = NoiseProfile(
        p_1q=0.01, p_2q=0.4, t1_us=100, t2_us=80, gate_1q_ns=50, readout_p01=0.3, gates={"cx": {"p": 0.2}}
    )
    twice = profile.scale(3)
    assert twice.p_1q == pytest.approx(0.03)
    assert twice.p_2q == 1.0
    assert twice.t1_us == pytest.approx(100 / 3)
    assert twice.gate_1q_ns == 50
    assert twice.readout_p01 == 0.5
    assert twice.gates["cx"].p == pytest.approx(0.6)
    nothing = profile.scale(0)
    assert nothing.gate_error("x", (0,)).ideal
    assert nothing.gate_error("cx", (0, 1)).ideal
    assert nothing.readout(0) == (0.0, 0.0)
    assert profile.scale(1).fingerprint == profile.fingerprint


def test_scaling_up_never_weakens_values_beyond_the_bounds():
    assert NoiseProfile(p_1q=1.2).scale(2).p_1q == 1.2
    assert NoiseProfile(p_1q=1.2).scale(0.5).p_1q == pytest.approx(0.6)


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf")])
def test_bad_factors_are_refused(factor):
    with pytest.raises(ConfigError, match="factor"):
        NoiseProfile().scale(factor)


def test_fingerprint_follows_rates_and_not_notes():
    assert NoiseProfile(name="a", p_1q=0.1).fingerprint == NoiseProfile(name="b", p_1q=0.1).fingerprint
    assert NoiseProfile(p_1q=0.1).fingerprint != NoiseProfile(p_1q=0.2).fingerprint


def test_keys_of_gates_are_read_with_any_spaces(tmp_path):
    profile = loaded(
        tmp_path, "gates: {'cx  0 01 ': {p: 0.1}}\nchannels: [{kind: bit_flip, p: 0.2, after: ' h'}]"
    )
    assert list(profile.gates) == ["cx 0 1"]
    assert profile.channels[0].after == ("h",)
