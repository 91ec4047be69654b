"""Nothing is made on the CPU while a circuit is executed elsewhere; on CUDA the results are those of the CPU.

The `meta` device has shapes but no values, and refuses to mix with CPU tensors: it stands in for a GPU where
there is none.
"""

from __future__ import annotations

import math

import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.circuit.library import efficient_su2, zz_feature_map
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import base, guard, make_engine
from qhybrid.engines.exact.execute import NetworkExecutor
from qhybrid.engines.exact.plan import plan_circuit
from qhybrid.engines.exact.rated import RatedCircuit
from qhybrid.engines.exact.statevector.execute import StateExecutor
from qhybrid.noise import NoiseProfile

NOISE = NoiseProfile(p_1q=0.01, p_2q=0.02, t1_us=50, gate_2q_ns=300, readout_p01=0.1)


def entangled():
    features, ansatz = zz_feature_map(3, reps=1), efficient_su2(3, reps=1)
    observables = [SparsePauliOp("ZZZ"), SparsePauliOp(["XYI", "IIZ"], [0.5, -1.5])]
    circuit = features.compose(ansatz)
    return CircuitSpec.from_circuit(circuit, list(features.parameters), list(ansatz.parameters), observables)


def meta(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype, device="meta", requires_grad=True)


def sizes(spec):
    return spec.num_inputs, spec.num_weights, spec.num_observables


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spec", [build_circuit("hq_unet_qcnn", grid=2), entangled()], ids=["hq_unet", "zz"])
def test_both_methods_stay_on_the_device(spec, dtype):
    plan = plan_circuit(spec)
    like = torch.empty(0, dtype=dtype, device="meta")
    executors = [
        NetworkExecutor(plan.network.program, plan.network.outputs, sizes(spec), like),
        StateExecutor(plan.states, sizes(spec), like),
    ]
    for executor in executors:
        inputs, weights = meta(spec.num_inputs, 5, dtype=dtype), meta(spec.num_weights, dtype=dtype)
        values = executor(inputs, weights)
        assert values.shape == (spec.num_observables, 5)
        assert (values.device.type, values.dtype) == ("meta", dtype)
        slopes = torch.autograd.grad(values.sum(), [inputs, weights], create_graph=True)
        assert [slope.device.type for slope in slopes] == ["meta", "meta"]


def test_noise_rates_stay_on_the_device():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    names = ("p_1q", "p_2q", "t1_us", "readout_p01")
    rated = RatedCircuit(spec, NOISE, names, torch.empty(0, device="meta"))
    rates = {name: meta() for name in names}
    values = rated(meta(spec.num_inputs, 5), meta(spec.num_weights), rates)
    assert values.device.type == "meta"
    assert all(
        slope.device.type == "meta" for slope in torch.autograd.grad(values.sum(), list(rates.values()))
    )


@pytest.fixture
def unread(monkeypatch):
    """Let an engine take arguments whose values nobody can look at."""
    monkeypatch.setattr(base, "all_finite", lambda values: True)
    monkeypatch.setattr(base, "check_stored", lambda name, tensor: None)
    monkeypatch.setattr(guard, "all_finite", lambda values: True)
    monkeypatch.setattr(guard, "check_angles", lambda spec, inputs, weights: None)


def wide(num_qubits=14):
    """Angles of both kinds of one form, read-outs above the table of low bits, a string on all qubits."""
    x, w = ParameterVector("x", num_qubits), ParameterVector("w", num_qubits)
    circuit = QuantumCircuit(num_qubits)
    for qubit in range(num_qubits):
        circuit.ry(x[qubit].sin() * w[qubit], qubit)
    for qubit in range(num_qubits - 1):
        circuit.rzz((math.pi - x[qubit]) * (math.pi - x[qubit + 1]), qubit, qubit + 1)
        circuit.rx(w[qubit], qubit)
    observables = [SparsePauliOp("Z" * num_qubits), SparsePauliOp("X" * num_qubits)]
    return CircuitSpec.from_circuit(circuit, list(x), list(w), observables)


READOUT = NoiseProfile(readout_p01=0.1, readout_p10=0.02)


@pytest.mark.usefixtures("unread")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("spec", "options"),
    [
        (entangled(), {"method": "network", "noise": NOISE}),
        (entangled(), {"method": "statevector"}),
        (entangled(), {"method": "mps", "bond": 8}),
        (entangled(), {"method": "mps", "noise": READOUT}),
        (wide(), {"method": "statevector", "noise": READOUT}),
        (wide(6), {"method": "network", "noise": READOUT}),
        (entangled(), {"dtype": torch.float64}),
    ],
    ids=["network", "statevector", "mps", "mps read-out", "wide read-out", "wide network", "float64"],
)
def test_whole_calls_stay_on_the_device(spec, options, dtype):
    engine = make_engine("exact", device="meta", **options)
    inputs, weights = meta(3, spec.num_inputs, dtype=dtype), meta(spec.num_weights, dtype=dtype)
    values = engine.expectations(spec, inputs, weights)
    assert (values.shape, values.device.type, values.dtype) == ((3, spec.num_observables), "meta", dtype)
    for again in (False, True):
        slopes = torch.autograd.grad(values.sum(), [inputs, weights], retain_graph=True, create_graph=again)
        assert [(one.device.type, one.dtype, one.shape) for one in slopes] == [
            ("meta", dtype, inputs.shape),
            ("meta", dtype, weights.shape),
        ]
    with torch.inference_mode():
        assert engine.expectations(spec, inputs, weights).device.type == "meta"


@pytest.mark.usefixtures("unread")
def test_empty_batches_and_circuits_without_parameters_stay_on_the_device():
    engine, spec = make_engine("exact", device="meta"), entangled()
    inputs, weights = meta(0, spec.num_inputs), meta(spec.num_weights)
    assert engine.expectations(spec, inputs, weights).device.type == "meta"
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    fixed = CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp("ZZ"), SparsePauliOp("II")])
    values = engine.expectations(fixed, meta(3, 0), meta(0))
    assert (values.shape, values.device.type) == ((3, 2), "meta")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options",
    [{"method": "network"}, {"method": "statevector"}, {"noise": NOISE}, {"shots": 100, "seed": 1}],
    ids=["network", "statevector", "noise", "shots"],
)
@pytest.mark.parametrize("where", ["cpu", "cuda"], ids=["inputs on CPU", "inputs on CUDA"])
def test_cuda_agrees_with_the_cpu(options, dtype, where):
    spec = build_circuit("hq_unet_qcnn", grid=3)
    results = []
    for device, place in (("cpu", "cpu"), ("cuda", where)):
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(7, spec.num_inputs, dtype=dtype, generator=generator).to(place).requires_grad_()
        weights = torch.randn(spec.num_weights, dtype=dtype, generator=generator).to(place).requires_grad_()
        values = make_engine("exact", device=device, **options).expectations(spec, inputs, weights)
        assert values.device == inputs.device
        slopes = torch.autograd.grad(values.square().sum(), [inputs, weights])
        results.append([part.cpu() for part in (values, *slopes)])
    tolerance = 1e-3 if dtype == torch.float32 else 1e-9
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_noise_rates_agree_with_the_cpu():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    slopes = []
    for device in ("cpu", "cuda"):
        rate = torch.tensor(0.02, dtype=torch.float64, requires_grad=True)
        inputs = torch.ones(3, spec.num_inputs, dtype=torch.float64)
        weights = torch.ones(spec.num_weights, dtype=torch.float64)
        engine = make_engine("exact", noise=NOISE, device=device)
        values = engine.expectations(spec, inputs, weights, rates={"p_2q": rate})
        slopes.append(torch.autograd.grad(values.square().sum(), rate)[0])
    torch.testing.assert_close(*slopes)
