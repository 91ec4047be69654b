"""Arms in the place of quantum layers: each does what it says, in every model that has such layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qhybrid.config import EngineConfig
from qhybrid.engines import make_engine
from qhybrid.errors import ConfigError
from qhybrid.layers import QuantumLayer, SeparableFilter, quantum_layers
from qhybrid.models import build_for_engine, build_model, resolve_model
from qhybrid.models.arms import ARMS, Arm, Replacement

IMAGE = {"in_channels": 1, "num_classes": 2, "image_size": [8, 8]}
MODELS = {
    "hq_unet": {"name": "hq_unet", "in_channels": 3, "num_classes": 3, "patch_size": 32, "grid": 2}
    | {"widths": [2, 2, 2, 2, 4]},
    "hq_unet_skips": {"name": "hq_unet", "in_channels": 3, "num_classes": 3, "patch_size": 32, "grid": 2}
    | {"widths": [2, 2, 2, 2, 4], "skips": {"circuit": "qcq_classifier", "levels": [1, 3]}},
    "qu_net": {"name": "qu_net", "in_channels": 1, "num_classes": 1, "image_size": [16, 16]}
    | {"variant": "4_1", "widths": [2, 2, 4]},
    "qu_net_two": {"name": "qu_net", "in_channels": 1, "num_classes": 1, "image_size": [16, 16]}
    | {"variant": "4_2", "widths": [2, 2, 4]},
    "qcq_cnn": {"name": "qcq_cnn", **IMAGE, "channels": [2]},
    "quanvo_mlp": {"name": "quanvo_mlp", **IMAGE},
    "qcnn": {"name": "qcnn", **IMAGE, "grid": [2, 2]},
    "hybrid_cnn": {"name": "hybrid_cnn", **IMAGE, "channels": [], "head": {"circuit": "qcq_classifier"}},
}
FILTER, CLASSIFIER = "quanvolution.filter", "head.classifier.circuit"
CORE = "bottleneck.core"
TRAINED = ("identity", "zero", "frozen", "no_entanglement", "twin", "mlp", "fourier", "removed")


def made(name, seed=0, **replace):
    torch.manual_seed(seed)
    return build_model({**MODELS[name], **({"replace": replace["replace"]} if replace else {})})


def images(name, count=3):
    section = MODELS[name]
    height, width = section.get("image_size") or (section["patch_size"],) * 2
    return torch.rand(count, section["in_channels"], height, width)


def layers_of(name):
    return list(quantum_layers(made(name)))


def all_of(name, arm):
    """Return the arm at each layer where it is possible."""
    fixed = {"zero"} if FILTER in layers_of(name) else set()
    chosen = [layer for layer in layers_of(name) if not (layer == FILTER and arm in fixed)]
    return dict.fromkeys(chosen, arm)


def step(model, inputs):
    """Take a training step and return the parameters that it changed."""
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD([part for part in model.parameters() if part.requires_grad], lr=0.1)
    logits = model(inputs)
    (logits * torch.linspace(-1, 1, logits.numel()).reshape(logits.shape)).sum().backward()
    optimizer.step()
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("arm", TRAINED)
def test_every_arm_in_every_model_trains_and_is_loaded_again(name, arm):
    replace = all_of(name, arm)
    if not replace:  # a filter alone: zeros leave nothing of the image
        assert (name, arm) == ("quanvo_mlp", "zero")
        return
    model = made(name, replace=replace)
    inputs = images(name)
    assert model(inputs).shape == made(name)(inputs).shape
    assert set(model.replaced) == set(replace)
    assert all(model.replaced.values())
    if arm != "zero" or name != "qcnn":  # of QCNN only the offset is left
        assert step(model, inputs)
    again = build_model(model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(inputs), model.eval()(inputs))
    assert resolve_model(model.config)["replace"] == replace


@pytest.mark.parametrize("name", MODELS)
def test_what_is_not_replaced_has_the_same_initial_weights(name):
    base = dict(made(name).named_parameters())
    for arm in ("zero", "identity", "twin", "mlp", "fourier", "frozen", "no_entanglement"):
        replace = all_of(name, arm)
        if not replace:
            continue
        for key, value in made(name, replace=replace).named_parameters():
            if not any(key.startswith(layer) for layer in replace):
                assert torch.equal(value, base[key]), (arm, key)


@pytest.mark.parametrize("name", MODELS)
def test_removed_leaves_no_quantum_layer(name):
    model = made(name, replace=all_of(name, "removed"))
    assert not quantum_layers(model)


def test_zero_gives_zeros_and_no_gradient_in_front_of_it():
    model = made("hq_unet", replace={CORE: "zero"})
    seen = []
    model.get_submodule(CORE).register_forward_hook(lambda _m, _i, output: seen.append(output))
    step(model, images("hq_unet"))
    assert seen[0].shape == (3, 8)
    assert not seen[0].any()
    gradient = model.get_submodule("bottleneck.reduce").weight.grad
    assert gradient is None or not gradient.any()
    assert model.get_submodule("bottleneck.expand").bias.grad.any()


@pytest.mark.parametrize("name", ["hq_unet", "qu_net_two", "qcq_cnn", "qcnn"])
def test_frozen_angles_stay_and_are_those_of_the_key_frozen(name):
    trained = [layer for layer in layers_of(name) if layer != FILTER]
    model = made(name, replace=dict.fromkeys(trained, "frozen"))
    changed = step(model, images(name))
    assert not any(key.startswith(layer) for key in changed for layer in trained)
    assert any(key.startswith(layer) for key in step(made(name), images(name)) for layer in trained)


def test_frozen_is_the_same_as_the_key_of_a_bottleneck():
    torch.manual_seed(0)
    by_key = build_model({**MODELS["hq_unet"], "frozen": True})
    by_arm = made("hq_unet", replace={CORE: "frozen"})
    inputs = images("hq_unet")
    assert torch.equal(by_key.eval()(inputs), by_arm.eval()(inputs))
    assert not by_key.get_submodule(CORE).weight.requires_grad


def test_no_entanglement_gives_products_and_keeps_weights():
    model = made("qu_net", replace={"bottleneck.filters.0": "no_entanglement"})
    layer, original = model.get_submodule("bottleneck.filters.0"), quantum_layers(made("qu_net"))
    assert torch.equal(layer.weight, original["bottleneck.filters.0"].weight)
    inputs = torch.rand(2, 4)
    base = layer(inputs)
    for place in range(4):
        # Each output depends on its own input alone.
        moved = inputs.clone()
        moved[:, place] += 0.5
        changed = (layer(moved) - base).abs().amax(dim=0) > 1e-6
        assert changed.tolist() == [other == place for other in range(4)]


def test_a_fixed_filter_stays_fixed_whatever_stands_there():
    for arm in ("identity", "frozen", "twin", "mlp", "fourier", "no_entanglement", "classical_filter"):
        model = made("qcq_cnn", replace={FILTER: arm})
        assert not any(part.requires_grad for part in model.quanvolution.parameters()), arm
        assert not any(key.startswith("quanvolution") for key in step(model, images("qcq_cnn")))


def test_frozen_filter_is_that_of_another_seed():
    torch.manual_seed(0)
    other = build_model({**MODELS["qcq_cnn"], "filter_seed": 1})
    model, inputs = made("qcq_cnn", replace={FILTER: "frozen"}), images("qcq_cnn")
    assert torch.equal(model.fixed_features(inputs), other.fixed_features(inputs))
    assert not torch.allclose(model.fixed_features(inputs), made("qcq_cnn").fixed_features(inputs))


def test_identity_of_a_filter_is_the_pixels_and_classical_filter_adds_products():
    inputs = images("qcq_cnn")
    patches = inputs.unfold(2, 2, 2).unfold(3, 2, 2).reshape(3, 4, 4, 4)  # (B, rows, columns, pixels)
    raw = patches.permute(0, 3, 1, 2)
    assert torch.equal(made("qcq_cnn", replace={FILTER: "identity"}).fixed_features(inputs), raw)
    found = made("qcq_cnn", replace={FILTER: "classical_filter"}).fixed_features(inputs)
    assert found.shape == (3, 10, 4, 4)
    assert torch.equal(found[:, :4], raw)
    assert torch.equal(found[:, 4], raw[:, 0] * raw[:, 1])
    assert torch.equal(found[:, 9], raw[:, 2] * raw[:, 3])


def test_removed_filter_is_a_network_on_the_image():
    model = made("qcq_cnn", replace={FILTER: "removed"})
    assert list(quantum_layers(model)) == [CLASSIFIER]
    assert not hasattr(model, "forward_features")
    first = next(layer for layer in model.modules() if isinstance(layer, nn.Conv2d))
    assert first.in_channels == 1


def test_removed_bottleneck_is_the_unet_with_identity():
    inputs = images("hq_unet")
    model = made("hq_unet", replace={CORE: "removed"}).eval()
    keys = {key: value for key, value in MODELS["hq_unet"].items() if key not in ("name", "grid")}
    plain = build_model({**keys, "name": "unet", "bottleneck": "identity"}).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(plain(inputs), model(inputs))


def test_removed_filters_of_qu_net_leave_a_smaller_decoder():
    names = ["bottleneck.filters.0", "bottleneck.filters.1"]
    model = made("qu_net_two", replace=dict.fromkeys(names, "removed"))
    keys = {key: MODELS["qu_net_two"][key] for key in ("in_channels", "num_classes", "image_size", "widths")}
    plain = build_model({"name": "qu_unet", **keys, "bottleneck": "identity"})
    plain.load_state_dict(model.state_dict())
    inputs = images("qu_net")
    assert torch.equal(plain(inputs), model(inputs))
    with pytest.raises(ConfigError, match="are removed together.*name all of bottleneck.filters.0"):
        made("qu_net_two", replace={names[0]: "removed"})


def test_a_removed_skip_is_plain_also_where_the_bottleneck_is_built_anew():
    section = {**MODELS["qu_net_two"], "skips": {"circuit": "qcq_classifier", "levels": [0]}}
    names = ["skips.0.core", "bottleneck.filters.0", "bottleneck.filters.1"]
    model = build_model({**section, "replace": dict.fromkeys(names, "removed")})
    assert not quantum_layers(model)
    assert set(model.replaced) == set(names)


def test_twins_are_those_of_the_models():
    torch.manual_seed(0)
    twin = made("hq_unet", replace={CORE: "twin"})
    assert isinstance(twin.get_submodule(CORE), SeparableFilter)
    base = made("hq_unet")
    count = lambda model: sum(part.numel() for part in model.parameters() if part.requires_grad)  # noqa: E731
    assert count(twin) == count(base)
    assert made("qcq_cnn", replace={CLASSIFIER: "twin"}).replaced == {
        CLASSIFIER: "LayeredClassifier of 6 weights"
    }
    # Another encoding has other inputs, and no twin of its own.
    other = build_model({**MODELS["hq_unet"], "encoding": "xy", "replace": {CORE: "twin"}})
    assert other.replaced == {CORE: "dense layer 8-8 of 8 weights with tanh"}


def test_one_layer_of_several():
    model = made("hq_unet_skips", replace={"skips.1.core": "zero"})
    assert list(quantum_layers(model)) == [CORE, "skips.3.core"]


def test_a_section_without_replacements_stays_what_it_was():
    section = MODELS["qcq_cnn"]
    assert "replace" not in resolve_model(section)
    assert resolve_model({**section, "replace": {}}) == resolve_model(section)


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        (
            {"head.classifier.circui": "zero"},
            "no quantum layer is named.*Did you mean `head.classifier.circuit`",
        ),
        ({CLASSIFIER: "zeros"}, "arm 'zeros' is unknown.*Did you mean `zero`"),
        ({CLASSIFIER: "classical_filter"}, "it is no fixed filter"),
        ({FILTER: "zero"}, "would leave nothing of the image"),
        ("zero", "must hold the arm of each layer"),
    ],
)
def test_what_is_not_possible_is_said(replace, message):
    with pytest.raises(ConfigError, match=message):
        made("qcq_cnn", replace=replace)


def test_a_circuit_without_angles_or_entanglement_is_not_frozen_or_disentangled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circuits").mkdir()
    (tmp_path / "circuits" / "plain.yaml").write_text(
        "file: plain.qasm\ninputs: [x_*]\nweights: []\nobservables: [Z0, Z1]\n"
    )
    (tmp_path / "circuits" / "plain.qasm").write_text(
        'OPENQASM 3.0;\ninclude "stdgates.inc";\ninput float x_0;\ninput float x_1;\nqubit[2] q;\n'
        "ry(x_0) q[0];\nry(x_1) q[1];\n"
    )
    section = {**MODELS["hybrid_cnn"], "head": {"circuit": "plain"}}
    with pytest.raises(ConfigError, match="no angles to freeze"):
        build_model({**section, "replace": {CLASSIFIER: "frozen"}})
    with pytest.raises(ConfigError, match="no gate on two or more qubits"):
        build_model({**section, "replace": {CLASSIFIER: "no_entanglement"}})


def test_engines_reach_what_is_left_of_the_circuits():
    engine = make_engine("exact", shots=100, seed=0)
    torch.manual_seed(0)
    model = build_model({**MODELS["qcq_cnn"], "replace": {CLASSIFIER: "no_entanglement"}}, engine)
    assert model.get_submodule(CLASSIFIER).engine is engine
    section = EngineConfig(shots=10, seed=0, layers=(CLASSIFIER,))
    zero = build_for_engine({**MODELS["qcq_cnn"], "replace": {CLASSIFIER: "zero"}}, section)
    assert not zero.quanvolution.filter.engine.describe().get("shots")
    left = build_for_engine({**MODELS["qcq_cnn"], "replace": {CLASSIFIER: "frozen"}}, section)
    assert left.get_submodule(CLASSIFIER).engine.describe()["shots"] == 10


def test_an_arm_of_a_plugin():
    def ones(place):
        count = place.spec.num_observables

        class Ones(nn.Module):
            def forward(self, values):
                return values.new_ones(*values.shape[:-1], count)

        return Replacement("ones", Ones())

    with ARMS.temporarily("ones", Arm("Ones", ones)):
        model = made("qcnn", replace={"head.circuit": "ones"})
        assert model.replaced == {"head.circuit": "ones"}
        assert torch.equal(model(images("qcnn")), torch.tensor([[1.0, -1.0]]).expand(3, 2))
    assert isinstance(made("qcnn").get_submodule("head.circuit"), QuantumLayer)
