"""Random circuits against matrices and Kraus operators by hand: names, nesting, expressions, noise."""

from __future__ import annotations

import warnings

import fuzz_cases as fuzz
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.noise import AmplitudeDamping, BitFlip, CoherentRotation, NoiseProfile

F64 = torch.float64
CHANNELS = [AmplitudeDamping(gamma=0.1), CoherentRotation(axis="ZX", angle_rad=0.2), BitFlip(p=0.05)]
PLAIN = {"suppress_health_check": list(HealthCheck), "phases": [Phase.explicit, Phase.generate]}
FAST = settings(max_examples=30, derandomize=True, **PLAIN)
MANY = settings(max_examples=1000, **PLAIN)


def found(case, kind, noise=None, free=True, **options):
    order = [fuzz.X, fuzz.Y, fuzz.W]
    spec = CircuitSpec.from_circuit(case.circuit(), order[:2], order[2:], case.observables)
    if not free:  # Qiskit does not bind parameters within controlled and modified gates of users
        known = {one: case.values[one.name] for one in spec.circuit.parameters}
        spec = CircuitSpec.from_circuit(spec.circuit.assign_parameters(known), [], [], case.observables)
        order = []
    inputs = [[case.values[one.name] for one in order[:2]]]
    weights = torch.tensor([case.values[one.name] for one in order[2:]], dtype=F64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is taken apart
        engine = make_engine(kind, noise=noise, **options)
        return engine.expectations(spec, torch.tensor(inputs, dtype=F64), weights)[0].numpy()


def check_without_noise(case):
    expected = fuzz.exact_values(case)
    for kind, options in (("exact", {}), ("exact", {"method": "statevector"}), ("aer", {})):
        np.testing.assert_allclose(found(case, kind, **options), expected, atol=1e-9)
    np.testing.assert_allclose(found(case, "exact", free=False), expected, atol=1e-9)


@st.composite
def profiles(draw):
    rate = st.sampled_from([0.0, 0.02, 0.1])
    names = draw(
        st.lists(st.sampled_from(["x", "cx", "rx", "rz", "u", "crx", "h", "unitary", "id"]), unique=True)
    )
    return NoiseProfile(
        p_1q=draw(rate),
        p_2q=draw(rate),
        readout_p01=draw(rate),
        readout_p10=draw(rate),
        gates={name: {"p": draw(rate)} for name in names},
        channels=draw(st.lists(st.sampled_from(CHANNELS), max_size=2)),
        basis=draw(st.sampled_from([("rz", "sx", "x", "cx"), ("u", "cx"), ("rz", "rx", "cz")])),
    )


def check_with_noise(case, profile):
    exact = found(case, "exact", profile)
    np.testing.assert_allclose(found(case, "aer", profile, method="density_matrix"), exact, atol=1e-9)
    np.testing.assert_allclose(exact, fuzz.noisy_values(case, profile), atol=1e-9)
    np.testing.assert_allclose(found(case, "exact", profile, free=False), exact, atol=1e-9)


@FAST
@given(fuzz.circuits())
def test_values(case):
    check_without_noise(case)


@FAST
@given(fuzz.circuits(), profiles())
def test_values_under_noise(case, profile):
    check_with_noise(case, profile)


@pytest.mark.slow
@MANY
@given(fuzz.circuits())
def test_many_values(case):
    check_without_noise(case)


@pytest.mark.slow
@MANY
@given(fuzz.circuits(), profiles())
def test_many_values_under_noise(case, profile):
    check_with_noise(case, profile)
