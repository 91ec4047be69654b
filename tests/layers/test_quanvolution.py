"""Quanvolution against a loop over patches, and the cache of its features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from counting_engine import CountingEngine
from qiskit.quantum_info import Statevector

from qhybrid.circuits import build_circuit
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.engines.mapped import DeviceMapping, MappedEngine
from qhybrid.engines.mitigation.readout import ReadoutCorrection
from qhybrid.errors import ConfigError
from qhybrid.layers import Quanvolution, cached_features
from qhybrid.layers.feature_cache import draws, feature_key
from qhybrid.noise import NoiseProfile

SPEC = build_circuit("qcq_filter")


@pytest.fixture
def images():
    return torch.rand(5, 1, 6, 4, generator=torch.Generator().manual_seed(0))


class TestLayer:
    @pytest.mark.parametrize(("stride", "size"), [(2, (4, 6)), (2, (5, 7)), (1, (3, 4)), (3, (5, 5))])
    def test_equals_a_loop_over_patches(self, stride, size):
        images = torch.rand(2, 2, *size, dtype=torch.float64)
        found = Quanvolution(SPEC, stride=stride)(images).numpy()
        tops = range(0, size[0] - 1, stride)
        lefts = range(0, size[1] - 1, stride)
        assert found.shape == (2, 8, len(tops), len(lefts))
        for b in range(2):
            for channel in range(2):
                for r, top in enumerate(tops):
                    for c, left in enumerate(lefts):
                        pixels = images[b, channel, top : top + 2, left : left + 2].flatten().numpy()
                        bound = SPEC.circuit.assign_parameters(dict(zip(SPEC.input_params, pixels)))
                        state = Statevector(bound)
                        expected = [state.expectation_value(o).real for o in SPEC.observables]
                        block = found[b, 4 * channel : 4 * channel + 4, r, c]
                        np.testing.assert_allclose(block, expected, atol=1e-10)

    def test_one_engine_call(self, images):
        engine = CountingEngine()
        Quanvolution(SPEC, engine)(images)
        assert engine.batches == [5 * 6]

    def test_is_not_trained(self, images):
        layer = Quanvolution(SPEC)
        assert not [p for p in layer.parameters() if p.requires_grad]
        assert not layer(images).requires_grad
        trained_elsewhere = Quanvolution(build_circuit("qufex_filter1", num_qubits=4))
        assert not trained_elsewhere.filter.weight.requires_grad
        assert trained_elsewhere(images).shape == (5, 4, 3, 2)

    @pytest.mark.parametrize("sizes", [{"stride": 0}, {"patch": (0, 2)}, {"patch": (4, -1)}])
    def test_sizes_below_one(self, sizes):
        with pytest.raises(ConfigError, match="at least 1 pixel"):
            Quanvolution(SPEC, **sizes)

    def test_empty_batch(self):
        assert Quanvolution(SPEC)(torch.zeros(0, 1, 4, 4)).shape == (0, 4, 2, 2)

    def test_errors(self):
        with pytest.raises(ConfigError, match=r"one input a pixel of the 2 x 3 patch, but has 4"):
            Quanvolution(SPEC, patch=(2, 3))
        with pytest.raises(ConfigError, match=r"hold a patch of 2 x 2 pixels, but are 1 x 4"):
            Quanvolution(SPEC)(torch.zeros(1, 1, 1, 4))


class TestCache:
    def test_computes_once(self, images, tmp_path):
        engine = CountingEngine()
        layer = Quanvolution(SPEC, engine)
        first = cached_features(layer, images, tmp_path)
        assert torch.equal(first, layer(images))
        calls = len(engine.batches)
        assert torch.equal(cached_features(layer, images, tmp_path), first)
        assert torch.equal(cached_features(Quanvolution(SPEC, CountingEngine()), images, tmp_path), first)
        assert len(engine.batches) == calls
        assert len(list(tmp_path.iterdir())) == 1

    def test_blocks_of_images_give_the_same(self, images, tmp_path):
        engine = CountingEngine()
        found = cached_features(Quanvolution(SPEC, engine), images, tmp_path, images_a_call=2)
        assert engine.batches == [12, 12, 6]
        torch.testing.assert_close(found, Quanvolution(SPEC)(images))

    def test_default_folder_is_the_cache(self, images):
        from qhybrid.workspace import cache_dir

        layer = Quanvolution(SPEC)
        cached_features(layer, images)
        assert (cache_dir() / "features" / f"{feature_key(layer, images)}.safetensors").is_file()

    def test_noisy_never_reads_noiseless(self, images, tmp_path):
        noise = NoiseProfile.depolarizing(p_1q=0.05, p_2q=0.1)
        clean = cached_features(Quanvolution(SPEC), images, tmp_path)
        noisy = cached_features(Quanvolution(SPEC, make_engine("exact", noise=noise)), images, tmp_path)
        assert (clean - noisy).abs().max() > 0.02
        torch.testing.assert_close(noisy, Quanvolution(SPEC, make_engine("exact", noise=noise))(images))
        shots = make_engine("exact", noise=noise, shots=64, seed=1)
        sampled = cached_features(Quanvolution(SPEC, shots), images, tmp_path)
        assert (sampled - noisy).abs().max() > 0.01
        # The same layer moved to another engine.
        layer = Quanvolution(SPEC)
        layer.filter.engine = make_engine("exact", noise=noise)
        assert torch.equal(cached_features(layer, images, tmp_path), noisy)

    def test_key_covers_everything_that_changes_the_features(self, images):
        half = NoiseProfile.depolarizing(p_1q=0.01)
        changed = images.clone()
        changed[0, 0, 0, 0] += 1e-6
        keys = [
            feature_key(Quanvolution(SPEC), images),
            feature_key(Quanvolution(SPEC), changed),
            feature_key(Quanvolution(SPEC), images.double()),
            feature_key(Quanvolution(SPEC), images.reshape(5, 1, 4, 6)),
            feature_key(Quanvolution(SPEC, stride=1), images),
            feature_key(Quanvolution(build_circuit("qcq_filter", seed=1)), images),
            feature_key(Quanvolution(SPEC, make_engine("aer")), images),
            feature_key(Quanvolution(SPEC, make_engine("exact", noise=half)), images),
            feature_key(Quanvolution(SPEC, make_engine("exact", noise=half.scale(2))), images),
            feature_key(Quanvolution(SPEC, make_engine("exact", shots=10, seed=0)), images),
            feature_key(Quanvolution(SPEC, make_engine("exact", shots=11, seed=0)), images),
            feature_key(Quanvolution(SPEC, make_engine("exact", shots=10, seed=1)), images),
        ]
        assert len(set(keys)) == len(keys)
        weighted = Quanvolution(build_circuit("qufex_filter1", num_qubits=4))
        before = feature_key(weighted, images)
        with torch.no_grad():
            weighted.filter.weight += 0.1
        assert feature_key(weighted, images) != before

    def test_key_covers_the_route_on_a_device(self, images):
        device = load_device("fake_torino")

        def features(trials, cost=None):
            mapping = DeviceMapping(device, 0, trials, cost)
            engine = MappedEngine(lambda noise: make_engine("exact", noise=noise), mapping, profile)
            return feature_key(Quanvolution(spec, engine), images), mapping.route(spec)

        def longest(spec):
            return -spec.circuit.depth()

        profile = NoiseProfile.from_backend(device)
        spec = build_circuit("qcq_filter", filter="random_layers", layers=6)
        found = [features(1), features(8), features(8, longest)]
        routes = {(route.spec.fingerprint, route.qubits) for _, route in found}
        assert len({key for key, _ in found}) == len(routes) > 1
        assert features(1)[0] == found[0][0]

    def test_key_covers_the_profile_of_a_correction(self, images):
        noise = NoiseProfile(readout_p01=0.1)
        keys = {
            feature_key(
                Quanvolution(SPEC, ReadoutCorrection(make_engine("exact", noise=noise), profile)), images
            )
            for profile in (noise, NoiseProfile(readout_p01=0.2))
        }
        assert len(keys) == 2

    def test_types_that_numpy_does_not_have(self, images, tmp_path):
        half = images.bfloat16()
        first = cached_features(Quanvolution(SPEC), half, tmp_path)
        engine = CountingEngine()
        assert torch.equal(cached_features(Quanvolution(SPEC, engine), half, tmp_path), first)
        assert engine.batches == []
        assert feature_key(Quanvolution(SPEC), half) != feature_key(Quanvolution(SPEC), images)

    @pytest.mark.parametrize("seed", [None, 1])
    def test_shots_are_never_stored(self, images, tmp_path, seed):
        layer = Quanvolution(SPEC, make_engine("exact", shots=8, seed=seed))
        first = cached_features(layer, images, tmp_path)
        assert not torch.equal(cached_features(layer, images, tmp_path), first)
        assert not list(tmp_path.iterdir())

    def test_seeded_shots_do_not_depend_on_what_is_stored(self, images, tmp_path):
        def second(folder):
            layer = Quanvolution(SPEC, make_engine("exact", shots=8, seed=1))
            cached_features(layer, images, folder)
            return cached_features(layer, images.flip(0), folder)

        assert torch.equal(second(tmp_path), second(tmp_path))

    @pytest.mark.parametrize(
        ("description", "random"),
        [
            ({}, False),
            ({"shots": None, "seed": None}, False),
            ({"shots": 5, "seed": 0}, True),
            ({"trajectories": 5, "seed": None}, True),
        ],
    )
    def test_draws(self, description, random):
        assert draws(description) is random

    @pytest.mark.parametrize(
        "damage", ["truncated", "empty", "other tensor", "other shape", "a flipped bit", "no checksum"]
    )
    def test_damaged_files_are_replaced(self, images, tmp_path, damage):
        from safetensors.torch import save_file

        layer = Quanvolution(SPEC)
        good = cached_features(layer, images, tmp_path).contiguous()
        (file,) = tmp_path.iterdir()
        content = file.read_bytes()
        if damage == "other tensor":
            save_file({"other": good}, file)
        elif damage == "other shape":
            save_file({"features": good[:1].contiguous()}, file)
        elif damage == "a flipped bit":
            file.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
        elif damage == "no checksum":
            save_file({"features": good + 1}, file)
        else:
            file.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
        assert torch.equal(cached_features(layer, images, tmp_path), good)
        assert file.read_bytes() == content

    def test_a_folder_that_cannot_be_written_is_no_error(self, images, tmp_path):
        (tmp_path / "file").write_text("in the way")
        found = cached_features(Quanvolution(SPEC), images, tmp_path / "file")
        assert torch.equal(found, Quanvolution(SPEC)(images))

    def test_no_images(self, tmp_path):
        assert cached_features(Quanvolution(SPEC), torch.zeros(0, 1, 4, 4), tmp_path).shape == (0, 4, 2, 2)
