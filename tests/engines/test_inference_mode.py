"""What an engine keeps from a call in torch's inference mode must serve training afterwards."""

from __future__ import annotations

import pytest
import torch

from qhybrid.circuits import build_circuit
from qhybrid.engines import make_engine
from qhybrid.engines.exact.native.library import kernels
from qhybrid.noise import NoiseProfile

needs_kernels = pytest.mark.skipif(kernels().library is None, reason="no compiled kernels")
NOISE = NoiseProfile.depolarizing(0.01, 0.02)
SPEC = build_circuit("hq_unet_qcnn", grid=2)


@pytest.mark.parametrize(
    ("options", "rates"),
    [
        ({}, None),
        ({"method": "statevector"}, None),
        ({"method": "statevector", "kernel": "torch"}, None),
        ({"method": "mps"}, None),
        ({"kind": "aer"}, None),
        ({"kind": "routed", "backend": "fake_torino"}, None),
        ({"method": "network", "noise": NOISE}, None),
        pytest.param({"method": "density", "noise": NOISE}, None, marks=needs_kernels),
        ({"noise": NOISE}, {"p_2q": torch.tensor(0.05)}),
        ({"shots": 100, "seed": 0}, None),
    ],
    ids=["tape", "statevector", "torch kernel", "mps", "aer", "routed", "noise", "density", "rates", "shots"],
)
def test_training_after_a_call_in_inference_mode(options, rates):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(5, SPEC.num_inputs, generator=generator)
    start = torch.rand(SPEC.num_weights, generator=generator)
    given = {} if rates is None else {"rates": rates}
    found = []
    for first_in_inference in (True, False):
        engine = make_engine(**{"kind": "exact"} | options)
        if first_in_inference:
            with torch.inference_mode():
                engine.expectations(SPEC, inputs, start, **given)
        x, w = inputs.clone().requires_grad_(), start.clone().requires_grad_()
        engine.expectations(SPEC, x, w, **given).square().sum().backward()
        with torch.inference_mode():
            after = engine.expectations(SPEC, inputs, start, **given)
        assert torch.isfinite(after).all()
        found.append((x.grad, w.grad))
    if "shots" not in options:  # The first call drew shots, so the second sees others.
        for grads in zip(*found):
            torch.testing.assert_close(*grads)
    assert found[0][1].abs().max() > 1e-3
