"""Engines that start their random numbers anew: the same seed gives the same values, whatever came before."""

import pytest
import torch

from qhybrid.circuits import build_circuit
from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine
from qhybrid.engines.mitigation import mitigated_engine
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

NOISE = NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02)


def shots(seed):
    return make_engine("exact", noise=NOISE, shots=50, seed=seed)


MAKERS = {
    "exact": shots,
    "aer": lambda seed: make_engine("aer", shots=50, seed=seed),
    "aer_trajectories": lambda seed: make_engine("aer", noise=NOISE, trajectories=20, seed=seed),
    "routed": lambda seed: make_engine("routed", backend="fake_manila", shots=50, seed=seed, trials=1),
    "readout": lambda seed: mitigated_engine("readout", lambda noise, k: shots(seed + k), NOISE),
    "zne": lambda seed: mitigated_engine("zne", lambda noise, k: shots(seed + k), NOISE),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_same_seed_same_values(kind):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = torch.rand(2, spec.num_inputs), torch.rand(spec.num_weights)
    if spec.num_qubits > 5 and kind == "routed":
        pytest.skip("the device is smaller")
    engine, other = MAKERS[kind](0), MAKERS[kind](7)
    assert engine.random
    other.expectations(spec, inputs, weights)
    found = []
    for one, seed in ((engine, 3), (other, 3), (engine, 4), (engine, 3)):
        one.reseed(seed)
        found.append(one.expectations(spec, inputs, weights))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[3])
    assert not torch.equal(found[0], found[2])


def test_exact_values_stay_exact():
    engine = make_engine("exact", noise=NOISE)
    before = engine.describe()
    engine.reseed(3)
    assert not engine.random
    assert engine.describe() == before


def test_a_random_engine_without_seeds_says_so():
    class Plugin(Engine):
        kind = "dice"

        def expectations(self, spec, inputs, weights):
            raise NotImplementedError

        def describe(self):
            return {"kind": self.kind, "shots": 10}

    with pytest.raises(EngineError, match="Engine `dice` must be able to start"):
        Plugin().reseed(1)
