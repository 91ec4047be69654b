"""Derivatives of every kind, in every method, against finite differences and among each other."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from engine_transforms import CASES, FIRST, INPUTS, VALUES, WEIGHTS, two_qubits
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import SparsePauliOp
from torch.autograd import forward_ad

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.engines.exact.native.library import kernels
from qhybrid.engines.mitigation import mitigated_engine
from qhybrid.errors import EngineError, NotFiniteError
from qhybrid.noise import NoiseProfile

SPEC = two_qubits()
NOISE = NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02)
ENGINES = {
    "network": lambda: make_engine("exact", method="network"),
    "statevector": lambda: make_engine("exact", method="statevector"),
    "aer": lambda: make_engine("aer", method="statevector"),
}
NOISY = {
    "network": lambda: make_engine("exact", noise=NOISE, method="network"),
    "aer": lambda: make_engine("aer", noise=NOISE, method="density_matrix"),
    "zne": lambda: mitigated_engine("zne", lambda profile, _: make_engine("exact", noise=profile), NOISE),
}
DENSITY = pytest.param(
    "density", marks=pytest.mark.skipif(kernels().library is None, reason="no compiled kernels")
)


def function_of(engine):
    return lambda inputs, weights: engine.expectations(SPEC, inputs, weights)


def slopes_by_differences(f, step=1e-5):
    """Return d f / d inputs by central differences, shape (B, n_obs, B, n_in)."""
    found = torch.zeros(3, 3, 3, 2, dtype=torch.float64)
    for sample in range(3):
        for column in range(2):
            shift = torch.zeros_like(INPUTS)
            shift[sample, column] = step
            found[:, :, sample, column] = (f(INPUTS + shift, WEIGHTS) - f(INPUTS - shift, WEIGHTS)) / (
                2 * step
            )
    return found


def hessian_by_differences(f, step=1e-4):
    """Return the second derivatives of sum(f^2) from exact first ones, shape (B, n_in, B, n_in)."""

    def slope(inputs):
        inputs = inputs.clone().requires_grad_()
        return torch.autograd.grad(f(inputs, WEIGHTS).pow(2).sum(), inputs)[0]

    found = torch.zeros(3, 2, 3, 2, dtype=torch.float64)
    for sample in range(3):
        for column in range(2):
            shift = torch.zeros_like(INPUTS)
            shift[sample, column] = step
            found[:, :, sample, column] = (slope(INPUTS + shift) - slope(INPUTS - shift)) / (2 * step)
    return found


@pytest.mark.parametrize("name", ENGINES)
def test_jacobians_and_hessians_against_finite_differences(name):
    f = function_of(ENGINES[name]())
    jacobian, curvature = slopes_by_differences(f), hessian_by_differences(f)
    for case in ("jacobian", "jacobian, vectorised", "jacobian, forward", "jacrev", "jacfwd"):
        np.testing.assert_allclose(CASES[case](f), jacobian, atol=1e-8, err_msg=case)
    for case in ("hessian", "hessian, vectorised", "hessian, forward", "func.hessian"):
        np.testing.assert_allclose(CASES[case](f), curvature, atol=1e-6, err_msg=case)


@pytest.mark.parametrize("name", ENGINES)
def test_a_gradient_penalty_trains(name):
    f = function_of(ENGINES[name]())

    def penalty(inputs, weights):
        inputs = inputs.clone().requires_grad_()
        (slope,) = torch.autograd.grad(f(inputs, weights).sum(), inputs)
        return slope.pow(2).sum()

    found, step = CASES["gradient penalty"](f)[-2:], 1e-5
    for column in range(2):
        shift = step * torch.eye(2, dtype=torch.float64)[column]
        slope = (penalty(INPUTS, WEIGHTS + shift) - penalty(INPUTS, WEIGHTS - shift)) / (2 * step)
        assert found[column].item() == pytest.approx(slope.item(), abs=1e-7)
        assert abs(slope.item()) > 0.01


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", [*ENGINES, "torch kernel", "mps", "noisy", DENSITY])
def test_a_penalty_where_the_inputs_are_made_of_the_weights(name, autocast):
    options = {
        "torch kernel": {"method": "statevector", "kernel": "torch"},
        "mps": {"method": "mps"},
        "noisy": {"noise": NOISE, "method": "network"},
        "density": {"noise": NOISE, "method": "density"},
    }
    f = function_of(ENGINES[name]() if name in ENGINES else make_engine("exact", **options[name]))

    def slopes(weights, create_graph=False):
        values = f(INPUTS * weights[1].cos() + weights[0], weights)
        return torch.autograd.grad(values.sum(), weights, create_graph=create_graph)[0]

    def of_values(weights):
        return f(INPUTS * weights[1].cos() + weights[0], weights).sum()

    weights, step = WEIGHTS.clone().requires_grad_(), 1e-5
    with torch.autocast("cpu", enabled=autocast):
        first = slopes(weights, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(2).sum(), weights)
    for column in range(2):
        shift = step * torch.eye(2, dtype=torch.float64)[column]
        ahead, behind = ((WEIGHTS + sign * shift).requires_grad_() for sign in (1, -1))
        slope = (of_values(ahead) - of_values(behind)) / (2 * step)
        assert first[column].item() == pytest.approx(slope.item(), abs=1e-7)
        slope = (slopes(ahead).pow(2).sum() - slopes(behind).pow(2).sum()) / (2 * step)
        assert second[column].item() == pytest.approx(slope.item(), abs=1e-6)


@pytest.mark.parametrize("kernel", ["torch", None])
def test_a_penalty_on_what_does_not_matter_is_zero(kernel):
    x, circuit = ParameterVector("x", 1), QuantumCircuit(2)
    circuit.rx(x[0], 1)
    circuit.h(0)
    spec = CircuitSpec.from_circuit(circuit, list(x), [], [SparsePauliOp("IZ")])
    for options in ({"method": "network"}, {"method": "statevector", "kernel": kernel}):
        engine = make_engine("exact", **options)
        inputs = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
        values = engine.expectations(spec, inputs, torch.zeros(0, dtype=torch.float64))
        (slope,) = torch.autograd.grad(values.sum(), inputs, create_graph=True)
        assert slope.item() == 0.0


@pytest.fixture(scope="module")
def by_network():
    with_noise = {False: ENGINES["network"](), True: NOISY["network"]()}
    return {
        noisy: {case: found(function_of(engine)) for case, found in CASES.items()}
        for noisy, engine in with_noise.items()
    }


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["statevector", "aer", "mps"])
def test_every_derivative_in_every_method(name, case, by_network):
    engine = make_engine("exact", method=name) if name == "mps" else ENGINES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = CASES[case](function_of(engine))
    torch.testing.assert_close(found, by_network[False][case], atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", [DENSITY])
def test_every_derivative_of_density_matrices(name, case, by_network):
    f = function_of(make_engine("exact", noise=NOISE, method=name))
    torch.testing.assert_close(CASES[case](f), by_network[True][case], atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", ["jacobian, vectorised", "jacfwd", "vmap of grad", "gradient penalty"])
def test_every_derivative_under_noise(case, by_network):
    found = CASES[case](function_of(NOISY["aer"]()))
    torch.testing.assert_close(found, by_network[True][case], atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", ["jvp", "jacrev", "vmap", "func.hessian"])
def test_a_mitigated_engine_passes_transforms_on(case):
    f = function_of(NOISY["zne"]())
    strengths = [function_of(make_engine("exact", noise=NOISE.scale(k))) for k in (1, 2, 3)]
    combined = CASES[case](lambda x, w: 3 * strengths[0](x, w) - 3 * strengths[1](x, w) + strengths[2](x, w))
    torch.testing.assert_close(CASES[case](f), combined, atol=1e-9, rtol=0)


def test_gradients_of_a_forward_jacobian_and_of_a_forward_hessian():
    """The first is right; the second would be a third derivative, which is refused."""
    f = function_of(ENGINES["statevector"]())
    inputs = INPUTS.clone().requires_grad_()
    slopes = torch.autograd.functional.jacobian(
        lambda x: f(x, WEIGHTS), inputs, vectorize=True, strategy="forward-mode"
    )
    (found,) = torch.autograd.grad(slopes.pow(2).sum(), inputs)
    slopes = torch.func.jacrev(lambda x: f(x, WEIGHTS))(inputs)
    (wanted,) = torch.autograd.grad(slopes.pow(2).sum(), inputs)
    torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0)
    with forward_ad.dual_level():
        batch = torch.eye(6, dtype=torch.float64).reshape(6, 3, 2)

        def third(tangent):
            values = f(forward_ad.make_dual(inputs, tangent), WEIGHTS)
            (slope,) = torch.autograd.grad(values.sum(), inputs, create_graph=True)
            return torch.autograd.grad(slope.sum(), inputs, allow_unused=True)[0]

        with pytest.raises(EngineError, match="must not be differentiated again.*torch.func.hessian"):
            torch._vmap_internals._vmap(third)(batch)


def test_truncation_is_no_function_for_forward_mode():
    engine = make_engine("exact", method="mps", bond=1, tolerance=100.0)
    with pytest.raises(EngineError, match="must not truncate inside .*forward-mode"):
        CASES["jacobian, forward"](function_of(engine))


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize("name", [*ENGINES, "mps", "shots"])
class TestNotFiniteInsideVmap:
    """What is an error outside of vmap is one inside, in any copy and however deep."""

    @staticmethod
    def function(name):
        options = {"mps": {"method": "mps"}, "shots": {"shots": 10, "seed": 0}}
        return function_of(make_engine("exact", **options[name]) if name in options else ENGINES[name]())

    @pytest.mark.parametrize("value", [NAN, INFINITE])
    def test_arguments(self, name, value):
        f, bad = self.function(name), INPUTS.clone()
        bad[2, 1] = value
        weights = torch.stack([WEIGHTS, value * WEIGHTS])
        over_rows = torch.func.vmap(lambda row, w: f(row[None], w)[0], in_dims=(0, None))
        with pytest.raises(NotFiniteError, match="`inputs` of circuit .* some copy inside vmap"):
            over_rows(bad, WEIGHTS)
        with pytest.raises(NotFiniteError, match="`weights` of circuit"):
            torch.func.vmap(lambda w: f(INPUTS, w))(weights)
        with pytest.raises(NotFiniteError, match="`weights` of circuit"):
            torch.func.vmap(lambda w: over_rows(INPUTS, w))(weights)
        with pytest.raises(NotFiniteError, match="`inputs` of circuit"):
            torch.func.vmap(torch.func.grad(lambda row: f(row[None], WEIGHTS).sum()))(bad)

    @pytest.mark.parametrize("number", [-1.0, INFINITE])
    def test_angles(self, name, number):
        x, w = ParameterVector("x", 1), ParameterVector("w", 1)
        circuit = QuantumCircuit(1)
        circuit.ry(x[0].log() * w[0] if number < 0 else (x[0] * 1e30).exp() * w[0], 0)
        spec = CircuitSpec.from_circuit(circuit, list(x), list(w), ["Z"])
        options = {"mps": {"method": "mps"}, "shots": {"shots": 10, "seed": 0}}
        engine = make_engine("exact", **options[name]) if name in options else ENGINES[name]()
        rows = torch.tensor([[0.5], [-1.0 if number < 0 else 1.0]], dtype=torch.float64)
        call = torch.func.vmap(
            lambda row: engine.expectations(spec, row[None], torch.ones(1, dtype=torch.float64))
        )
        with pytest.raises(NotFiniteError, match=r"inside vmap one that depends on .*`x\[0\]`, `w\[0\]`"):
            call(rows)


class TestShots:
    """Under shots values are drawn, each copy for itself; derivatives are those of the exact values."""

    @pytest.mark.parametrize("case", FIRST)
    @pytest.mark.parametrize("method", ["auto", "statevector", "mps"])
    def test_first_derivatives_are_those_of_the_exact_values(self, method, case, by_network):
        f = function_of(make_engine("exact", method=method, shots=16, seed=0))
        torch.testing.assert_close(CASES[case](f), by_network[False][case], atol=1e-9, rtol=0)

    @pytest.mark.parametrize("case", VALUES)
    def test_copies_have_the_right_mean_and_spread(self, case, by_network):
        shots, repeats = 64, 100
        f = function_of(make_engine("exact", shots=shots, seed=1))
        drawn = torch.stack([CASES[case](f) for _ in range(repeats)])
        exact = by_network[False][case]
        spread = ((1 - exact**2) / shots).sqrt()
        assert ((drawn.mean(0) - exact).abs() <= 5 * spread / repeats**0.5).all()
        assert ((drawn.std(0) / spread - 1).abs() < 0.4).all()

    def test_copies_of_one_sample_are_drawn_apart(self):
        f = function_of(make_engine("exact", shots=32, seed=2))
        rows = INPUTS[:1].expand(40, 2)
        values = torch.func.vmap(lambda row: f(row[None], WEIGHTS)[0])(rows)
        assert len(values[:, 0].unique()) > 3

    def test_aer_draws_for_every_copy(self):
        f = function_of(make_engine("aer", shots=4000, seed=3))
        values = torch.func.vmap(lambda row: f(row[None], WEIGHTS)[0])(INPUTS)
        exact = function_of(make_engine("aer"))(INPUTS, WEIGHTS)
        assert (values - exact).abs().max().item() < 0.1
