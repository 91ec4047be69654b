"""Tensors that torch does not keep as plain numbers: signs beside the memory, no memory, sparse ones."""

from __future__ import annotations

import pytest
import torch
from engine_cases import statevector_values
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

NOISE = NoiseProfile.depolarizing(0.01, 0.02)
ENGINES = {
    "statevector": {"method": "statevector"},
    "torch kernel": {"method": "statevector", "kernel": "torch"},
    "network": {"method": "network"},
    "mps": {"method": "mps"},
    "noise": {"noise": NOISE},
    "shots": {"shots": 50, "seed": 1},
    "independent shots": {"shots": 50, "seed": 1, "shots_law": "independent"},
    "aer": {"kind": "aer"},
}


def spec():
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(2)
    circuit.rx(x, 0)
    circuit.ry(w, 1)
    circuit.cx(0, 1)
    return CircuitSpec.from_circuit(circuit, [x], [w], ["IY", "YI", "ZX"])


def engine_of(name):
    return make_engine(**{"kind": "exact"} | ENGINES[name])


def imaginary(shape, seed):
    """Return the imaginary part of a conjugated tensor: its memory holds the numbers with the other sign."""
    generator = torch.Generator().manual_seed(seed)
    real, other = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    found = torch.complex(real, other).conj().imag
    assert found.is_neg()
    assert torch.equal(found, -other)
    return found


@pytest.mark.parametrize("name", ENGINES)
def test_signs_beside_the_memory(name):
    inputs, weights = imaginary((3, 1), 0), imaginary((1,), 1)
    plain = [torch.tensor(one.tolist(), dtype=torch.float64) for one in (inputs, weights)]
    wanted_of, engine = engine_of(name), engine_of(name)
    for _ in range(2):  # the second call may go straight to the kernels
        wanted = wanted_of.expectations(spec(), *plain)
        torch.testing.assert_close(engine.expectations(spec(), inputs, weights), wanted, atol=1e-12, rtol=0)
    if not engine.random and name != "noise":
        found = statevector_values(spec(), plain[0].numpy(), plain[1].numpy())
        torch.testing.assert_close(wanted, torch.as_tensor(found), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ENGINES)
def test_gradients_that_arrive_with_a_sign_beside_them(name):
    inputs = torch.tensor([[0.3], [0.9]], dtype=torch.float64)
    weights = torch.tensor([0.4], dtype=torch.float64)
    factors, found = imaginary((2, 3), 2), []
    for above in (factors, torch.tensor(factors.tolist(), dtype=torch.float64)):
        engine, leaves = engine_of(name), (inputs.clone().requires_grad_(), weights.clone().requires_grad_())
        found.append(torch.autograd.grad(engine.expectations(spec(), *leaves), leaves, above))
    assert found[1][0].abs().max() > 1e-3
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_zeros_without_memory():
    engine = engine_of("statevector")
    zeros = torch._efficientzerotensor((3, 1)), torch._efficientzerotensor((1,))
    plain = torch.zeros(3, 1), torch.zeros(1)
    wanted = engine.expectations(spec(), *plain)
    torch.testing.assert_close(engine.expectations(spec(), *zeros), wanted)
    leaf = plain[0].clone().requires_grad_()
    values = engine.expectations(spec(), leaf, plain[1])
    (slope,) = torch.autograd.grad(values, leaf, torch._efficientzerotensor((3, 3)))
    torch.testing.assert_close(slope, torch.zeros(3, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.Tensor.to_sparse, r"must be dense.*Fix: \.to_dense\(\)"),
        (torch.Tensor.to_mkldnn, "must be dense"),
        (lambda tensor: tensor.to("meta"), "must have numbers"),
    ],
)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("name", ["statevector", "aer"])
def test_tensors_without_numbers_in_memory_are_refused(change, message, which, name):
    engine, arguments = engine_of(name), [torch.rand(3, 1), torch.rand(1)]
    engine.expectations(spec(), *arguments)
    arguments[which] = change(arguments[which])
    with pytest.raises(EngineError, match=message):
        engine.expectations(spec(), *arguments)
