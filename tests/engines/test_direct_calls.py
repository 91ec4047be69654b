"""Calls that go straight to the compiled kernels: same values, same rules, expressions inside the library."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from engine_cases import specs, statevector_values
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.engines.exact.native.library import kernels
from qhybrid.engines.exact.plan import plan_circuit
from qhybrid.errors import EngineError, NotFiniteError
from qhybrid.layers import QuantumLayer

pytestmark = pytest.mark.skipif(kernels().library is None, reason="no compiled kernels")


def engine_of(kernel):
    return make_engine("exact", method="statevector", kernel=kernel)


def two_parts():
    """Two parts without a gate between them, so two statevectors; products of weights and of inputs."""
    x, w = ParameterVector("x", 6), ParameterVector("w", 6)
    circuit = QuantumCircuit(6)
    for qubit in range(6):
        circuit.ry(x[qubit] * x[(qubit + 1) % 6], qubit)
    for control in (0, 1, 3, 4):
        circuit.cx(control, control + 1)
    for qubit in range(6):
        circuit.ry(w[qubit] * w[0] + x[qubit], qubit)
    observables = ["ZIIIII", SparsePauliOp(["IIXIII", "IIIIII"], [1.0, 0.5]), "IIZIIZ"]
    return CircuitSpec.from_circuit(circuit, list(x), list(w), observables)


def of_expression(expression):
    """One qubit with RY of an expression of x, y and the weights a, b; read in X and Z."""
    x, y, a, b = (Parameter(name) for name in "xyab")
    circuit = QuantumCircuit(1)
    circuit.ry(expression(x, y, a, b), 0)
    return CircuitSpec.from_circuit(circuit, [x, y], [a, b], ["X", "Z"])


EXPRESSIONS = {
    "functions of an input": lambda x, y, a, b: x.sin() + x.cos() * x.tan() + x.exp() - x.log() + abs(x - y),
    "arc functions": lambda x, y, a, b: (x / 3).arcsin() * (y / 3).arccos() + (x * y).arctan(),
    "powers": lambda x, y, a, b: x**2 + x**3 - y**-1 + y**0.5 + x**-1.5 + (x * y) ** -2,
    "exponents": lambda x, y, a, b: x**a + a**y + x**y + (a * b) ** (x + 1),
    "weights alone": lambda x, y, a, b: a.sin() * b + (a * b).exp() + a**b - a.log() * b**3,
    "both": lambda x, y, a, b: (np.pi - x) * (np.pi - a) * 2 + (y * b).sin() * x,
    "signs": lambda x, y, a, b: (x - y).sign() * a + (a - x).sign() * y * y,
}


def step(engine, spec, inputs, weights, factors=None):
    """Return values, and the gradients of a weighted sum of them, of a second call."""
    engine.expectations(spec, inputs, weights)
    leaves = [inputs.clone().requires_grad_(), weights.clone().requires_grad_()]
    values = engine.expectations(spec, *leaves)
    if factors is None:
        factors = torch.linspace(0.3, 1.7, values.numel(), dtype=values.dtype).reshape(values.shape)
    grads = torch.autograd.grad(values, leaves, factors, allow_unused=True, materialize_grads=True)
    return values.detach(), *grads


def assert_close(found, wanted, tolerance=1e-12):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


def positive(batch, spec, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    rows = 0.4 + torch.rand(batch, spec.num_inputs, generator=generator, dtype=dtype)
    return rows, 0.4 + torch.rand(spec.num_weights, generator=generator, dtype=dtype)


@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.parametrize("batch", [1, 7, 64, 130])
def test_expressions_have_the_values_and_slopes_of_torch(name, batch):
    spec = of_expression(EXPRESSIONS[name])
    arguments = positive(batch, spec)
    found = step(engine_of("compiled"), spec, *arguments)
    assert_close(found, step(engine_of("torch"), spec, *arguments), 1e-11)
    few = [part[:2] for part in (arguments[0], found[0])]
    wanted = statevector_values(spec, few[0].numpy(), arguments[1].numpy())
    np.testing.assert_allclose(few[1], wanted, atol=1e-10)


@pytest.mark.parametrize(
    "expression",
    [
        lambda x, y, a, b: abs(x) + y,  # the slope of |0| is 0
        lambda x, y, a, b: x**2 + y**3,
        lambda x, y, a, b: x**a + y,  # 0^a does not depend on a > 0
        lambda x, y, a, b: x.sign() * a,
    ],
)
def test_conventions_at_zero_are_those_of_torch(expression):
    spec = of_expression(expression)
    arguments = torch.zeros(3, 2, dtype=torch.float64), torch.full((2,), 1.5, dtype=torch.float64)
    found = step(engine_of("compiled"), spec, *arguments)
    assert_close(found, step(engine_of("torch"), spec, *arguments))
    assert all(bool(part.isfinite().all()) for part in found)


@settings(max_examples=40, deadline=None)
@given(specs(), st.integers(1, 10), st.integers(0, 2**31))
def test_any_circuit_at_its_second_call(spec, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(batch, spec.num_inputs, generator=generator, dtype=torch.float64)
    weights = torch.randn(spec.num_weights, generator=generator, dtype=torch.float64)
    found = step(engine_of("compiled"), spec, inputs, weights)
    assert_close(found, step(engine_of("torch"), spec, inputs, weights), 1e-10)


def test_several_statevectors_add_up():
    spec = two_parts()
    assert len(plan_circuit(spec).states.rotations) == 2
    arguments = positive(11, spec)
    wanted = step(engine_of("torch"), spec, *arguments)
    assert_close(step(engine_of("compiled"), spec, *arguments), wanted)
    single = step(engine_of("compiled"), spec, *(part.float() for part in arguments))
    assert_close(single, [part.float() for part in wanted], 1e-5)


def test_memory_in_any_order():
    """Transposed, expanded and strided arguments and gradients are read where they lie."""
    spec = two_parts()
    inputs, weights = positive(6, spec)
    factors = torch.linspace(0.3, 1.7, 18, dtype=torch.float64).reshape(6, 3)
    engine = engine_of("compiled")
    wanted = step(engine, spec, inputs, weights, factors)
    turned = inputs.t().contiguous().t(), torch.stack([weights, -weights], 1)[:, 0]
    assert not turned[0].is_contiguous()
    assert turned[1].stride() == (2,)
    assert_close(step(engine, spec, *turned, factors.t().contiguous().t()), wanted)
    same = inputs[:1].expand(6, -1)
    assert_close(
        step(engine, spec, same, weights, factors), step(engine, spec, same.clone(), weights, factors)
    )
    one = torch.ones(1, 1, dtype=torch.float64).expand(6, 3)
    assert_close(step(engine, spec, *turned, one), step(engine, spec, inputs, weights, one.clone()))


def ready(spec, dtype=torch.float32, batch=3):
    """Return an engine that goes straight to the kernels for these arguments."""
    engine, arguments = engine_of("compiled"), positive(batch, spec, dtype)
    assert engine.direct(spec, *arguments) is None
    values = engine.expectations(spec, *arguments)
    torch.testing.assert_close(engine.direct(spec, *arguments), values, atol=0, rtol=0)
    return engine, *arguments


@pytest.mark.parametrize(("where", "name"), [("inputs", r"x\[5\]"), ("weights", r"w\[5\]")])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("learns", [False, True])
def test_arguments_are_checked_in_every_call(where, name, value, learns):
    spec = two_parts()
    engine, inputs, weights = ready(spec)
    bad = {"inputs": inputs, "weights": weights}[where]
    bad.view(-1)[-1] = value
    with pytest.raises(NotFiniteError, match=rf"`{where}` must be finite.*parameter `{name}`"):
        engine.expectations(spec, inputs.requires_grad_(learns), weights)


def test_angles_are_checked_in_every_call():
    spec = of_expression(lambda x, y, a, b: x.log() * a)
    engine, inputs, weights = ready(spec)
    inputs[1, 0] = -1.0
    with pytest.raises(NotFiniteError, match=r"depends on `x` = -1, `a`.* in sample 1"):
        engine.expectations(spec, inputs.requires_grad_(), weights)
    spec = of_expression(lambda x, y, a, b: x * 1e30 + a)
    engine, inputs, weights = ready(spec)
    inputs[0, 0] = 1e30
    with pytest.raises(NotFiniteError, match="float64"):
        engine.expectations(spec, inputs, weights)


def test_other_arguments_take_the_way_of_the_checks():
    spec = two_parts()
    engine, inputs, weights = ready(spec)
    for some, vector in (
        (inputs[:, :5], weights),
        (inputs, weights[:5]),
        (inputs[0], weights),
        (inputs.to(torch.complex64), weights),
        (inputs.long(), weights),
        (inputs.numpy(), weights),
    ):
        with pytest.raises(EngineError):
            engine.expectations(spec, some, vector)
    wanted = engine.expectations(spec, inputs, weights)
    for some, vector in ((inputs.double(), weights), (inputs, weights.double()), (inputs.half(), weights)):
        for _ in range(2):
            found = engine.expectations(spec, some, vector)
            assert found.dtype == some.dtype
            torch.testing.assert_close(found.float(), wanted, atol=4e-3, rtol=0)


def test_arithmetic_of_another_precision():
    spec = two_parts()
    engine = make_engine("exact", method="statevector", dtype=torch.float64)
    inputs, weights = positive(3, spec, torch.float32)
    wanted = engine.expectations(spec, inputs, weights)
    assert wanted.dtype == torch.float32
    assert engine.direct(spec, inputs, weights) is None
    torch.testing.assert_close(engine.expectations(spec, inputs, weights), wanted, atol=0, rtol=0)


def test_shots_are_drawn_in_every_call():
    spec = two_parts()
    engine = make_engine("exact", method="statevector", shots=100, seed=0)
    inputs, weights = positive(3, spec)
    first, second = (engine.expectations(spec, inputs, weights) for _ in range(2))
    assert not torch.equal(first, second)
    torch.testing.assert_close((first * 50).round(), first * 50)


def test_transforms_autocast_and_second_derivatives_after_a_direct_call():
    spec = two_parts()
    engine, inputs, weights = ready(spec, torch.float64)

    def total(vector):
        return engine.expectations(spec, inputs, vector).pow(2).sum()

    leaf = weights.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(total(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(total)(weights), wanted, atol=1e-12, rtol=0)
    rows = torch.func.vmap(lambda row: engine.expectations(spec, row[None], weights)[0])(inputs)
    torch.testing.assert_close(rows, engine.expectations(spec, inputs, weights), atol=1e-12, rtol=0)
    assert torch.autograd.gradgradcheck(total, leaf)
    single = inputs.float(), weights.float().requires_grad_()
    engine.expectations(spec, *single)
    with torch.autocast("cpu", torch.bfloat16):
        values = engine.expectations(spec, *single)
        (found,) = torch.autograd.grad(values.double().pow(2).sum(), single[1])
    torch.testing.assert_close(found, wanted.float(), atol=2e-6, rtol=1e-5)


def test_a_layer_calls_with_any_leading_dimensions():
    spec = two_parts()
    layer = QuantumLayer(spec, engine_of("compiled"))
    inputs, _ = positive(6, spec, torch.float32)
    flat = layer(inputs)
    for shape in ((2, 3), (6, 1), (1, 2, 3)):
        found = layer(inputs.reshape(*shape, 6))
        torch.testing.assert_close(found, flat.reshape(*shape, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(layer(inputs[0]), flat[0], atol=1e-6, rtol=0)
