"""Rules around every engine's call: autocast, torch.compile, angles that are finite, kinds of arguments."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, ParameterVector, QuantumCircuit
from qiskit.quantum_info import SparsePauliOp, Statevector
from qiskit_machine_learning.exceptions import QiskitMachineLearningError
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import Engine, make_engine
from qhybrid.engines.faces import ExactEstimator
from qhybrid.engines.mitigation import mitigated_engine
from qhybrid.errors import EngineError, NotFiniteError
from qhybrid.hardware.model.recording import RecordingEngine, WaitingEngine
from qhybrid.hardware.model.requests import RequestLog
from qhybrid.layers import QuantumLayer
from qhybrid.models import build_model, use_engine
from qhybrid.noise import NoiseProfile

NOISE = NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02)
ENGINES = {
    "network": lambda: make_engine("exact", method="network"),
    "statevector": lambda: make_engine("exact", method="statevector"),
    "noisy": lambda: make_engine("exact", noise=NOISE),
    "shots": lambda: make_engine("exact", shots=10**6, seed=0),
    "aer": lambda: make_engine("aer"),
    "zne": lambda: mitigated_engine("zne", lambda profile, _: make_engine("exact", noise=profile), NOISE),
}


@pytest.mark.parametrize("name", [*ENGINES, "torch kernel", "mps", "truncated"])
def test_torchs_default_device_does_not_matter(name):
    options = {
        "torch kernel": {"method": "statevector", "kernel": "torch"},
        "mps": {"method": "mps"},
        "truncated": {"method": "mps", "bond": 1, "tolerance": 100.0},
    }
    spec, found = build_circuit("hq_unet_qcnn", grid=2), []
    inputs = torch.linspace(0, 1, 2 * spec.num_inputs).reshape(2, -1)
    start = torch.linspace(-1, 1, spec.num_weights)
    for default in ("cpu", "meta"):
        engine = ENGINES[name]() if name in ENGINES else make_engine("exact", **options[name])
        weights = start.clone().requires_grad_()
        with torch.device(default):
            values = engine.expectations(spec, inputs, weights)
            values.square().sum().backward()
        found.append((values.detach(), weights.grad))
    for pair in zip(*found):
        torch.testing.assert_close(*pair, rtol=0, atol=1e-5)


class PlainEngine(Engine):
    """As a plugin would write it, in products that autocast would round: cos and sin of x + w."""

    kind = "plain"

    def expectations(self, spec, inputs, weights):
        angles = torch.cat([inputs, weights.expand(len(inputs), -1)], 1) @ torch.ones(2, 1).to(inputs)
        return torch.cat([angles.cos(), angles.sin()], 1)

    def describe(self):
        return {"kind": self.kind}


def one_qubit(expression=lambda x, w: x + w) -> CircuitSpec:
    """<Z> = cos, <X> = sin of an expression of x and w."""
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.ry(expression(x, w), 0)
    return CircuitSpec.from_circuit(circuit, [x], [w], ["Z", "X"])


class TestAutocast:
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs = torch.linspace(-1, 1, 5 * spec.num_inputs).reshape(5, -1)
    weights = torch.linspace(-0.9, 1.3, spec.num_weights)

    def slopes(self, engine, forward=None, backward=None):
        """Return values and gradients, each pass under its own autocast, or none."""
        leaves = self.inputs.clone().requires_grad_(), self.weights.clone().requires_grad_()
        with torch.autocast("cpu", forward or torch.bfloat16, enabled=forward is not None):
            values = engine.expectations(self.spec, *leaves)
        total = values.double().pow(3).sum()
        with torch.autocast("cpu", backward or torch.bfloat16, enabled=backward is not None):
            found = torch.autograd.grad(total, leaves)
        return torch.cat([part.flatten() for part in (values.detach(), *found)])

    @pytest.mark.parametrize("name", ENGINES)
    @pytest.mark.parametrize("where", ["forward", "both"])
    @pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
    def test_neither_values_nor_gradients_are_rounded(self, name, where, kind):
        plain = self.slopes(ENGINES[name]())
        under = self.slopes(ENGINES[name](), kind, kind if where == "both" else None)
        assert under.dtype == torch.float32
        torch.testing.assert_close(under, plain, atol=2e-6, rtol=1e-5)

    @pytest.mark.parametrize("name", ["network", "statevector", "noisy", "aer"])
    def test_a_backward_pass_under_autocast_alone(self, name):
        engine = ENGINES[name]()
        found = self.slopes(engine, backward=torch.bfloat16)
        torch.testing.assert_close(found, self.slopes(engine), atol=2e-6, rtol=1e-5)

    def test_large_batches_go_another_way(self, monkeypatch):
        monkeypatch.setattr("qhybrid.engines.exact.network.LARGEST_IDLE", 0)
        found = self.slopes(ENGINES["noisy"](), torch.bfloat16, torch.bfloat16)
        torch.testing.assert_close(found, self.slopes(ENGINES["noisy"]()), atol=2e-6, rtol=1e-5)

    @pytest.mark.parametrize("name", ["network", "statevector", "noisy", "aer"])
    def test_transforms_and_second_derivatives(self, name):
        engine = ENGINES[name]()

        def call(weights):
            return engine.expectations(self.spec, self.inputs[:2], weights)

        def penalty(weights):
            weights = weights.clone().requires_grad_()
            (slope,) = torch.autograd.grad(call(weights).pow(2).sum(), weights, create_graph=True)
            return torch.autograd.grad(slope.pow(2).sum(), weights)[0]

        along = torch.ones_like(self.weights)
        cases = [
            torch.func.grad(lambda weights: call(weights).pow(2).sum()),
            torch.func.jacfwd(call),
            torch.func.jacrev(call),
            lambda weights: torch.func.jvp(call, (weights,), (along,))[1],
            penalty,
        ]
        for case in cases:
            with torch.autocast("cpu", torch.bfloat16):
                found = case(self.weights)
            torch.testing.assert_close(found, case(self.weights), atol=5e-6, rtol=1e-5)

    def test_engines_of_plugins(self):
        rows, weights = torch.tensor([[0.1], [0.2]]), torch.tensor([0.7], requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            values = PlainEngine().expectations(one_qubit(), rows, weights)
            values[:, 0].sum().backward()
        exact = rows[:, 0].double().numpy() + 0.7
        np.testing.assert_allclose(values[:, 1].detach().numpy(), np.sin(exact), atol=1e-6)
        assert weights.grad.item() == pytest.approx(-np.sin(exact).sum(), abs=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestCompile:
    """`torch.compile` before the first call and after it; `aot_eager` compiles all but the last kernels."""

    @staticmethod
    def model(name):
        torch.manual_seed(0)
        layer = QuantumLayer(build_circuit("hq_unet_qcnn", grid=2), ENGINES[name]())
        return torch.nn.Sequential(torch.nn.Linear(5, 12), torch.nn.Tanh(), layer, torch.nn.Linear(8, 2))

    @staticmethod
    def found(model, images):
        values = model(images)
        values.pow(2).sum().backward()
        return [values.detach(), *(parameter.grad for parameter in model.parameters())]

    @pytest.mark.parametrize("name", ["network", "statevector", "aer", "shots"])
    @pytest.mark.parametrize("called_before", [False, True])
    def test_values_and_gradients_are_those_of_the_plain_model(self, name, called_before):
        images = torch.linspace(-1, 1, 20).reshape(4, 5)
        expected = self.found(self.model(name), images)
        model = self.model(name)
        if called_before:
            with torch.no_grad():
                model(images)
            model[2].engine = ENGINES[name]()  # the same draws again
        torch._dynamo.reset()
        with warnings.catch_warnings(record=True) as caught:
            found = self.found(torch.compile(model, backend="aot_eager"), images)
        traced = [str(one.message) for one in caught if "does not know how to trace" in str(one.message)]
        assert not traced
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


LOG = {
    "log": (lambda x, w: x.log() + w, -1.0),
    "inverse": (lambda x, w: w / x, 0.0),
    "root": (lambda x, w: x**0.5 + w, -0.5),
    "power": (lambda x, w: x**w, -2.0),
    "arcsine": (lambda x, w: x.arcsin() + w, 1.5),
    "arccosine": (lambda x, w: x.arccos() + w, -1.5),
    "overflow": (lambda x, w: (x * w).exp(), 1e5),
    "hidden": (lambda x, w: (x.log() * 0.5 + w).sin(), -1.0),
}
"""Expressions, and values of x at which they are not finite; w is 0.5."""


class TestAngles:
    weights = torch.tensor([0.5], dtype=torch.float64)

    @pytest.mark.parametrize("case", LOG)
    @pytest.mark.parametrize("name", ["network", "statevector", "noisy", "shots", "aer", "zne"])
    def test_an_angle_that_is_not_finite_names_its_parameter(self, case, name):
        expression, outside = LOG[case]
        rows = torch.tensor([[0.5], [outside]], dtype=torch.float64)
        with pytest.raises(NotFiniteError, match=r"depends on .*`x` = .* in sample 1"):
            ENGINES[name]().expectations(one_qubit(expression), rows, self.weights)

    @pytest.mark.parametrize("case", LOG)
    @pytest.mark.parametrize("name", ["network", "aer"])
    def test_inside_its_domain_it_is_a_value(self, case, name):
        spec = one_qubit(LOG[case][0])
        bound = spec.circuit.assign_parameters({spec.input_params[0]: 0.5, spec.weight_params[0]: 0.5})
        expected = [Statevector(bound).expectation_value(one).real for one in spec.observables]
        rows = torch.tensor([[0.5]], dtype=torch.float64)
        found = ENGINES[name]().expectations(spec, rows, self.weights)[0]
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)

    def test_weights_and_gates_inside_gates(self):
        theta = Parameter("theta")
        inner = QuantumCircuit(1, name="inner")
        inner.rx(theta.log(), 0)
        circuit, w = QuantumCircuit(2), ParameterVector("w", 2)
        circuit.ry(w[0], 0)
        circuit.append(inner.to_gate({theta: w[1]}), [1])
        spec = CircuitSpec.from_circuit(circuit, [], list(w), ["IZ"])
        # Also where no observable looks at the gate.
        for name in ("network", "statevector", "aer"):
            with pytest.raises(NotFiniteError, match=r"`w\[1\]` = -2"):
                ENGINES[name]().expectations(spec, torch.zeros(1, 0), torch.tensor([0.1, -2.0]))

    def test_recording_for_a_device(self):
        spec, log = one_qubit(LOG["log"][0]), RequestLog()
        log.begin(0)
        weights = torch.tensor([0.5])
        for engine in (RecordingEngine("layer", log), WaitingEngine(make_engine("exact"))):
            with pytest.raises(NotFiniteError, match="`x` = -1"):
                engine.expectations(spec, torch.tensor([[-1.0]]), weights)
            # Inputs that wait for a result are no angles yet.
            values = engine.expectations(spec, torch.tensor([[math.nan]]), weights)
            assert bool(values.isnan().all())
        assert not log.new

    def test_faces_of_qiskit(self):
        x = Parameter("x")
        circuit = QuantumCircuit(1)
        circuit.ry(x.log(), 0)
        job = ExactEstimator().run([(circuit, SparsePauliOp("Z"), [-1.0])])
        with pytest.raises(NotFiniteError, match="`x` = -1"):
            job.result()

    @pytest.mark.parametrize("name", ["network", "statevector"])
    def test_what_overflows_in_single_precision(self, name):
        spec = one_qubit(lambda x, w: x * 1e30 + w)
        with pytest.raises(NotFiniteError, match=r"`x`, `w`.*float64"):
            ENGINES[name]().expectations(spec, torch.tensor([[1e30]]), torch.tensor([0.5]))

    def test_values_of_arguments_are_named_by_parameter(self):
        for rows, weights, name in (([[0.1], [math.nan]], [0.5], "x"), ([[0.1]], [math.inf], "w")):
            with pytest.raises(NotFiniteError, match=f"parameter `{name}`"):
                make_engine("exact").expectations(one_qubit(), torch.tensor(rows), torch.tensor(weights))


class TestArguments:
    @pytest.mark.parametrize("kind", ["exact", "aer"])
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"shots": 1.5}, "`shots` must be a whole number"),
            ({"shots": True}, "`shots` must be a whole number"),
            ({"shots": 0}, "`shots` must be a whole number of at least 1, but is 0"),
            ({"shots": "many"}, "`shots` must be a whole number"),
            ({"shots": 8, "seed": "a"}, "`seed` must be a whole number"),
            ({"shots": 8, "seed": -1}, "`seed` must be a whole number of at least 0, but is -1"),
            ({"shots": 8, "seed": 0.5}, "`seed` must be a whole number"),
            ({"noise": NOISE, "trajectories": 2.5}, "`trajectories`"),
        ],
    )
    def test_counts_and_seeds(self, kind, options, message):
        if "trajectories" in options and kind == "exact":
            pytest.skip("no option of this engine")
        with pytest.raises(EngineError, match=message):
            make_engine(kind, **options)
        with pytest.raises(EngineError, match=message):
            type(make_engine(kind))(**options)

    def test_integers_of_numpy_are_integers(self):
        spec, rows, weights = one_qubit(), torch.zeros(4, 1), torch.ones(1)
        for kind in ("exact", "aer"):
            plain = make_engine(kind, shots=16, seed=3)
            other = make_engine(kind, shots=np.int64(16), seed=np.uint8(3))
            assert plain.describe() == other.describe()
            values = [engine.expectations(spec, rows, weights) for engine in (plain, other)]
            assert torch.equal(*values)

    def test_an_engine_is_no_name(self):
        spec = one_qubit()
        section = {"name": "hq_unet", "in_channels": 3, "num_classes": 2, "widths": [4, 4, 8, 8, 8]}
        for call in (
            lambda: QuantumLayer(spec, "exact"),
            lambda: setattr(QuantumLayer(spec), "engine", "exact"),
            lambda: build_model(section, "exact"),
            lambda: use_engine(torch.nn.Sequential(QuantumLayer(spec)), "exact"),
        ):
            with pytest.raises(
                EngineError, match=r"must be an Engine, but is 'exact'. Fix: make_engine\('exact'\)"
            ):
                call()
        with pytest.raises(EngineError, match="must be the name of an engine"):
            make_engine(make_engine("exact"))

    @pytest.mark.parametrize("kind", [torch.complex64, torch.int64, torch.bool])
    def test_inputs_are_real_numbers(self, kind):
        rows = torch.ones(2, 1).to(kind)
        with pytest.raises(EngineError, match="must be real floating point, but is"):
            QuantumLayer(one_qubit())(rows)
        with pytest.raises(EngineError, match="must be real floating point, but is"):
            make_engine("exact").expectations(one_qubit(), rows, torch.ones(1))

    @pytest.mark.parametrize("rows", [np.zeros((2, 1)), [[0.1], [0.2]], 3.0])
    def test_inputs_are_tensors(self, rows):
        with pytest.raises(QiskitMachineLearningError, match=r"Fix: layer\(torch.as_tensor"):
            QuantumLayer(one_qubit())(rows)
        for name in ENGINES:
            with pytest.raises(EngineError, match="must be a torch tensor"):
                ENGINES[name]().expectations(one_qubit(), rows, torch.ones(1))


def trace(layer, rows):
    torch.jit.trace(layer, rows, check_trace=False)


def trace_without_gradients(layer, rows):
    with torch.no_grad():
        trace(layer, rows)


def make_graph(layer, rows):
    make_fx(layer)(rows)


def export(layer, rows):
    torch.export.export(torch.nn.Sequential(layer), (rows,), strict=False)


def fake(layer, rows):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        layer(mode.from_tensor(rows))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("record", [trace, trace_without_gradients, make_graph, export, fake])
@pytest.mark.parametrize("options", [{}, {"method": "network"}, {"kind": "aer"}])
def test_recorders_are_refused(record, options):
    """They would write down the memory that a compiled kernel fills, and not that it does."""
    layer = QuantumLayer(build_circuit("hq_unet_qcnn", grid=2), make_engine(**{"kind": "exact"} | options))
    rows = torch.rand(3, layer.spec.num_inputs)
    layer(rows)
    with pytest.raises(EngineError, match=r"must be executed.*Fix: torch\.compile"):
        record(layer, rows)


def test_modes_that_only_look_do_no_harm():
    layer = QuantumLayer(build_circuit("hq_unet_qcnn", grid=2))
    rows = torch.rand(3, layer.spec.num_inputs)
    wanted = layer(rows)
    with FlopCounterMode(display=False):
        assert torch.equal(layer(rows), wanted)
