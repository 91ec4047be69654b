"""The circuits of HQF-Net: pairs written out, identity at zero angles, values against Qiskit, cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from qiskit.quantum_info import Operator, Statevector

from qhybrid.circuits import build_circuit
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.errors import CircuitError
from qhybrid.noise import NoiseProfile

# Cells of the 4 x 4 grid, row-major:   0  1  2  3
#                                       4  5  6  7
#                                       8  9 10 11
#                                      12 13 14 15
LOCAL = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11), (12, 13), (14, 15)]
LOCAL += [(0, 4), (8, 12), (1, 5), (9, 13), (2, 6), (10, 14), (3, 7), (11, 15)]
GLOBAL = [(0, 2), (1, 3), (4, 6), (5, 7), (8, 10), (9, 11), (12, 14), (13, 15)]
GLOBAL += [(0, 8), (4, 12), (1, 9), (5, 13), (2, 10), (6, 14), (3, 11), (7, 15)]
GLOBAL += [(0, 15), (1, 14), (2, 13), (3, 12), (4, 11), (5, 10), (6, 9), (7, 8)]
DIRECTIONAL = [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7), (8, 9), (9, 10), (10, 11)]
DIRECTIONAL += [(12, 13), (13, 14), (14, 15), (0, 4), (4, 8), (8, 12), (1, 5), (5, 9), (9, 13)]
DIRECTIONAL += [(2, 6), (6, 10), (10, 14), (3, 7), (7, 11), (11, 15)]
EXPERTS = {"hqf_local": (LOCAL, 2), "hqf_global": (GLOBAL, 3), "hqf_directional": (DIRECTIONAL, 2)}
ALL = [*EXPERTS, "hqf_qskip"]
SMALL = {**{name: {"grid": 2} for name in EXPERTS}, "hqf_qskip": {"num_qubits": 3}}


def gates_of(spec):
    """List (gate, qubits, parameter names), barriers left out."""
    index = {qubit: place for place, qubit in enumerate(spec.circuit.qubits)}
    return [
        (step.operation.name, tuple(index[q] for q in step.qubits), step.operation.params[0].name)
        for step in spec.circuit.data
        if step.operation.name != "barrier"
    ]


def angles(spec, rows=2, zero=False):
    generator = torch.Generator().manual_seed(3)
    inputs = torch.rand(rows, spec.num_inputs, generator=generator, dtype=torch.float64) * 2 - 1
    weights = torch.rand(spec.num_weights, generator=generator, dtype=torch.float64) * 6 - 3
    return inputs, torch.zeros_like(weights) if zero else weights


@pytest.mark.parametrize("name", EXPERTS)
def test_experts_gate_for_gate(name):
    pairs, passes = EXPERTS[name]
    spec = build_circuit(name)
    assert (spec.num_qubits, spec.num_inputs, spec.num_weights) == (16, 48, 5 * passes)
    expected = [(f"r{axis}", (q,), f"x[{3 * q + k}]") for q in range(16) for k, axis in enumerate("xyz")]
    each = len(pairs) // passes
    for number, (one, two) in enumerate(pairs):
        w = [f"w[{5 * (number // each) + k}]" for k in range(5)]
        expected += [("ry", (one,), w[0]), ("ry", (two,), w[1]), ("rzx", (one, two), w[2])]
        expected += [("ry", (one,), w[3]), ("ry", (two,), w[4])]
    assert gates_of(spec) == expected
    hq_unet = build_circuit("hq_unet_qcnn")
    assert [p.name for p in spec.input_params] == [p.name for p in hq_unet.input_params]
    assert spec.observables == hq_unet.observables


def test_qskip_gate_for_gate():
    spec = build_circuit("hqf_qskip")
    assert (spec.num_qubits, spec.num_inputs, spec.num_weights, spec.num_observables) == (4, 12, 16, 8)
    encoding = [(f"r{axis}", (q,), f"x[{3 * q + k}]") for q in range(4) for k, axis in enumerate("xyz")]
    expected = []
    for layer in range(2):
        expected += encoding + [("ry", (q,), f"w[{8 * layer + q}]") for q in range(4)]
        ring = [(0, 1), (1, 2), (2, 3), (3, 0)]
        expected += [("rzx", pair, f"w[{8 * layer + 4 + k}]") for k, pair in enumerate(ring)]
    assert gates_of(spec) == expected


@pytest.mark.parametrize("name", EXPERTS)
def test_zero_angles_leave_the_encoding_in_closed_form(name):
    spec = build_circuit(name)
    inputs, weights = angles(spec, 3, zero=True)
    f1, f2, f3 = inputs.reshape(3, 16, 3).unbind(-1)
    # Bloch vector of RZ(f3) RY(f2) RX(f1) |0>, by hand.
    z = f1.cos() * f2.cos()
    x = f1.cos() * f2.sin() * f3.cos() + f1.sin() * f3.sin()
    found = make_engine("exact").expectations(spec, inputs, weights)
    torch.testing.assert_close(found, torch.cat([z, x], dim=1), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ALL)
def test_zero_angles_are_the_identity_on_any_state(name):
    spec = build_circuit(name, **SMALL[name])
    zero = spec.circuit.assign_parameters(dict.fromkeys((*spec.weight_params, *spec.input_params), 0.0))
    assert Operator(zero).equiv(Operator(np.eye(2**spec.num_qubits)))
    inputs = {one: 0.3 + 0.1 * k for k, one in enumerate(spec.input_params)}
    alone = spec.circuit.copy_empty_like()
    for step in spec.circuit.data:
        if step.operation.params and step.operation.params[0] in spec.input_params:
            alone.append(step)
    bound = spec.circuit.assign_parameters({**inputs, **dict.fromkeys(spec.weight_params, 0.0)})
    assert Operator(bound).equiv(Operator(alone.assign_parameters(inputs)))


@pytest.mark.parametrize("name", ALL)
def test_values_and_gradients_against_statevector(name):
    spec = build_circuit(name, **SMALL[name])
    inputs, weights = angles(spec, 1)

    def by_qiskit(w):
        values = dict(zip(spec.input_params, inputs[0].tolist()))
        bound = spec.circuit.assign_parameters(values | dict(zip(spec.weight_params, w)))
        state = Statevector(bound)
        return np.array([state.expectation_value(one).real for one in spec.observables])

    leaf = weights.clone().requires_grad_()
    found = make_engine("exact").expectations(spec, inputs, leaf)[0]
    np.testing.assert_allclose(found.detach(), by_qiskit(weights.numpy()), atol=1e-10)
    found.sum().backward()
    step = 1e-5 * np.eye(spec.num_weights)
    numeric = [
        (by_qiskit(weights.numpy() + one) - by_qiskit(weights.numpy() - one)).sum() / 2e-5 for one in step
    ]
    np.testing.assert_allclose(leaf.grad, numeric, atol=1e-8)


@pytest.mark.parametrize("name", ALL)
def test_every_angle_has_a_gradient_at_zero(name):
    spec = build_circuit(name)
    inputs, weights = angles(spec, 2, zero=True)
    weights.requires_grad_()
    values = make_engine("exact").expectations(spec, inputs, weights)
    (values * torch.linspace(0.5, 1.5, values.shape[1], dtype=values.dtype)).sum().backward()
    assert weights.grad.abs().min() > 1e-3


@pytest.mark.parametrize("name", EXPERTS)
def test_cost_with_noise_is_of_the_class_of_hq_unet(name):
    engine = make_engine("exact", noise=NoiseProfile.depolarizing(p_1q=0.001, p_2q=0.01))
    own, reference = (engine.explain(build_circuit(one)) for one in (name, "hq_unet_qcnn"))
    assert own.method == reference.method == "network"
    assert own.flops <= 1.1 * reference.flops
    assert own.widest <= reference.widest


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_routed_to_torino_with_noise_is_of_the_class_of_hq_unet(name):
    spec = build_circuit(name)
    engine = make_engine("routed", backend="fake_torino", layout_seed=0)
    reference = engine.explain(build_circuit("hq_unet_qcnn"))
    own = engine.explain(spec)
    assert own.method != "refused"
    assert own.flops <= 1.1 * reference.flops
    inputs, weights = angles(spec, 1)
    noisy = engine.expectations(spec, inputs, weights)
    ideal = make_engine("exact").expectations(spec, inputs, weights)
    assert 1e-3 < (noisy - ideal).abs().max() < 0.6


@pytest.mark.parametrize("name", ALL)
def test_routed_noise_equals_aer(name):
    spec = build_circuit(name, **SMALL[name])
    inputs, weights = angles(spec, 1)
    routed = {"backend": "fake_manila", "trials": 1}
    exact = make_engine("routed", **routed).expectations(spec, inputs, weights)
    aer = make_engine("routed", **routed, engine="aer", options={"method": "density_matrix"})
    torch.testing.assert_close(aer.expectations(spec, inputs, weights), exact, atol=1e-6, rtol=0)


def test_routing_does_not_lose_the_order_of_the_qubits():
    spec = build_circuit("hqf_global", grid=2)
    inputs, weights = angles(spec, 2)
    routed = spec.transpile(load_device("fake_manila"), 1, trials=1)
    engine = make_engine("exact")
    torch.testing.assert_close(
        engine.expectations(routed, inputs, weights), engine.expectations(spec, inputs, weights)
    )


@pytest.mark.parametrize("grid", [1, 3, 5])
@pytest.mark.parametrize("name", EXPERTS)
def test_other_grids_have_different_neighbours_inside_the_grid(name, grid):
    spec = build_circuit(name, grid=grid)
    pairs = [qubits for gate, qubits, _ in gates_of(spec) if gate == "rzx"]
    assert all(0 <= one != two < grid * grid for one, two in pairs)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) or name == "hqf_global"
    count = {"hqf_local": 4 * (grid // 2) * (grid // 2) + 2 * (grid // 2)}
    count["hqf_directional"] = 2 * grid * (grid - 1)
    stride = max(1, grid // 2)
    count["hqf_global"] = 2 * grid * (grid - stride) + grid * grid // 2
    assert len(pairs) == count[name]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("hqf_local", {"grid": 0}, "`grid` must be .*at least 1, but is 0"),
        ("hqf_global", {"grid": 2.5}, "`grid` must be an integer"),
        ("hqf_directional", {"pair_order": "snake"}, "`pair_order` must be `chain` or `even_odd`"),
        ("hqf_local", {"encoding": "xq"}, "`encoding` must be a text of letters x, y and z"),
        ("hqf_global", {"readout": "ZZ"}, "`readout` must be a text of distinct letters"),
        ("hqf_qskip", {"layers": 0}, "`layers` must be .*at least 1, but is 0"),
        ("hqf_qskip", {"num_qubits": 0}, "`num_qubits` must be .*at least 1, but is 0"),
        ("hqf_qskip", {"readout": ""}, "`readout` must"),
    ],
)
def test_bad_arguments(name, arguments, message):
    with pytest.raises(CircuitError, match=message):
        build_circuit(name, **arguments)
