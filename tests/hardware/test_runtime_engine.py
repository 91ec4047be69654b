"""The engine `runtime`: values near the exact ones, gradients by parameter shift, one job a call."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from qiskit.circuit import ParameterVector, QuantumCircuit

import qhybrid.hardware  # noqa: F401 - registers the engine
from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import list_engines, make_engine
from qhybrid.errors import EngineError, HardwareError
from qhybrid.hardware.services.local import LocalService
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.layers import QuantumLayer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def engine(folder):
    return make_engine("runtime", backend="aer", shots=20000, seed=3, folder=folder)


def test_it_is_registered_and_says_what_it_is(engine):
    assert "runtime" in list_engines()
    assert engine.describe()["backend"] == "aer"


def test_values_and_gradients_are_near_the_exact_ones(engine):
    spec = build_circuit("hq_unet_qcnn", grid=1, encoding="xy", reps=0)
    inputs = torch.tensor([[0.3, -0.8], [1.1, 0.4]], dtype=torch.float64)
    found = []
    for one in (engine, make_engine("exact")):
        rows = inputs.clone().requires_grad_()
        values = QuantumLayer(spec, one)(rows)
        values.sum().backward()
        found.append((values.detach(), rows.grad))
    for measured, exact in zip(*found):
        assert torch.abs(measured - exact).max() < 6 * 2 / np.sqrt(20000)


def test_a_backward_pass_is_one_job(engine, folder):
    spec = build_circuit("hq_unet_qcnn", grid=1, encoding="x", reps=0)
    jobs = folder / "jobs"
    before = len(list(jobs.glob("local-*.json")))
    rows = torch.zeros((3, 1), dtype=torch.float64, requires_grad=True)
    values = QuantumLayer(spec, engine)(rows)
    assert len(list(jobs.glob("local-*.json"))) == before + 1
    values.sum().backward()
    assert len(list(jobs.glob("local-*.json"))) == before + 2


def test_fake_devices_are_noisy():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs = torch.zeros((1, spec.num_inputs), dtype=torch.float64)
    weights = torch.zeros(spec.num_weights, dtype=torch.float64)
    engine = make_engine("runtime", backend="fake_manila", shots=4000)
    values = engine.expectations(spec, inputs, weights)[0]
    assert values.shape == (8,)
    assert (values[:4] < 0.995).all()
    assert (values[:4] > 0.8).all()


def test_the_cap_covers_all_calls_together(tmp_path, monkeypatch):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs = torch.zeros((1, spec.num_inputs), dtype=torch.float64)
    weights = torch.zeros(spec.num_weights, dtype=torch.float64)
    settings = HardwareSettings(backend="aer", max_qpu_seconds=5.0)
    engine = make_engine("runtime", backend="aer", shots=100, folder=tmp_path, settings=settings)
    monkeypatch.setattr(LocalService, "paid", True)
    monkeypatch.setattr(LocalService, "usage", lambda _service, _job: 2.5)
    engine.expectations(spec, inputs, weights)
    with pytest.raises(HardwareError, match="max_qpu_seconds"):
        engine.expectations(spec, inputs, weights)
    assert len(list((tmp_path / "jobs").glob("local-*.json"))) == 1


def test_empty_batches_cost_nothing(engine):
    spec = build_circuit("hq_unet_qcnn", grid=1)
    assert engine.expectations(spec, torch.zeros(0, 3), torch.zeros(spec.num_weights)).shape == (0, 2)


def test_options_that_would_be_ignored_are_errors():
    with pytest.raises(EngineError, match="would ignore"):
        make_engine("runtime", backend="aer", dtype="float64")


def test_second_derivatives_and_copies_on_a_device():
    """d^2 <Z> / dx^2 = -cos(x + w) and mixed, within 5 standard deviations of four shifted values."""
    x, w = ParameterVector("x", 1), ParameterVector("w", 1)
    circuit = QuantumCircuit(1)
    circuit.ry(x[0] + w[0], 0)
    spec = CircuitSpec.from_circuit(circuit, list(x), list(w), ["Z"])
    shots = 20_000
    engine = make_engine("runtime", backend="aer", shots=shots, seed=1)
    rows = torch.tensor([[0.4]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(engine.expectations(spec, rows, weights).sum(), rows, create_graph=True)
    slope.pow(2).sum().backward()
    exact = 2 * math.sin(0.9) * math.cos(0.9)
    assert weights.grad.item() == pytest.approx(exact, abs=5 * 2 / shots**0.5)
    assert rows.grad.item() == pytest.approx(exact, abs=5 * 2 / shots**0.5)
    copies = torch.tensor([[0.1], [1.2]], dtype=torch.float64)
    values = torch.func.vmap(lambda row: engine.expectations(spec, row[None], weights.detach())[0])(copies)
    torch.testing.assert_close(values[:, 0], (copies[:, 0] + 0.5).cos(), atol=5 / shots**0.5, rtol=0)


@pytest.mark.parametrize(
    "options", [{"shots": 1.5}, {"shots": True}, {"shots": 0}, {"seed": -1}, {"seed": "a"}]
)
def test_counts_and_seeds_are_whole_numbers(options):
    with pytest.raises(EngineError, match="whole number"):
        make_engine("runtime", backend="aer", **options)
