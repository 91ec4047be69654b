"""`Probe`: layers replaced as plain hooks replace them, nothing left behind, the encoder computed once."""

from __future__ import annotations

import pytest
import torch
from tiny_vits import TINY
from torch import nn

from qhybrid.circuits import build_circuit
from qhybrid.engines import make_engine
from qhybrid.errors import EngineError
from qhybrid.evaluation.diagnosis.interventions import INTERVENTIONS, Evidence, other_samples, redrawn_angles
from qhybrid.evaluation.diagnosis.probe import Probe
from qhybrid.layers import QuantumLayer, quantum_layers
from qhybrid.models import build_model


def small_unet():
    """A U-Net whose logits depend on its circuit, which they hardly do with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        section = {"name": "hq_unet", "in_channels": 2, "num_classes": 3, "patch_size": 16, "grid": 2}
        model = build_model({**section, "widths": (4, 4, 4, 8, 16)})
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(3 if weights.ndim == 4 else 1)
        model.bottleneck.expand.weight.mul_(30)
        model.head.weight.div_(3000)  # logits of about 1 again
    return model


def small_classifier():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        section = {
            "name": "qcq_cnn",
            "in_channels": 1,
            "num_classes": 2,
            "image_size": [8, 8],
            "channels": [2],
        }
        return build_model(section)


def batches(model):
    shape = (2, 16, 16) if hasattr(model, "up") else (1, 8, 8)
    images = torch.rand(7, *shape, generator=torch.Generator().manual_seed(3))
    return images.split(3)


TOLERANCE = 1e-5
"""Convolutions of other batch sizes round otherwise, in single precision."""


class Twice(nn.Module):
    """Calls one layer two times, the second time with what the first one said; writes into its input."""

    def __init__(self):
        super().__init__()
        spec = build_circuit("qcq_classifier", num_qubits=2, reps=1)
        self.before = nn.Linear(3, 2)
        self.layer = QuantumLayer(spec)
        self.after = nn.Linear(1, 2)

    def forward(self, images):
        values = self.before(images)
        values += 0.5  # in place, on the output of a module that is kept
        first = self.layer(values)
        return self.after(self.layer(values * first) + first)


def everything_of(model):
    return {
        "modes": [part.training for part in model.modules()],
        "engines": {name: id(layer.engine) for name, layer in quantum_layers(model).items()},
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "own attributes": {name: sorted(part.__dict__) for name, part in model.named_modules()},
        "hooks": sum(len(p._forward_hooks) + len(p._forward_pre_hooks) for p in model.modules()),
        "random": torch.get_rng_state(),
    }


def assert_same(before, after):
    for key in ("modes", "engines", "own attributes", "hooks"):
        assert before[key] == after[key], key
    for name, value in before["weights"].items():
        assert torch.equal(value, after["weights"][name]), name
    assert torch.equal(before["random"], after["random"])


@pytest.mark.parametrize("make", [small_unet, small_classifier])
def test_nothing_is_left_behind(make):
    model = make().train()
    model.get_submodule(next(iter(quantum_layers(model)))).eval()
    before = everything_of(model)
    probe = Probe(model, quantum_layers(model))
    with probe.opened():
        assert not any(part.training for part in model.modules())
        probe.record()
        for batch in batches(model):
            probe(batch)
        torch.rand(3)
        for _, entry in list(INTERVENTIONS.items())[:3]:
            probe.replace(dict.fromkeys(probe.chosen, entry.make(Evidence(probe.records(), {}, 0), 0)))
            for batch in batches(model):
                probe(batch)
    assert_same(before, everything_of(model))


def test_nothing_is_left_behind_after_an_error():
    model = small_unet().train()
    before = everything_of(model)
    probe = Probe(model, quantum_layers(model))

    def fail(call):
        raise RuntimeError("in the middle")

    def run():
        with probe.opened():
            probe.record()
            for batch in batches(model):
                probe(batch)
            probe.replace({"bottleneck.core": fail})
            probe(batches(model)[0])

    with pytest.raises(RuntimeError, match="middle"):
        run()
    assert_same(before, everything_of(model))


def by_hooks(model, images, outputs_of):
    """Replace outputs with torch's own hooks: `outputs_of(name, inputs, outputs)` says what by."""
    handles = [
        layer.register_forward_hook(lambda _, given, out, name=name: outputs_of(name, given[0], out))
        for name, layer in quantum_layers(model).items()
    ]
    with torch.no_grad():
        logits = model(images)
    for handle in handles:
        handle.remove()
    return logits


@pytest.mark.parametrize("make", [small_unet, small_classifier])
@pytest.mark.parametrize("reuse", [True, False])
def test_replaced_logits_are_those_of_plain_hooks(make, reuse):
    model = make().eval()
    images = torch.cat(batches(model))
    recorded: dict[str, torch.Tensor] = {}
    by_hooks(model, images, lambda name, given, out: recorded.update({name: out.clone()}))
    order = torch.from_numpy(other_samples(7, 5, 0))
    wanted = {
        "mean": lambda name, _, out: recorded[name].double().mean(dim=0).to(out).expand_as(out),
        "zero": lambda name, _, out: torch.zeros_like(out),
        "permuted": lambda name, _, out: recorded[name][order],
        "redrawn": lambda name, given, out: _redrawn(model, name, given),
    }
    probe = Probe(model, quantum_layers(model), reuse=reuse)
    with probe.opened():
        probe.record()
        plain = torch.cat([probe(batch) for batch in batches(model)])
        evidence = Evidence(probe.records(), {}, 5)
        found = {}
        for kind in wanted:
            replacement = INTERVENTIONS.get(kind).make(evidence, 0)
            if INTERVENTIONS.get(kind).applies(next(iter(quantum_layers(model).values())).spec) is None:
                probe.replace(dict.fromkeys(probe.chosen, replacement))
                found[kind] = torch.cat([probe(batch) for batch in batches(model)])
    torch.testing.assert_close(plain, by_hooks(model, images, lambda *_: None), atol=TOLERANCE, rtol=0)
    for kind, logits in found.items():
        torch.testing.assert_close(logits, by_hooks(model, images, wanted[kind]), atol=TOLERANCE, rtol=0)
        assert (logits - plain).abs().max() > 1e-4, kind
    assert len(found) >= 3


def _redrawn(model, name, given):
    layer = model.get_submodule(name)
    angles = redrawn_angles(name, layer.spec.num_weights, 5, 0).float()
    rows = given.reshape(-1, given.shape[-1])
    found = make_engine("exact").expectations(layer.spec, rows, angles)
    return found.reshape(*given.shape[:-1], -1)


def test_several_calls_of_one_layer():
    model = Twice().eval()
    images = torch.rand(6, 3)
    recorded = []
    by_hooks(model, images, lambda _, __, out: recorded.append(out.clone()))
    calls = iter(range(2))
    expected = by_hooks(model, images, lambda _, __, out: recorded[next(calls)].mean(dim=0).expand_as(out))
    probe = Probe(model, ["layer"])
    with probe.opened():
        probe.record()
        plain = torch.cat([probe(part) for part in images.split(4)])
        records = probe.records()["layer"]
        assert [tuple(record.outputs.shape) for record in records] == [(6, 1, 1), (6, 1, 1)]
        probe.replace({"layer": INTERVENTIONS.get("mean").make(Evidence(probe.records(), {}, 0), 0)})
        found = torch.cat([probe(part) for part in images.split(4)])
    torch.testing.assert_close(plain, model(images).detach(), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def test_what_comes_before_the_layer_is_computed_once(monkeypatch):
    model = small_classifier().eval()
    calls = {"filter": 0, "network": 0}
    exact = type(make_engine("exact")).expectations

    def counted(engine, spec, inputs, weights):
        calls["filter"] += spec.num_inputs == 4
        return exact(engine, spec, inputs, weights)

    monkeypatch.setattr(type(make_engine("exact")), "expectations", counted)
    model.head.network.register_forward_pre_hook(lambda *_: calls.update(network=calls["network"] + 1))
    images = torch.cat(batches(model))
    probe = Probe(model, quantum_layers(model))
    with probe.opened():
        probe.record()
        probe(images)
        seen = dict(calls)
        assert seen["filter"] == 1
        zero = INTERVENTIONS.get("zero").make(Evidence({}, {}, 0), 0)
        probe.replace({"head.classifier.circuit": zero})
        later = probe(images)
        assert calls["filter"] == seen["filter"]  # the filter's features are handed out
        probe.replace({"quanvolution.filter": zero})
        probe(images)
        assert calls["filter"] == seen["filter"]  # and here they are zero
    expected = by_hooks(
        model, images, lambda name, _, out: torch.zeros_like(out) if name.startswith("head") else out
    )
    torch.testing.assert_close(later, expected, atol=TOLERANCE, rtol=0)


class Moody(Twice):
    """Adds what no module decides, so that a second pass differs."""

    def forward(self, images):
        return super().forward(images) + torch.rand(1)


def test_a_model_that_repeats_nothing_is_run_as_a_whole():
    model = Moody().eval()
    count = []
    model.before.register_forward_pre_hook(lambda *_: count.append(1))
    probe = Probe(model, ["layer"])
    with probe.opened():
        probe.record()
        probe(torch.rand(4, 3))
        before = len(count)
        probe.replace({})
        probe(torch.rand(4, 3))
    assert len(count) == before + 1


def test_passes_must_see_the_same_batches():
    model = Twice().eval()
    probe = Probe(model, ["layer"])
    with probe.opened():
        probe.record()
        probe(torch.rand(4, 3))
        probe.replace({})
        with pytest.raises(EngineError, match="batches of the first one"):
            probe(torch.rand(3, 3))


class Mixed(Twice):
    """Gives the layer rows that belong to no sample."""

    def forward(self, images):
        return self.after(self.layer(self.before(images).repeat(2, 1)[1:])[: len(images)])


class Unused(Twice):
    """Never calls its layer."""

    def forward(self, images):
        return self.after(self.before(images)[:, :1])


@pytest.mark.parametrize(
    ("kind", "message"), [(Mixed, "as many rows for every sample"), (Unused, "never called")]
)
def test_layers_that_cannot_be_replaced_are_refused(kind, message):
    model = kind().eval()
    probe = Probe(model, ["layer"])
    with probe.opened():
        probe.record()
        with pytest.raises(EngineError, match=message):
            probe(torch.rand(4, 3))
    assert model.layer.engine.kind == "exact"


def test_every_sample_gets_the_outputs_of_another_one():
    for count in (2, 3, 50):
        source = other_samples(count, 0, 0)
        assert sorted(source) == list(range(count))
        assert (source != range(count)).all()
    assert (other_samples(50, 0, 0) != other_samples(50, 0, 1)).any()
    assert list(other_samples(1, 0, 0)) == [0]


def test_token_maps_and_experts_that_are_not_chosen():
    """Recorded and replaced passes give the model its maps, and every expert has a row for every sample."""
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    small = [{"name": f"hqf_{kind}", "arguments": {"grid": 2}} for kind in ("local", "global")]
    vit = {"backbone": "random", "config": TINY, "levels": [0, 4], "dim": 4, "heads": 2, "points": 2}
    section = {"name": "hqf_net", "in_channels": 3, "num_classes": 2, "patch_size": 16, "guidance": vit}
    parts = {"widths": [2, 2, 2, 2, 4], "qskip": "none", "qmoe": {"circuit": small, "top_k": 1}}
    model = build_model({**section, **parts}).eval()
    with torch.no_grad():
        for fusion in model.guidance.fusions.values():
            fusion.gate.fill_(1.0)
    images, maps = torch.randn(4, 3, 16, 16), 9 * torch.randn(4, 2, 16, 2, 2).half()
    probe = Probe(model, quantum_layers(model))
    assert probe.guidance is model.guidance
    with torch.no_grad():
        expected, without = model(images, maps), model(images)
    with probe.opened():
        probe.record()
        found = torch.cat([probe(images[:3], maps[:3]), probe(images[3:], maps[3:])])
        torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
        assert (found - without).abs().max() > 1e-3
        records = probe.records()
        assert [records[name][0].inputs.shape for name in probe.chosen] == [(4, 1, 12)] * 2
        zeros = INTERVENTIONS.get("zero").make(Evidence(records, {}, 0), 0)
        probe.replace(dict.fromkeys(probe.chosen, zeros))
        replaced = torch.cat([probe(images[:3], maps[:3]), probe(images[3:], maps[3:])])
    plain = build_model({**section, **parts, "qmoe": "none"}).eval()
    own = plain.state_dict()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if name in own})
    torch.testing.assert_close(replaced, plain(images, maps), atol=TOLERANCE, rtol=TOLERANCE)
    assert model.bottleneck.sparse
