"""A small circuit, derivatives of every kind of a function of it, and their values by the network twin."""

from __future__ import annotations

from collections.abc import Callable

import torch
from qiskit.circuit import ParameterVector, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.functional import hessian, jacobian

from qhybrid.circuits import CircuitSpec

Function = Callable[[Tensor, Tensor], Tensor]
INPUTS = torch.tensor([[0.3, -0.7], [1.1, 0.4], [-0.2, 0.9]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, -0.3], dtype=torch.float64)
DIRECTION = torch.tensor([[0.1, 0.2], [0.3, -0.4], [1.0, 0.5]], dtype=torch.float64)


def two_qubits() -> CircuitSpec:
    """Angles that are affine and products, shared weights, three observables."""
    x, w = ParameterVector("x", 2), ParameterVector("w", 2)
    circuit = QuantumCircuit(2)
    circuit.ry(x[0], 0)
    circuit.rx(x[0] * x[1], 1)
    circuit.cx(0, 1)
    circuit.ry(w[0], 0)
    circuit.rzz(w[1] + x[1], 0, 1)
    circuit.rx(w[0], 1)
    observables = [SparsePauliOp(label) for label in ("ZI", "XY", "IZ")]
    return CircuitSpec.from_circuit(circuit, list(x), list(w), observables)


def _squares(f: Function) -> Callable[[Tensor], Tensor]:
    return lambda x: f(x, WEIGHTS).pow(2).sum()


def _dual(f: Function) -> Tensor:
    with forward_ad.dual_level():
        values = f(forward_ad.make_dual(INPUTS, DIRECTION), WEIGHTS)
        tangent: Tensor = forward_ad.unpack_dual(values).tangent
    return tangent


def _penalty(f: Function) -> Tensor:
    """Return the gradient of |d f / d x|^2, whose inner gradient is of a plain sum."""
    inputs, weights = INPUTS.clone().requires_grad_(), WEIGHTS.clone().requires_grad_()
    (slope,) = torch.autograd.grad(f(inputs, weights).sum(), inputs, create_graph=True)
    slope.pow(2).sum().backward()
    return torch.cat([inputs.grad.flatten(), weights.grad])


def _several_at_once(f: Function) -> Tensor:
    inputs = INPUTS.clone().requires_grad_()
    unit = torch.eye(3, dtype=torch.float64)
    return torch.autograd.grad(f(inputs, WEIGHTS).sum(0), inputs, unit, is_grads_batched=True)[0]


FIRST: dict[str, Callable[[Function], Tensor]] = {
    "jacobian": lambda f: jacobian(lambda x: f(x, WEIGHTS), INPUTS),
    "jacobian of weights": lambda f: jacobian(lambda w: f(INPUTS, w), WEIGHTS),
    "jacobian, vectorised": lambda f: jacobian(lambda x: f(x, WEIGHTS), INPUTS, vectorize=True),
    "jacobian, forward": lambda f: jacobian(
        lambda x: f(x, WEIGHTS), INPUTS, vectorize=True, strategy="forward-mode"
    ),
    "several gradients at once": _several_at_once,
    "dual numbers": _dual,
    "jvp": lambda f: torch.func.jvp(lambda x: f(x, WEIGHTS), (INPUTS,), (DIRECTION,))[1],
    "jacrev": lambda f: torch.func.jacrev(lambda x: f(x, WEIGHTS))(INPUTS),
    "jacfwd": lambda f: torch.func.jacfwd(lambda x: f(x, WEIGHTS))(INPUTS),
    "jacfwd of weights": lambda f: torch.func.jacfwd(lambda w: f(INPUTS, w))(WEIGHTS),
}
"""First derivatives: linear in the values."""

VALUES: dict[str, Callable[[Function], Tensor]] = {
    "vmap": lambda f: torch.func.vmap(lambda row: f(row[None], WEIGHTS)[0])(INPUTS),
    "vmap of weights": lambda f: torch.func.vmap(lambda w: f(INPUTS, w))(torch.stack([WEIGHTS, 2 * WEIGHTS])),
}
"""Values of copies."""

MORE: dict[str, Callable[[Function], Tensor]] = {
    "grad of vmap": lambda f: torch.func.grad(
        lambda x: torch.func.vmap(lambda row: f(row[None], WEIGHTS)[0])(x).pow(2).sum()
    )(INPUTS),
    "vmap of grad": lambda f: torch.func.vmap(torch.func.grad(lambda row: _squares(f)(row[None])))(INPUTS),
    "hessian": lambda f: hessian(_squares(f), INPUTS),
    "hessian, vectorised": lambda f: hessian(_squares(f), INPUTS, vectorize=True),
    "hessian, forward": lambda f: hessian(
        _squares(f), INPUTS, vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
    "hessian of weights, forward": lambda f: hessian(
        lambda w: f(INPUTS, w).pow(2).sum(), WEIGHTS, vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
    "func.hessian": lambda f: torch.func.hessian(_squares(f))(INPUTS),
    "gradient penalty": _penalty,
}
"""Products of values and derivatives, and second derivatives."""

CASES = FIRST | VALUES | MORE
