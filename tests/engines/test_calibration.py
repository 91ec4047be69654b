"""Constants of the cost model: fitted, kept, believed only where they are credible."""

from __future__ import annotations

import json

import pytest
import torch

from qhybrid.circuits import build_circuit
from qhybrid.engines import make_engine
from qhybrid.engines.exact import calibrate as calibrate_module
from qhybrid.engines.exact import constants
from qhybrid.engines.exact.calibrate import Probe, calibrate, fitted
from qhybrid.engines.exact.constants import SHIPPED, calibration_file, constants_in_use
from qhybrid.engines.exact.execute import NetworkExecutor
from qhybrid.engines.exact.native.library import kernels
from qhybrid.engines.exact.plan import plan_circuit
from qhybrid.engines.exact.tape.function import TapedNetwork
from qhybrid.errors import EngineError

THREADS = torch.get_num_threads()


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path))
    constants_in_use.cache_clear()
    yield
    constants_in_use.cache_clear()


def probes_of(true):
    """Steps of many mixtures of work whose times are exactly those of some constants."""
    names = list(true)
    mixtures = [{a: 1.0 / true[a], b: 0.3 * (i + 1) / true[b]} for i, a in enumerate(names) for b in names]
    return tuple(
        Probe("p", tuple(one.items()), sum(true[name] * n for name, n in one.items())) for one in mixtures
    )


def test_the_fit_recovers_the_constants_of_exact_times():
    true = {name: value * (1.5 + place) for place, (name, value) in enumerate(SHIPPED.items())}
    assert fitted(probes_of(true)) == pytest.approx(true, rel=1e-6)


def test_constants_that_nothing_shows_are_scaled_like_the_others():
    found = fitted((Probe("p", (("network.entry", 1e6),), 1e6 * 3 * SHIPPED["network.entry"]),))
    assert found["network.entry"] == pytest.approx(3 * SHIPPED["network.entry"])
    assert all(0 < found[name] < 3 * SHIPPED[name] for name in SHIPPED if name != "network.entry")


def test_measured_constants_are_kept_and_change_predictions(monkeypatch):
    true = {name: 2 * value for name, value in SHIPPED.items()}
    monkeypatch.setattr(calibrate_module, "_probes", lambda: iter(probes_of(true)))
    spec = build_circuit("qufex_filter1", num_qubits=4)
    before = make_engine("exact").explain(spec, 8)
    found = calibrate()
    assert found.file == calibration_file(THREADS)
    assert constants_in_use(THREADS) == pytest.approx(true)
    assert constants_in_use(THREADS + 1) == SHIPPED
    after = make_engine("exact").explain(spec, 8)
    assert after.method == before.method
    assert after.seconds == pytest.approx(2 * before.seconds)
    assert after.seconds == pytest.approx(sum(true[name] * number for name, number in after.counts))


@pytest.mark.parametrize("content", ["", "[]", '{"seconds": 3}', '{"seconds": {"network.entry": "x"}}'])
def test_damaged_files_are_ignored(content):
    file = calibration_file(THREADS)
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert constants_in_use(THREADS) == SHIPPED


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 1.0])
def test_incredible_constants_are_ignored(value):
    file = calibration_file(THREADS)
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"seconds": {"network.entry": value, "statevector.step": 2e-4}}))
    assert constants_in_use(THREADS) == {**SHIPPED, "statevector.step": 2e-4}


def test_incredible_measurements_are_refused(monkeypatch):
    true = {**SHIPPED, "network.entry": 1e6 * SHIPPED["network.entry"]}
    monkeypatch.setattr(calibrate_module, "_probes", lambda: iter(probes_of(true)))
    with pytest.raises(EngineError, match=r"network.entry.*was measured as.*Fix"):
        calibrate()
    assert not calibration_file(THREADS).exists()


def test_probes_are_measured_steps(monkeypatch):
    """The real probes, with the fewest repeats, of one small circuit."""
    name, spec, batches = next(calibrate_module._circuits())
    monkeypatch.setattr(calibrate_module, "_circuits", lambda: iter([(name, spec, batches[:1])]))
    monkeypatch.setattr(calibrate_module, "PROBE_SECONDS", 0.0)
    found = list(calibrate_module._probes())
    compiled = set() if kernels().library is None else {"statevector (compiled)", "density"}
    ways = {probe.name.split(", ")[-2] for probe in found}
    assert ways == {"network", "statevector (torch)", *compiled}
    assert all(probe.seconds > 0 and {name for name, _ in probe.counts} <= set(SHIPPED) for probe in found)
    assert constants.seconds_of(found[0].counts) == pytest.approx(
        sum(SHIPPED[unit] * number for unit, number in found[0].counts)
    )


CIRCUITS = [
    ("qufex_filter1", {"num_qubits": 8}),
    ("qcnn", {}),
    ("hq_unet_qcnn", {"grid": 3, "reps": 2}),
]


@pytest.mark.parametrize(("name", "options"), CIRCUITS)
def test_predicted_memory_is_that_of_the_tape(name, options):
    """The tape's memory is known to the byte; the prediction is made before there is one."""
    spec = build_circuit(name, **options)
    plan = plan_circuit(spec)
    sizes = (spec.num_inputs, spec.num_weights, spec.num_observables)
    like = torch.empty(0, dtype=torch.float32)
    network = plan.network
    twin = NetworkExecutor(network.program, network.outputs, sizes, like)
    tape = TapedNetwork(network.program, network.outputs, sizes, like, twin)
    predicted = make_engine("exact", method="network").explain(spec, 256).memory_bytes
    assert 1 / 1.3 < predicted / tape.nbytes(256) < 1.3
