from __future__ import annotations

import pickle
from collections import OrderedDict

import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.circuits.fingerprint import circuit_fingerprint
from qhybrid.devices import load_device
from qhybrid.engines import lowering, make_engine
from qhybrid.engines.exact.plan import simulation_cost
from qhybrid.errors import ConfigError, EngineError
from qhybrid.noise import NoiseProfile


def arguments(spec):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(2, spec.num_inputs, generator=generator, dtype=torch.float64)
    return inputs, torch.randn(spec.num_weights, generator=generator, dtype=torch.float64)


def test_routed_is_transpiling_and_restricting_by_hand():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = arguments(spec)
    engine = make_engine("routed", backend="fake_manila", trials=2, layout_seed=3)
    routed = spec.transpile(load_device("fake_manila"), 3, trials=2, cost=simulation_cost)
    by_hand = make_engine("exact", noise=NoiseProfile.from_backend("fake_manila"))
    torch.testing.assert_close(
        engine.expectations(spec, inputs, weights), by_hand.expectations(routed, inputs, weights)
    )
    assert engine.explain(spec).method == "network"


def test_the_layout_that_is_cheaper_to_simulate_is_taken():
    spec = build_circuit("hq_unet_qcnn", grid=3)
    seen = []

    def recorded(candidate):
        seen.append(simulation_cost(candidate))
        return seen[-1]

    spec.transpile(load_device("fake_fez"), trials=4, cost=recorded)
    assert min(seen) < max(seen)
    engine = make_engine("routed", backend="fake_fez", trials=4)
    assert engine.explain(spec).flops <= min(seen) * 1.05
    lattice = spec.transpile(load_device("fake_nighthawk"), trials=1)
    assert simulation_cost(lattice) < min(seen)


def test_cones_that_no_sweep_can_carry_cost_infinity():
    assert simulation_cost(build_circuit("hq_unet_qcnn", grid=4, reps=4)) == float("inf")


def test_without_noise_only_the_route_differs():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = arguments(spec)
    engine = make_engine("routed", backend="fake_manila", trials=1, noise=NoiseProfile())
    ideal = make_engine("exact").expectations(spec, inputs, weights)
    torch.testing.assert_close(engine.expectations(spec, inputs, weights), ideal)


@pytest.mark.parametrize("used", [False, True])
def test_routed_engines_can_be_sent_to_other_processes(used):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = arguments(spec)
    engine = make_engine("routed", backend="fake_manila", trials=1, noise=NoiseProfile(p_2q=0.02))
    if used:
        engine.expectations(spec, inputs, weights)
    sent = pickle.loads(pickle.dumps(engine))  # noqa: S301 - our own bytes
    assert sent.describe() == engine.describe()
    torch.testing.assert_close(
        sent.expectations(spec, inputs, weights), engine.expectations(spec, inputs, weights)
    )


def test_aer_can_execute_routed_circuits_and_idle_noise_counts():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = arguments(spec)
    values = {}
    for name, options in {
        "exact": {"idle": True},
        "aer": {"idle": True, "engine": "aer", "options": {"method": "density_matrix"}},
        "still": {},
    }.items():
        engine = make_engine("routed", backend="fake_manila", trials=1, **options)
        values[name] = engine.expectations(spec, inputs, weights)
    torch.testing.assert_close(values["exact"], values["aer"], atol=1e-8, rtol=0)
    assert (values["exact"] - values["still"]).abs().max() > 1e-4


def test_shots_and_gradients_pass_through():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = arguments(spec)
    engine = make_engine("routed", backend="fake_manila", trials=1, shots=100, seed=5)
    values = engine.expectations(spec, inputs.requires_grad_(), weights)
    values.sum().backward()
    assert inputs.grad.abs().max() > 0
    exact = make_engine("routed", backend="fake_manila", trials=1).expectations(spec, inputs, weights)
    assert 0 < (values - exact).abs().max() < 5 / 100**0.5
    told = engine.describe()
    assert (told["kind"], told["device"], told["calibration"]) == ("routed", "fake_manila", "2024-05-27")
    assert (told["shots"], told["engine"]) == (100, "exact")


def test_rates_can_be_scaled():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = arguments(spec)

    def values(**options):
        return make_engine("routed", backend="fake_manila", trials=1, **options).expectations(
            spec, inputs, weights
        )

    profile = NoiseProfile.from_backend("fake_manila")
    torch.testing.assert_close(values(scale=3), values(noise=profile.scale(3)))
    torch.testing.assert_close(values(scale=0), values(noise=NoiseProfile()))
    assert (values(scale=3) - values()).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, EngineError, "option `backend`"),
        ({"backend": "fake_trino"}, ConfigError, "fake_torino"),
        ({"backend": "fake_manila", "scale": -1}, EngineError, "`scale` must be a number of at least 0"),
        ({"backend": "fake_manila", "scale": "2"}, EngineError, "but is '2'"),
        ({"backend": "fake_manila", "layout": "nice"}, EngineError, "one of simulation, gates"),
        ({"backend": "fake_manila", "engine": "routed"}, EngineError, "one of exact, aer"),
        ({"backend": "fake_manila", "options": {"method": "tea"}}, EngineError, "method"),
        ({"backend": "fake_manila", "engine": "aer"}, EngineError, "trajectories"),
    ],
)
def test_bad_options_are_refused_at_once(options, error, message):
    with pytest.raises(error, match=message):
        make_engine("routed", **options)


def test_engines_without_predictions_say_so():
    engine = make_engine("routed", backend="fake_manila", engine="aer", options={"method": "density_matrix"})
    with pytest.raises(EngineError, match="predicts no costs"):
        engine.explain(build_circuit("hq_unet_qcnn", grid=2))


def test_a_circuit_is_opened_once_for_all_that_is_planned_of_it(monkeypatch):
    """Joint shots of two bases plan three circuits that differ in their observables alone."""
    x, circuit = ParameterVector("x", 2), QuantumCircuit(2)
    circuit.ry(x[0], 0)
    circuit.cx(0, 1)
    circuit.ry(x[1], 1)
    spec = CircuitSpec.from_circuit(circuit, list(x), [], ["ZZ", "XX", "IZ"])
    opened = []
    original = lowering.lower_circuit

    def counted(one, reader, noise=None):
        opened.append((circuit_fingerprint(one, list(x), [], []), noise is not None))
        return original(one, reader, noise)

    monkeypatch.setattr(lowering, "lower_circuit", counted)
    monkeypatch.setattr(lowering, "_KNOWN", OrderedDict())
    profile = NoiseProfile.depolarizing(0.01, 0.02)
    engine = make_engine("exact", noise=profile, shots=100, seed=0)
    first = engine.expectations(spec, torch.zeros(2, 2), torch.zeros(0))
    assert sorted(noisy for _, noisy in opened) == [False, True]
    # Another profile is another circuit, also where the first one is gone.
    other = make_engine("exact", noise=profile.scale(3.0)).expectations(
        spec, torch.zeros(2, 2), torch.zeros(0)
    )
    exact = make_engine("exact", noise=profile).expectations(spec, torch.zeros(2, 2), torch.zeros(0))
    assert (other - exact).abs().max() > 1e-3
    assert (first - exact).abs().max() < 0.5
