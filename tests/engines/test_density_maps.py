"""Maps of one qubit and products of vectors in the compiled library, against plain torch."""

from __future__ import annotations

import density_twins as twins
import numpy as np
import pytest
import torch

from qhybrid.engines.exact.density.maps import MapGroups, product
from qhybrid.engines.exact.density.plan import QubitMap
from qhybrid.engines.exact.native import library
from qhybrid.engines.gates.expression import Angle

LIBRARY = library.kernels().library
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=f"no compiled kernels: {library.kernels().reason}")
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
INPUTS, WEIGHTS = 3, 4


def a_matrix(rng) -> np.ndarray:
    """A map that preserves the trace and moves the maximally mixed state."""
    matrix = 0.4 * rng.normal(size=(4, 4))
    matrix[0] = (1, 0, 0, 0)
    return matrix


def some_maps(rng, count: int, data: bool) -> list[QubitMap]:
    maps = []
    for _ in range(count):
        one = QubitMap(before=a_matrix(rng))
        for _ in range(int(rng.integers(0, 4))):
            inputs = ((int(rng.integers(INPUTS)), 1.5),) if data and rng.random() < 0.6 else ()
            weights = ((int(rng.integers(WEIGHTS)), -0.7),) if rng.random() < 0.6 else ()
            angle = Angle(float(rng.normal()), inputs, weights)
            behind = np.eye(4) if rng.random() < 0.4 else a_matrix(rng)
            one.turns.append((str(rng.choice(list("XYZ"))), angle, behind))
        maps.append(one)
    return maps


def slopes(values, leaves):
    """Gradients of a sum with unequal factors."""
    factors = [torch.linspace(0.5, 1.5, one.numel(), dtype=one.dtype).reshape(one.shape) for one in values]
    total = sum((one * factor).sum() for one, factor in zip(values, factors, strict=True))
    return torch.autograd.grad(total, leaves, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("data", [(True, True), (True, False), (False, True), (False, False)])
def test_maps_and_their_gradients(dtype, batch, data):
    rng = np.random.default_rng([batch, *data])
    groups = [some_maps(rng, 3, data[0]), some_maps(rng, 4, data[1]), some_maps(rng, 3, False)]
    inputs = torch.as_tensor(rng.normal(size=(INPUTS, batch))).to(dtype).requires_grad_()
    weights = torch.as_tensor(rng.normal(size=WEIGHTS)).to(dtype).requires_grad_()
    made = MapGroups(*groups, (INPUTS, WEIGHTS), inputs.detach(), LIBRARY)
    found = made(inputs, weights)
    first, between, last = (twins.matrices(group, inputs, weights) for group in groups)
    wanted = [first[:, :, 0] + first[:, :, 3], between[:, 1:].flatten(1, 2), last[..., 0]]
    # Groups without data have one column.
    expected = [
        other if one.shape == other.shape else other[..., :1]
        for one, other in zip(found, wanted, strict=True)
    ]
    limit = TOLERANCE[dtype]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=limit, rtol=limit)
    for one, other in zip(slopes(found, [inputs, weights]), slopes(expected, [inputs, weights]), strict=True):
        torch.testing.assert_close(one, other, atol=10 * limit, rtol=10 * limit)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("qubits", "low", "columns"), [(2, 1, 1), (3, 1, 7), (5, 2, 3), (7, 3, 2)])
def test_products_and_their_gradients(dtype, qubits, low, columns):
    rng = np.random.default_rng(qubits)
    vectors = torch.as_tensor(rng.normal(size=(qubits, 4, columns))).to(dtype).requires_grad_()
    found = product(LIBRARY, vectors, low)
    wanted = twins.product(vectors[low:]), twins.product(vectors[:low])
    limit = TOLERANCE[dtype]
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=limit, rtol=limit)
    torch.testing.assert_close(
        slopes(found, [vectors])[0], slopes(wanted, [vectors])[0], atol=50 * limit, rtol=10 * limit
    )


def test_a_slope_that_nobody_asks_for_is_zero():
    """Only the last maps are used: the others' angles have no part in it."""
    rng = np.random.default_rng(1)
    groups = [some_maps(rng, 2, True), some_maps(rng, 2, True), some_maps(rng, 2, False)]
    inputs = torch.zeros(INPUTS, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.zeros(WEIGHTS, dtype=torch.float64, requires_grad=True)
    _, _, last = MapGroups(*groups, (INPUTS, WEIGHTS), inputs.detach(), LIBRARY)(inputs, weights)
    by_inputs, by_weights = slopes([last], [inputs, weights])
    assert not by_inputs.any()
    assert by_weights.any()
