"""Channels as parts of a profile: YAML, checks, scaling, restriction, tables."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.quantum_info import Kraus

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.errors import ConfigError, PluginError
from qhybrid.noise import (
    CHANNELS,
    AmplitudeDamping,
    BitFlip,
    ChannelNoise,
    CoherentRotation,
    NoiseChannel,
    NoiseProfile,
    ThermalRelaxation,
    on_each,
    register_noise_channel,
)
from qhybrid.noise.channels.base import checked_kraus
from qhybrid.noise.summary import summary

TEXT = """
p_1q: 0.001
basis: [ry, rz, cz]
channels:
  - {kind: amplitude_damping, gamma: 0.02}
  - {kind: coherent_rotation, axis: zx, angle_rad: 0.05, after: [cx, cz 5 3], qubits: [3, 5]}
  - {kind: pauli, probabilities: {x: 0.01, y: 0.02}, after: 1q}
  - {kind: thermal_relaxation, ns: 50, t1_us: 100, after: delay}
"""

ENGINES = (("exact", {}), ("aer", {"method": "density_matrix"}))


def loaded(tmp_path, text):
    file = tmp_path / "device.yaml"
    file.write_text(text)
    return NoiseProfile.load(file)


def kinds(channels):
    return [one.channel.kind for one in channels]


def test_yaml_is_read_and_written(tmp_path):
    profile = loaded(tmp_path, TEXT)
    damping, turn, pauli, wait = profile.channels
    assert damping == ChannelNoise(channel=AmplitudeDamping(gamma=0.02))
    assert (turn.channel.axis, turn.after, turn.qubits) == ("ZX", ("cx", "cz 5 3"), (3, 5))
    assert pauli.channel.probabilities == {"X": 0.01, "Y": 0.02}
    assert wait.channel == ThermalRelaxation(ns=50, t1_us=100)
    again = NoiseProfile.load(profile.save(tmp_path / "again.yaml"))
    assert again.model_copy(update={"name": profile.name}) == profile
    assert again.fingerprint == profile.fingerprint


def test_listed_channels_follow_depolarizing_and_relaxation_in_order(tmp_path):
    profile = loaded(tmp_path, TEXT)
    error = profile.gate_error("cz", (3, 5))
    assert error.p == 0.0
    assert [(one.channel.kind, one.places) for one in error.channels] == [
        ("amplitude_damping", (0,)),
        ("amplitude_damping", (1,)),
        ("coherent_rotation", (0, 1)),
    ]
    assert kinds(profile.gate_error("cz", (3, 4)).channels) == ["amplitude_damping"] * 2
    assert kinds(profile.gate_error("h", (3,)).channels) == [
        "amplitude_damping",
        "pauli",
    ]
    assert kinds(profile.idle_error(0, 10.0).channels) == ["thermal_relaxation"]
    assert not profile.gate_error("x", (0,)).ideal
    assert NoiseProfile(channels=[BitFlip(p=0.0)]).gate_error("x", (0,)).ideal


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        (
            "{kind: amplitude_dampin, gamma: 0.1}",
            "'amplitude_dampin' is unknown.*mean `amplitude_damping`",
        ),
        ("{gamma: 0.1}", "`kind`: one of amplitude_damping"),
        ("{kind: amplitude_damping, gama: 0.1}", "`gama` is unknown. Did you mean `gamma`"),
        ("{kind: amplitude_damping, gamma: 1.5}", "gamma"),
        ("{kind: amplitude_damping}", "`gamma` is missing"),
        ("{kind: phase_damping, lam: -0.1}", "lam"),
        ("{kind: thermal_relaxation, ns: 10, t1_us: 10, t2_us: 21}", "at most 2 \\* t1_us"),
        ("{kind: thermal_relaxation, ns: 10}", "t1_us or t2_us must be given"),
        ("{kind: bit_flip, p: 0.1, after: []}", "`after` must name gates"),
        ("{kind: bit_flip, p: true}", "must be a number, but is true"),
        ("{kind: pauli, probabilities: {x: 0.6, z: 0.6}}", "at most 1"),
        ("{kind: pauli, probabilities: {x: 0.1, zz: 0.1}}", "equally long"),
        ("{kind: pauli, probabilities: {i: 0.1}}", "none of them the identity"),
        ("{kind: pauli, probabilities: {x: 0.1, X: 0.1}}", "stand once"),
        ("{kind: pauli, probabilities: {}}", "probabilities"),
        ("{kind: coherent_rotation, axis: w, angle_rad: 0.1}", "axis"),
        ("{kind: coherent_rotation, axis: x, angle_rad: .inf}", "angle_rad"),
        ("{kind: coherent_rotation, axis: zz, angle_rad: 0.1, after: 1q}", "2 qubits together.*`1q`"),
        ("{kind: coherent_rotation, axis: zz, angle_rad: 0.1, qubits: [1]}", "at least 2 distinct"),
        ("{kind: bit_flip, p: 0.1, after: cx 0 one}", "cx 0 one"),
        ("{kind: bit_flip, p: 0.1, after: 1q 3}", "1q 3"),
        ("{kind: bit_flip, p: 0.1, qubits: [1, 1]}", "distinct"),
        ("{kind: bit_flip, p: 0.1, qubits: []}", "distinct"),
        ("bit_flip", "channels"),
    ],
)
def test_bad_channels_name_file_and_key(tmp_path, channel, message):
    with pytest.raises(ConfigError, match=message) as caught:
        loaded(tmp_path, f"channels: [{channel}]")
    assert "device.yaml" in str(caught.value)
    assert "channels" in str(caught.value)


def test_restricted_channels_are_renumbered(tmp_path):
    part = loaded(tmp_path, TEXT).restrict([5, 3])
    assert part.channels[1].after == ("cx", "cz 0 1")
    assert part.channels[1].qubits == (1, 0)
    assert len(part.channels) == 4
    assert part.basis == ("ry", "rz", "cz")
    # A rotation of two qubits together is nothing where only one of them is left.
    other = loaded(tmp_path, TEXT).restrict([5, 4])
    assert kinds(other.channels) == [
        "amplitude_damping",
        "pauli",
        "thermal_relaxation",
    ]
    assert NoiseProfile(channels=[{"kind": "bit_flip", "p": 0.1, "qubits": [3]}]).restrict([4]).channels == ()


def test_scaled_profiles_scale_their_channels(tmp_path):
    profile = loaded(tmp_path, TEXT)
    twice = profile.scale(2)
    assert [one.channel.rates for one in twice.channels] == [
        {"gamma": 0.04},
        {"angle_rad": 0.1},
        {"probabilities.X": 0.02, "probabilities.Y": 0.04},
        {"t1_us": 50.0},
    ]
    assert [(one.after, one.qubits) for one in twice.channels] == [
        (one.after, one.qubits) for one in profile.channels
    ]
    assert twice.basis == profile.basis
    assert twice.fingerprint != profile.fingerprint
    assert profile.scale(1).fingerprint == profile.fingerprint
    assert NoiseProfile(channels=[BitFlip(p=0.1)]).scale(0).fingerprint == NoiseProfile().fingerprint


def test_a_table_shows_every_rate_with_its_unit(tmp_path):
    found = {row.label: row.median for row in summary(loaded(tmp_path, TEXT))}
    assert found == {
        "one-qubit gates, p": 0.001,
        "amplitude damping, gamma": 0.02,
        "coherent rotation (axis ZX) after cx, cz 5 3 on 3, 5, angle_rad, rad": 0.05,
        "pauli after 1q, probabilities.X": 0.01,
        "pauli after 1q, probabilities.Y": 0.02,
        "thermal relaxation (ns 50.0) after delay, t1_us, us": 100,
    }


def test_fingerprints_follow_channels():
    one = NoiseProfile(channels=[BitFlip(p=0.1)])
    assert one.fingerprint == NoiseProfile().with_channels(BitFlip(p=0.1)).fingerprint
    others = (
        NoiseProfile(channels=[BitFlip(p=0.2)]),
        NoiseProfile(channels=[ChannelNoise(channel=BitFlip(p=0.1), after="1q")]),
        NoiseProfile(channels=[ChannelNoise(channel=BitFlip(p=0.1), qubits=[0])]),
        NoiseProfile(channels=[BitFlip(p=0.1), BitFlip(p=0.1)]),
    )
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_kinds_of_others_count_by_what_they_do():
    """A script or notebook that changes its class keeps the kind."""

    def flip(matrix):
        class Flip(NoiseChannel):
            kind: ClassVar[str] = "flip"
            p: float

            def kraus(self, num_qubits):
                return on_each([math.sqrt(1 - self.p) * np.eye(2), math.sqrt(self.p) * matrix], num_qubits)

        return NoiseProfile().with_channels(Flip(p=0.1))

    circuit = QuantumCircuit(1)
    circuit.x(0)
    spec = CircuitSpec.from_circuit(circuit, [], [], "Z")
    x, z = (flip(np.array(matrix)) for matrix in ([[0, 1], [1, 0]], [[1, 0], [0, -1]]))
    assert x.fingerprint != z.fingerprint == flip(np.diag([1, -1])).fingerprint
    # Features, maps and diagnoses on disk go by what engines say of themselves.
    said = [make_engine(kind, noise=one, **how).describe() for kind, how in ENGINES for one in (x, z)]
    assert said[0] != said[1]
    assert said[2] != said[3]
    assert "noise_code" not in make_engine("exact", noise=NoiseProfile(p_1q=0.1)).describe()
    nothing = torch.zeros(0, dtype=torch.float64)
    values = [
        make_engine("exact", noise=profile).expectations(spec, nothing.reshape(1, 0), nothing).item()
        for profile in (x, z)
    ]
    assert values == pytest.approx([-0.8, -1.0])


def test_kinds_that_are_no_channels_are_not_registered():
    class Nameless(NoiseChannel):
        def kraus(self, num_qubits):
            return [np.eye(2)]

    class Taken(Nameless):
        kind: ClassVar[str] = "taken"
        after: float = 0.0

    class Again(Nameless):
        kind: ClassVar[str] = "bit_flip"

    for kind, message in (
        (dict, "subclass of NoiseChannel"),
        (Nameless, "no `kind`"),
        (Taken, "field `after`"),
        (Again, "already named `bit_flip`"),
    ):
        with pytest.raises(PluginError, match=message):
            register_noise_channel(kind)
    assert set(CHANNELS.names()) >= {"amplitude_damping", "depolarizing", "pauli"}


def test_channels_say_what_they_are():
    turn = CoherentRotation(axis="zz", angle_rad=0.1)
    assert (turn.label, turn.units, turn.sizes) == ("coherent rotation (axis ZZ)", {"angle_rad": "rad"}, (2,))
    assert hash(turn) == hash(CoherentRotation(axis="ZZ", angle_rad=0.1))
    with pytest.raises(ValueError, match="cannot follow `1q`"):
        ChannelNoise(channel=turn, after="1q")


def test_the_kind_that_the_readme_shows_is_a_channel():
    """Z with probability p on each qubit: off-diagonal elements shrink by 1 - 2 p."""
    text = (Path(__file__).parents[2] / "noise_profiles" / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0].replace("@register_noise_channel\n", "")
    found: dict[str, type[NoiseChannel]] = {}
    exec(compile(code, "README.md", "exec", dont_inherit=True), found)
    with CHANNELS.temporarily("phase_flip", found["PhaseFlip"]):
        profile = NoiseProfile(channels=[{"kind": "phase_flip", "p": 0.1}])
        channel = profile.channels[0].channel
        rho = sum(one @ np.full((2, 2), 0.5) @ one.conj().T for one in channel.kraus(1))
        np.testing.assert_allclose(rho, [[0.5, 0.4], [0.4, 0.5]])
        assert channel.scaled(10).rates == {"p": 0.5}


def test_the_profile_that_the_readme_shows_is_one(tmp_path):
    text = (Path(__file__).parents[2] / "noise_profiles" / "README.md").read_text()
    profile = loaded(tmp_path, text.split("```yaml\n")[1].split("```")[0])
    assert kinds(profile.channels) == ["amplitude_damping", "coherent_rotation", "pauli"]
    assert profile.gate_error("ecr", (0, 1)).channels[-1].channel.axis == "ZX"


def test_a_kind_may_take_the_place_of_another_on_purpose():
    def kind(factor):
        class Part(NoiseChannel):
            kind: ClassVar[str] = "part"
            p: float

            def kraus(self, num_qubits):
                return BitFlip(p=factor * self.p).kraus(num_qubits)

        return Part

    with CHANNELS.restored():
        register_noise_channel(kind(1))
        with pytest.raises(PluginError, match="already named `part`.*replace=True"):
            register_noise_channel(kind(0.5))
        register_noise_channel(replace=True)(kind(0.5))
        (one,) = NoiseProfile(channels=[{"kind": "part", "p": 0.2}]).channels
        np.testing.assert_allclose(one.channel.kraus(1)[1], BitFlip(p=0.1).kraus(1)[1])


def broken(_num_qubits):
    raise ValueError("not ready")


@pytest.mark.parametrize(
    ("operators", "message"),
    [
        (lambda _: None, "as a list of matrices"),
        (broken, "not ready"),
        (lambda _: ["x"], "as a list of matrices"),
    ],
)
def test_operators_that_are_none_are_explained(operators, message):
    class Kind(NoiseChannel):
        kind: ClassVar[str] = "kind"

        def kraus(self, num_qubits):
            return operators(num_qubits)

    with pytest.raises(ConfigError, match=f"`kind`.*{message}"):
        checked_kraus(Kind(), 1)


def test_operators_of_qiskit_are_operators():
    class Flip(NoiseChannel):
        kind: ClassVar[str] = "flip"

        def kraus(self, num_qubits):
            return Kraus(BitFlip(p=0.1).kraus(num_qubits))

    np.testing.assert_allclose(checked_kraus(Flip(), 1), BitFlip(p=0.1).kraus(1))


def test_channels_that_no_gate_has_room_for_are_refused():
    class Three(BitFlip):
        kind: ClassVar[str] = "three"

        @property
        def sizes(self):
            return (3,)

    with pytest.raises(ConfigError, match="one or two qubits"):
        NoiseProfile().with_channels(Three(p=0.1))
