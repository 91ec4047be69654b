"""Samples of a model with a frozen ViT have its token maps; only chosen experts are requested."""

from __future__ import annotations

import pytest
import torch
from plan_cases import quick
from tiny_vits import TINY

from qhybrid.engines import make_engine
from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome, write_partial
from qhybrid.hardware.model.recording import run_pass
from qhybrid.hardware.model.requests import RequestLog
from qhybrid.hardware.model.workload import Samples, Workload
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.layers import quantum_layers
from qhybrid.models import build_model

pytest.importorskip("transformers")

SMALL = [{"name": f"hqf_{kind}", "arguments": {"grid": 2}} for kind in ("local", "global")]
MODEL = {
    "name": "hqf_net",
    "in_channels": 3,
    "num_classes": 2,
    "patch_size": 16,
    "widths": [2, 2, 2, 2, 4],
    "qskip": {"levels": [3]},
    "qmoe": {"circuit": SMALL, "top_k": 1},
    "guidance": {"backbone": "random", "config": TINY, "levels": [0, 4], "dim": 4, "heads": 2, "points": 2},
}


@pytest.fixture
def model():
    torch.manual_seed(0)
    built = build_model(MODEL).eval()
    with torch.no_grad():
        for fusion in built.guidance.fusions.values():
            fusion.gate.fill_(1.0)
        built.bottleneck.router.linear.weight.zero_()
        built.bottleneck.router.linear.bias.copy_(torch.tensor([0.0, 1.0]))
    return built


@pytest.fixture
def samples():
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 16, 16, generator=draw)
    maps = 9 * torch.randn(2, 2, 16, 2, 2, generator=draw).half()
    return Samples(images, None, ("a", "b"), token_maps=maps)


def test_a_pass_gives_the_model_their_maps_and_asks_for_chosen_experts(model, samples):
    log, engine = RequestLog(), make_engine("exact")
    layers = list(quantum_layers(model))
    assert run_pass(model, samples.images, layers, log, token_maps=samples.token_maps) == [None, None]
    assert sorted(log.new) == [
        (sample, layer, 0) for sample in range(2) for layer in ("bottleneck.core.hqf_global", "skips.3.core")
    ]
    for key, request in log.new.items():
        circuit = log.circuits[request.circuit]
        given = torch.tensor(request.angles), torch.tensor(circuit.weights)
        log.requests[key] = request
        log.results[key] = engine.expectations(circuit.spec, *given).detach().numpy()
    log.new = {}
    outputs = run_pass(model, samples.images, layers, log, token_maps=samples.token_maps)
    with torch.no_grad():
        expected = model(samples.images, samples.token_maps)
        without = model(samples.images)
    torch.testing.assert_close(torch.stack(outputs), expected, atol=1e-5, rtol=1e-5)
    assert (without - expected).abs().max() > 1e-3


def test_plans_keep_them(samples, tmp_path):
    samples.save(tmp_path)
    again = Samples.load(tmp_path, samples.names, ())
    assert torch.equal(again.token_maps, samples.token_maps)
    Samples(samples.images, None, samples.names).save(tmp_path)
    assert Samples.load(tmp_path, samples.names, ()).token_maps is None


def test_windows_are_never_taken_for_tiles(model, samples):
    Workload(model, samples)
    with pytest.raises(HardwareError, match=r"must have its token maps, but have none.*make the plan anew"):
        Workload(model, Samples(samples.images, None, samples.names))


def test_predictions_of_complete_samples_are_made_with_their_maps(model, samples, tmp_path):
    """One of two samples has its results: what is written of it is what the whole plan gives."""
    workload = Workload(model, samples)
    settings = quick(backend="aer", shots=50, limits={"executions": 100}, mitigation="none")
    folder = make_plan(workload, settings, tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        write_outcome(execution, execution.run())
        whole = read_rows(folder / "results" / "predictions.csv")
        last = execution.ledger.requests()[-1]
        (chunk,) = [
            c.number
            for c in execution.ledger.chunks()
            if any(last.points[0] in points for _, points in c.blocks)
        ]
        execution.ledger.drop_result(chunk)
        execution.context.estimates.clear()
        found = write_partial(execution)
        assert 0 < found < 2
        rows = read_rows(folder / "results" / "partial.csv")
        assert all(row in whole for row in rows)
        assert len(rows) == found


def read_rows(file):
    return file.read_text().splitlines()[1:]
