"""HQ-UNet's circuit as devices execute it, under their calibrated noise."""

from __future__ import annotations

import dataclasses

import engine_cases as cases
import numpy as np
import pytest
import torch

from qhybrid.circuits import build_circuit
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.noise import load_profile

F64 = torch.float64
TRAJECTORIES = 100
AER_TOLERANCE = 1e-8
"""Aer's simulator drops error terms of a probability below 1e-10; device noise has many of those."""


def arguments(spec, batch=1):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(batch, spec.num_inputs, generator=generator, dtype=F64)
    return inputs, torch.randn(spec.num_weights, generator=generator, dtype=F64)


def on_device(name, grid, **options):
    """Return the cut-down circuit and the device's noise on the same qubits."""
    routed = build_circuit("hq_unet_qcnn", grid=grid).transpile(load_device(name), trials=1, **options)
    qubits = routed.used_qubits
    return routed.restrict(qubits), load_profile(name).restrict(qubits)


def within_errors(exact, sampled):
    """Whether averages over trajectories lie within 5 standard errors: values in [-1, 1] spread no more."""
    spread = (1 - exact.square()).sqrt()
    return bool(((exact - sampled).abs() < 5 * spread / TRAJECTORIES**0.5).all())


@pytest.mark.parametrize("idle", ["none", "scheduled"])
@pytest.mark.parametrize("name", ["fake_torino", "fake_fez"])
def test_small_grids_equal_aers_density_matrix(name, idle):
    spec, profile = on_device(name, grid=2)
    profile = profile.model_copy(update={"idle": idle})
    inputs, weights = arguments(spec)
    exact = make_engine("exact", noise=profile).expectations(spec, inputs, weights)
    aer = make_engine("aer", noise=profile, method="density_matrix").expectations(spec, inputs, weights)
    torch.testing.assert_close(exact, aer, atol=AER_TOLERANCE, rtol=0)
    if idle == "none":
        expected = cases.density_reference(spec, inputs, weights, profile)
        np.testing.assert_allclose(exact.numpy(), expected, atol=1e-10)
    ideal = make_engine("exact").expectations(spec, inputs, weights)
    assert (exact - ideal).abs().max() > 1e-3


def test_nine_qubits_of_a_square_lattice_equal_aers_density_matrix():
    spec, profile = on_device("fake_nighthawk", grid=3)
    assert spec.num_qubits == 9
    inputs, weights = arguments(spec)
    exact = make_engine("exact", noise=profile).expectations(spec, inputs, weights)
    aer = make_engine("aer", noise=profile, method="density_matrix").expectations(spec, inputs, weights)
    torch.testing.assert_close(exact, aer, atol=AER_TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", ["fake_torino", "fake_nighthawk"])
def test_sixteen_qubits_have_values_and_gradients(name):
    spec, profile = on_device(name, grid=4)
    engine = make_engine("exact", noise=profile)
    assert engine.explain(spec).method == "network"
    inputs, weights = (tensor.requires_grad_() for tensor in arguments(spec))
    values = engine.expectations(spec, inputs, weights)
    values.square().sum().backward()
    step = 1e-5
    for tensor, place in ((inputs, (0, 17)), (weights, (3,))):
        with torch.no_grad():
            shifted = []
            for sign in (1, -1):
                tensor[place] += sign * step
                shifted.append(engine.expectations(spec, inputs, weights).square().sum().item())
                tensor[place] -= sign * step
        slope = (shifted[0] - shifted[1]) / (2 * step)
        assert tensor.grad[place].item() == pytest.approx(slope, abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fake_torino", "fake_fez", "fake_nighthawk"])
def test_sixteen_qubits_agree_with_aers_trajectories(name):
    whole, profile = on_device(name, grid=4)
    # Aer pays for every observable in every trajectory.
    spec = dataclasses.replace(whole, observables=whole.observables[::4])
    inputs, weights = arguments(spec)
    exact = make_engine("exact", noise=profile).expectations(spec, inputs, weights)
    engine = make_engine("aer", noise=profile, trajectories=TRAJECTORIES, seed=7)
    sampled = engine.expectations(spec, inputs, weights)
    assert within_errors(exact, sampled)
    ideal = make_engine("exact").expectations(spec, inputs, weights)
    assert (ideal - exact).abs().max() > 0.01
