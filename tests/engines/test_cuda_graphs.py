"""Recorded steps: the buffers, copies and turns around a CUDA graph, tested with a recorder that runs again.

`Again` stands in for CUDA graphs: a replay runs the function once more on the same buffers and writes into
the same results, as the kernels of a graph do. Values and gradients are compared with the plain run.
"""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from qiskit.circuit.library import efficient_su2, zz_feature_map
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.engines.exact import cost
from qhybrid.engines.exact import engine as engine_module
from qhybrid.engines.exact.execute import NetworkExecutor
from qhybrid.engines.exact.plan import plan_circuit
from qhybrid.engines.exact.replay import LARGEST_RECORDS, ReplayedExecutor
from qhybrid.engines.exact.statevector.execute import StateExecutor
from qhybrid.errors import EngineError


class Again:
    """Records functions as themselves."""

    def __init__(self, *, spoil=False, fail=False):
        self.stream, self.recorded, self.replays = 0, 0, 0
        self._spoil, self._fail = spoil, fail

    def place(self):
        return self.stream

    def record(self, functions):
        if self._fail:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded += 1
        return [self._one(function) for function in functions]

    def _one(self, function):
        outputs = function()

        def replay():
            self.replays += 1
            for place, new in zip(outputs, function()):
                place.copy_(new + 1 if self._spoil else new)

        return outputs, replay


def a_spec():
    features, ansatz = zz_feature_map(3, reps=1), efficient_su2(3, reps=1)
    observables = [SparsePauliOp("ZZZ"), SparsePauliOp(["XYI", "IIZ"], [0.5, -1.5])]
    circuit = features.compose(ansatz)
    return CircuitSpec.from_circuit(circuit, list(features.parameters), list(ansatz.parameters), observables)


SPEC = a_spec()
PLAN = plan_circuit(SPEC)


def plain(method="statevector"):
    sizes, like = (SPEC.num_inputs, SPEC.num_weights, SPEC.num_observables), torch.empty(0).double()
    if method == "network":
        return NetworkExecutor(PLAN.network.program, PLAN.network.outputs, sizes, like)
    return StateExecutor(PLAN.states, sizes, like)


def replayed(method="statevector", recorder=None, largest=1024):
    return ReplayedExecutor(plain(method), recorder or Again(), largest)


def angles(seed, batch=4):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SPEC.num_inputs, batch, dtype=torch.float64, generator=generator)
    weights = torch.randn(SPEC.num_weights, dtype=torch.float64, generator=generator)
    return inputs.requires_grad_(), weights.requires_grad_()


def step(run, pair):
    values = run(*pair)
    return [values, *torch.autograd.grad(values.square().sum(), pair)]


def assert_same(found, right):
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def warmed(run, batch=4):
    for seed in (100, 101):
        step(run, angles(seed, batch))
    return run


@pytest.mark.parametrize("method", ["statevector", "network"])
def test_replays_give_the_plain_run_and_no_result_changes_later(method):
    recorder = Again()
    run, right, found = replayed(method, recorder), plain(method), []
    for seed in range(5):
        found.append(step(run, angles(seed)))
    assert (recorder.recorded, recorder.replays) == (1, 2 + 2 * 4)  # Checked once, then four steps.
    for seed, one in enumerate(found):
        assert_same(one, step(right, angles(seed)))


def test_gradients_after_later_calls_are_those_of_their_own_call():
    run, right = warmed(replayed()), plain()
    pairs = [angles(seed) for seed in range(3)]
    losses = [run(*pair).square().sum() for pair in pairs]
    run(*[one.detach() for one in angles(9)])
    for place in (1, 0, 2, 1):
        slopes = torch.autograd.grad(losses[place], pairs[place], retain_graph=True)
        assert_same(slopes, step(right, pairs[place])[1:])


def test_weights_that_change_in_place_are_read_anew():
    run, right, (inputs, weights) = warmed(replayed()), plain(), angles(0)
    optimizer = torch.optim.SGD([weights], lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        run(inputs, weights).sum().backward()
        (slope,) = torch.autograd.grad(right(inputs, weights).sum(), weights)
        assert_same([weights.grad], [slope])
        optimizer.step()
    values = run(inputs, weights)
    with torch.no_grad():
        weights.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        values.sum().backward()


def test_every_batch_size_and_stream_has_its_own_record():
    recorder = Again()
    run, right = replayed(recorder=recorder), plain()
    for batch in (1, 3, 1, 3, 1, 3):
        assert_same(step(run, angles(batch, batch)), step(right, angles(batch, batch)))
    assert recorder.recorded == 2
    recorder.stream = 7
    for _ in range(3):
        step(run, angles(0, 3))
    assert recorder.recorded == 3


def test_old_records_are_given_up_and_their_gradients_stay_right():
    recorder = Again()
    run, pair = warmed(replayed(recorder=recorder), 2), angles(0, 2)
    loss = run(*pair).square().sum()
    for batch in range(3, 3 + LARGEST_RECORDS):
        warmed(run, batch)
    before = recorder.recorded
    warmed(run, 2)
    assert recorder.recorded == before + 1
    assert_same(torch.autograd.grad(loss, pair), step(plain(), pair)[1:])


def test_large_batches_run_plainly():
    recorder = Again()
    run = replayed(recorder=recorder, largest=3)
    assert_same(step(warmed(run), angles(0)), step(plain(), angles(0)))
    assert recorder.recorded == 0


def test_second_derivatives_and_transforms_run_plainly():
    run, pair = warmed(replayed()), angles(0)

    def penalty(function):
        (slope,) = torch.autograd.grad(function(*pair).sum(), pair[0], create_graph=True)
        return torch.autograd.grad(slope.square().sum(), pair)

    assert_same(penalty(run), penalty(plain()))
    found, right = (
        torch.func.jacrev(function, argnums=1)(*[one.detach() for one in pair]) for function in (run, plain())
    )
    assert_same([found], [right])
    vectorised = torch.autograd.functional.jacobian(lambda w: run(pair[0], w), pair[1], vectorize=True)
    assert_same([vectorised], [right])


def test_only_what_is_wanted_gets_a_gradient():
    run, (inputs, weights) = warmed(replayed()), angles(0)
    values = run(inputs.detach(), weights)
    values.square().sum().backward()
    assert_same([weights.grad], [step(plain(), angles(0))[2]])
    assert inputs.grad is None
    assert not run(inputs.detach(), weights.detach()).requires_grad


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_a_record_made_without_gradients_serves_training(context):
    recorder = Again()
    run = replayed(recorder=recorder)
    with context():
        for seed in range(3):
            pair = [one.detach().clone() for one in angles(seed)]
            values = run(*pair)
    assert recorder.recorded == 1
    assert_same([values.clone()], [plain()(*angles(2)).detach()])
    assert_same(step(run, angles(5)), step(plain(), angles(5)))


def test_several_circuits_share_a_recorder_and_nothing_else():
    recorder = Again()
    first, second = (warmed(replayed(method, recorder)) for method in ("statevector", "network"))
    pairs = angles(0), angles(1)
    losses = [run(*pair).square().sum() for run, pair in zip((first, second), pairs)]
    for loss, pair in zip(losses, pairs):
        assert_same(torch.autograd.grad(loss, pair), step(plain(), pair)[1:])


def test_threads_that_share_a_circuit_get_their_own_results():
    run, right, wrong = warmed(replayed()), plain(), []

    def work(seed):
        for turn in range(5):
            found, known = (step(function, angles(seed + 10 * turn)) for function in (run, right))
            if not all(torch.allclose(a, b, atol=1e-12) for a, b in zip(found, known)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("faults", "message"),
    [({"fail": True}, "not permitted"), ({"spoil": True}, "differs from the plain run by 1")],
)
def test_what_cannot_be_recorded_or_replays_wrongly_runs_plainly(faults, message):
    run = replayed(recorder=Again(**faults))
    step(run, angles(0))
    with pytest.warns(UserWarning, match=message):
        found = step(run, angles(1))
    assert_same(found, step(plain(), angles(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(step(run, angles(2)), step(plain(), angles(2)))


def test_a_circuit_without_parameters_is_recorded_too():
    run = ReplayedExecutor(lambda inputs, weights: torch.ones(2, inputs.shape[1]).double(), Again(), 9)
    for _ in range(3):
        assert run(torch.zeros(0, 3).double(), torch.zeros(0).double()).shape == (2, 3)


@pytest.mark.parametrize("method", ["statevector", "network"])
def test_the_engine_records_by_method(method, monkeypatch):
    recorder = Again()
    monkeypatch.setattr(engine_module, "CudaGraphs", lambda device: recorder)
    monkeypatch.setattr(engine_module, "check_graphs", lambda *options: None)
    plain_engine = make_engine("exact", method=method, kernel="torch" if method == "statevector" else None)
    options = {"method": method, "kernel": plain_engine._kernel, "cuda_graphs": True}
    engine = make_engine("exact", **options)
    assert engine.describe() == plain_engine.describe()
    for seed in range(3):
        inputs, weights = (one.detach() for one in angles(seed))
        pair = inputs.t().clone().requires_grad_(), weights.requires_grad_()
        found, right = (
            step(lambda *both, own=own: own.expectations(SPEC, *both), pair) for own in (engine, plain_engine)
        )
        assert_same(found, right)
    assert recorder.recorded == 1
    assert engine.without_shots()._cuda_graphs


@pytest.mark.parametrize("options", [{"cuda_graphs": True}, {"cuda_graphs": "yes"}])
def test_the_option_is_refused_where_there_is_no_graph(options):
    with pytest.raises(EngineError, match="`cuda_graphs` must be"):
        make_engine("exact", **options)


def test_memory_that_torch_holds_unused_counts_as_free(monkeypatch):
    free, reserved, allocated = 10 * 2**30, 6 * 2**30, 2**30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2 * free))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated)
    limit = cost.memory_limit(torch.device("cuda"))
    assert 0 <= 0.8 * (free + reserved - allocated) - limit < cost.CUDA_STEP


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", ["statevector", "network"])
def test_cuda_replays_agree_with_the_cpu(method):
    engines = [make_engine("exact", method=method)]
    engines.append(make_engine("exact", method=method, device="cuda", cuda_graphs=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for seed in range(4):
            inputs, weights = (one.detach() for one in angles(seed))
            pair = inputs.t().clone().requires_grad_(), weights.requires_grad_()
            found, right = (
                step(lambda *both, own=own: own.expectations(SPEC, *both), pair) for own in engines
            )
            for one, other in zip(found, right):
                torch.testing.assert_close(one, other, atol=1e-9, rtol=0)
