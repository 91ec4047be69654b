from __future__ import annotations

import pytest
import torch

from qhybrid.circuits import build_circuit
from qhybrid.engines import make_engine
from qhybrid.engines.exact import constants, kept_plans
from qhybrid.engines.exact.plan import plan_circuit
from qhybrid.noise import NoiseProfile


@pytest.fixture
def planned(monkeypatch):
    """The circuits that are planned, where plans are kept."""
    monkeypatch.setattr(kept_plans, "MOST", 3)
    found = []

    def counted(spec, noise=None, **options):
        found.append((spec.name, noise))
        return plan_circuit(spec, noise, **options)

    monkeypatch.setattr(kept_plans, "plan_circuit", counted)
    yield found
    kept_plans._kept.clear()


def values(spec, noise=None, **options):
    generator = torch.Generator().manual_seed(0)
    shapes = (3, spec.num_inputs), (spec.num_weights,)
    inputs, weights = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return make_engine("exact", noise=noise, **options).expectations(spec, inputs, weights)


def test_engines_of_one_circuit_share_a_plan(planned):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    first = values(spec)
    assert torch.equal(values(build_circuit("hq_unet_qcnn", grid=2)), first)
    torch.testing.assert_close(values(spec, method="statevector"), first)
    assert len(planned) == 1


def test_whatever_decides_a_plan_makes_another(planned, monkeypatch):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    noises = NoiseProfile.depolarizing(0.01, 0.02), NoiseProfile.depolarizing(0.01, 0.03)
    found = [values(spec), *(values(spec, noise) for noise in noises), values(spec, kernel="torch")]
    assert len(planned) == 4
    assert not torch.allclose(found[1], found[2])
    faster = {name: value / 2 for name, value in constants.SHIPPED.items()}
    monkeypatch.setattr(kept_plans, "constants_in_use", lambda threads: faster)
    assert torch.equal(values(spec, kernel="torch"), found[3])
    assert len(planned) == 5


def test_names_and_notes_of_noise_do_not(planned):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    noise = NoiseProfile.depolarizing(0.01, 0.02)
    values(spec, noise)
    values(spec, noise.model_copy(update={"name": "another"}))
    assert len(planned) == 1


def test_the_latest_ones_are_kept(planned):
    circuits = [build_circuit("hq_unet_qcnn", grid=2, reps=reps) for reps in (1, 2, 3, 4)]
    for spec in circuits:
        values(spec)
        values(circuits[0])
    assert len(planned) == 4  # the first one was the latest again and again
    assert len(kept_plans._kept) == 3
    values(circuits[1])
    assert len(planned) == 5


def test_a_large_plan_is_left_to_its_engine(planned, monkeypatch):
    monkeypatch.setattr(kept_plans, "LARGEST", 5)
    spec = build_circuit("hq_unet_qcnn", grid=2)
    values(spec)
    values(spec)
    assert len(planned) == 2
    assert not kept_plans._kept
