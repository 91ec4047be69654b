"""What results are kept under, and figures that are published: neither may change by an edit of the code.

A value that has to change gets a new scheme or version, and old results stay readable; do not edit it here.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qhybrid.circuits import build_circuit
from qhybrid.experiments.repeats.comparison import compare, read_repeats
from qhybrid.experiments.sweeps.cells import Conditions, SweepRun, cell_key
from qhybrid.noise import NoiseProfile

ROOT = Path(__file__).parents[1]
CIRCUITS = {
    ("hq_unet_qcnn", "{}"): "80f0af786f17344296dc2cbf3c8a088ecf361655bf8ff9f650dc1b115f7c8d58",
    ("hq_unet_qcnn", '{"grid": 2}'): "5164eac9c426c4ba95741cdafcac6913318e1fa845886c7050adc0a11427d79a",
    ("qcnn", "{}"): "354d5f90ff2b0e996870d0abb3871d25fab6f39545e1bea3e562de66b8e78bdb",
    ("qcq_classifier", "{}"): "2d238179aa4907d49e28315f4762c471a49cdfc83e394c75b54585bdbf604b33",
    ("qcq_classifier", '{"reps": 3}'): "f30faf27a7122bd2872b928ba2c0904090154af921672f46fb6cd9419d4af73f",
    ("qcq_filter", "{}"): "821a165a514b0a0c4e836f3349a8ae8c2f8d51ce437f5aa25c171895825b8c22",
    ("qcq_filter", '{"seed": 1}'): "daf405181200a31c1e3d54f4968d15e8bcc93f167e1d8a9633effd247eb1fcbb",
    ("qufex_filter1", "{}"): "711249dfca0684f1b93d456168d0674e862a169e899c3d2ddff41de7072a2324",
    ("qufex_filter2", "{}"): "b08065b0a5cc100d8980c188b6d5668b1baeab866ddaf93084b48ed84d0e92dc",
}
PROFILES = {
    "depolarizing_0.001_0.01": "aa0a78aab9fc2916e2a53caa12f011c52047c17b2174bf782c1432e5e7eb5e60",
    "depolarizing_0.005_0.01": "9d6c35136c714905771405d8c4d2a66463ebc0ac8ccec0302ce96445d2770b34",
    "depolarizing_0.01_0.02": "50663bc82e7bf617a1f0bba4b87a2bbf88a9f459156f518edc0ec8ce33e4b15f",
    "depolarizing_0.02_0.03": "6d11c06dcdb021621c9df3bc618e9541cc1c2ca6c14c66ea317b94e6798f999f",
    "depolarizing_0.05_0.1": "84ff9f84cda3b6bb9fed17f1705f9ef0b196347c4f665de9305d21e52ce81ab3",
    "fake_fez": "5a957fe0edd9c723c4da8af4367934e0d160549a300c89c79c3aa9bd90e0dedf",
    "fake_nighthawk": "bf50767cf9930d33504d9fe6fb075889f5b41d5abe88c3085d67cdef83ab1d88",
    "fake_torino": "517ce0e72f6e44cf0ad14e752572c6425c33e9b0e03b1c943d5943d1ceb72111",
    "ideal": "e2c4ff36cfb271e69eb4027201d8116b8185c11910a3cca8be001f354608a18b",
    "readout": "16ea36bea28cb2e9a31a01637abdaf31b379b4087b56cd22d1d358c05b57c738",
    "thermal": "a56d34a20c1676384822ae5d35375648c1b5e8f478242b2c924227280a152d88",
}
KEYS = {
    "plain": "1a813aedbe38911e6b8a99849036b1c9",
    "shots": "a2dddfb31bd3f047389b9fe3301fee6a",
    "scaled": "3a699dd1c9d0de9867b4e36b52881c74",
    "layers": "f49ae4091b89944c3fa820df36390e73",
    "trajectories": "7cc3bd6dfcedc2dc7a072d69a8bd2a1b",
    "mapped": "b4b3f770b251b3b33cda363e4444bd14",
    "trained": "e5b94e3467bd29d0531b23a1d3497cc9",
}
FIGURES = {
    "qu_net_12-2-1": (-0.0023396557051373183, -0.07978699313577531, 0.07510768172550067, 0.9371854860304649),
    "qu_net_8_1_2": (-0.0024429647873068145, -0.11678510964084737, 0.11189918006623376, 0.9555427058273391),
}


@pytest.mark.parametrize(("name", "arguments"), CIRCUITS)
def test_fingerprints_of_named_circuits_stay(name, arguments):
    assert build_circuit(name, **json.loads(arguments)).fingerprint == CIRCUITS[name, arguments]


@pytest.mark.parametrize("name", PROFILES)
def test_fingerprints_of_profiles_stay(name):
    assert NoiseProfile.load(ROOT / "noise_profiles" / f"{name}.yaml").fingerprint == PROFILES[name]


def cells():
    run = SweepRun(
        "a", "runs/a", {"weights": "w", "model": {"name": "m"}, "data": {"images": 3}}, {"engine": {}}
    )
    settings = {
        "split": "test",
        "samples": None,
        "trajectories": 100,
        "transpile_seed": 0,
        "zne": {"factors": [1, 3]},
    }
    noise = NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02)
    conditions = {
        "plain": (Conditions("exact", "ideal"), None),
        "shots": (Conditions("exact", "d", shots=64, seed=1), noise),
        "scaled": (Conditions("exact", "d", scale=2.0), noise.scale(2.0)),
        "layers": (Conditions("aer_density_matrix", "d", layers=("head",), mitigation="zne"), noise),
        "trajectories": (Conditions("aer_trajectories", "d", seed=0), noise),
        "mapped": (Conditions("exact", "d", mapping="fake_torino"), noise),
        "trained": (Conditions("trained", "d"), noise),
    }
    return {name: cell_key(run, *found, settings) for name, found in conditions.items()}


def test_keys_of_sweep_cells_stay():
    assert cells() == KEYS


@pytest.mark.parametrize("other", FIGURES)
def test_published_comparisons_stay(other):
    """Paired differences of soft IoU to the U-Net, from the committed summaries."""
    folders = [ROOT / "docs" / "results" / "ph2" / name for name in ("qu_unet", other)]
    found = compare(*map(read_repeats, folders), "soft_iou")
    assert (found.mean, found.low, found.high, found.p_t) == pytest.approx(FIGURES[other], rel=1e-9)
