"""Profiles of listed channels in a sweep: both engines, scaled, mitigated, in their own cells."""

from __future__ import annotations

import pytest

from qhybrid.experiments.sweeps import read_results, run_sweep
from qhybrid.experiments.sweeps.profiles import SweepProfiles
from qhybrid.noise import AmplitudeDamping, ChannelNoise, CoherentRotation, NoiseProfile

CLASSIFIER = "head.classifier.circuit"


@pytest.fixture
def profile_file(tmp_path):
    turn = ChannelNoise(channel=CoherentRotation(axis="ZX", angle_rad=0.1), after="2q")
    profile = NoiseProfile(name="listed").with_channels(AmplitudeDamping(gamma=0.03), turn)
    return str(profile.save(tmp_path / "listed.yaml"))


def test_channels_are_swept(make_image_run, sweep_of, mnist_root, tmp_path, profile_file):
    grids = (
        {
            "profiles": [profile_file],
            "scales": [0, 1, 2],
            "engines": ["exact", "aer_density_matrix"],
            "layers": [[CLASSIFIER]],
        },
        {"profiles": ["ideal"], "layers": [[CLASSIFIER]]},
        {"profiles": [profile_file], "mitigations": ["zne"], "layers": [[CLASSIFIER]]},
    )
    config = sweep_of([make_image_run()], *grids, samples=4)
    outcome = run_sweep(config, mnist_root, tmp_path / "out", processes=1)
    assert outcome.failures == []
    table = read_results(outcome.folder)
    table = table[table["metric"] == "cross_entropy"]
    plain = table[table["mitigation"] == "none"].set_index(["engine", "profile", "scale"])["value"]
    name = next(one for one in table["profile"].unique() if one != "ideal")
    for scale in (1.0, 2.0):
        exact, aer = (plain[engine, name, scale] for engine in ("exact", "aer_density_matrix"))
        assert exact == pytest.approx(aer, abs=1e-6)
    ideal = plain["exact", "ideal", 1.0]
    assert plain["exact", name, 0.0] == pytest.approx(ideal, abs=1e-7)
    values = [plain["exact", name, scale] for scale in (0.0, 1.0, 2.0)]
    mitigated = table[table["mitigation"] == "zne"]["value"].item()
    assert len({round(value, 6) for value in [*values, mitigated]}) == 4


def test_scaled_profiles_keep_their_channels(profile_file):
    profiles = SweepProfiles()
    twice = profiles.scaled(profile_file, 2)
    assert [one.channel.rates for one in twice.channels] == [{"gamma": 0.06}, {"angle_rad": 0.2}]
    assert profiles.scaled(profile_file, 0) is None
