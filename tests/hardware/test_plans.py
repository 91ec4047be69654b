"""Plans on fake devices, from the dry run to the result files."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from plan_cases import class_workload, map_workload, quick
from safetensors.torch import load_file

from qhybrid.circuits import CircuitSpec
from qhybrid.cli.hardware_tables import print_plan
from qhybrid.engines import make_engine
from qhybrid.errors import ConfigError, HardwareError
from qhybrid.hardware.circuits.checks import PARITY
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.jobs.status import ledger_status
from qhybrid.hardware.model.workload import Samples, Workload
from qhybrid.hardware.plan.planning import draft_plan, make_plan
from qhybrid.hardware.plan.ranking import rank_backends
from qhybrid.hardware.services.interface import QUEUED, View
from qhybrid.hardware.settings import HardwareSettings, mitigation_of
from qhybrid.layers import quantum_layers
from qhybrid.models import build_model, use_engine


def read_rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def map_plan(tmp_path_factory):
    workload = map_workload()
    return workload, make_plan(workload, quick(), tmp_path_factory.mktemp("plans"))


def test_plan_says_what_will_be_sent(map_plan):
    _, folder = map_plan
    content = json.loads((folder / "plan.json").read_text())
    (circuit,) = content["circuits"].values()
    (one,) = content["rounds"]
    assert content["layers"] == ["bottleneck.core"]
    assert circuit["bases"] == ["Z", "X"]
    assert circuit["parity"] < PARITY
    assert (one["points"], one["jobs"], one["pubs"]) == (4, 1, 2)
    assert one["executions"] == 4 * 2 * 400
    assert one["qpu_seconds"] == pytest.approx(2 + 3200 * (250e-6 + circuit["microseconds"] * 1e-6), abs=0.01)
    segmented = ["soft_iou", "soft_iou_per_image", "iou", "miou", "accuracy", "cross_entropy"]
    assert list(content["predicted"]["exact"]) == segmented
    assert circuit["layers"] == ["bottleneck.core"]
    assert content["fixed_filters"] is None
    assert (folder / "calibration.yaml").is_file()
    status = ledger_status(folder)
    assert (status["chunks"], status["jobs"]) == ({"open": 1}, {})


def test_run_writes_predictions_metrics_and_deviations(map_plan, tmp_path):
    workload, _ = map_plan
    folder = make_plan(workload, quick(shots=2000), tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        outputs = execution.run()
        found = write_outcome(execution, outputs)
    results = folder / "results"
    assert json.loads((results / "metrics.json").read_text()) == found
    tensors = load_file(results / "outputs.safetensors")
    assert torch.equal(tensors["outputs"], outputs)
    assert torch.allclose(
        tensors["exact_outputs"], workload.model(workload.samples.images).detach(), atol=1e-5
    )
    rows = read_rows(results / "deviations.csv")
    assert [row["observable"] for row in rows] == [f"{p}{q}" for p in "ZX" for q in range(4)]
    for row in rows:
        assert 0.2 / np.sqrt(2000) < float(row["rms_error"]) < 1.6 / np.sqrt(2000)
        assert abs(float(row["mean_deviation"])) < 0.15
    labelled = read_rows(results / "predictions.csv")
    right = sum(int(row["right_pixels"]) for row in labelled)
    assert right / (4 * 256) == pytest.approx(found["obtained"]["accuracy"], abs=1e-5)
    # A second process, later: the same outputs, nothing executed again.
    with open_plan(folder, lambda *_: workload) as execution:
        assert torch.equal(execution.run(), outputs)
        assert len(execution.ledger.jobs()) == 1


def test_everything_is_mapped_once(tmp_path, monkeypatch):
    mapped = []
    transpile = CircuitSpec.transpile

    def counted(spec, *arguments, **options):
        mapped.append(spec.name)
        return transpile(spec, *arguments, **options)

    monkeypatch.setattr(CircuitSpec, "transpile", counted)
    workload = map_workload(3)
    folder = make_plan(workload, quick(), tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        execution.run()
        (chunk,) = execution.ledger.chunks()
        (job,) = execution.ledger.jobs()
        package = execution.context.package(job, chunk)
    assert len(mapped) == 1
    assert [(pub.variant, len(pub.values)) for pub in package.pubs] == [(0, 3), (1, 3)]


def test_plan_repeats_itself(map_plan, tmp_path):
    workload, _ = map_plan
    outputs = []
    for number in range(2):
        folder = make_plan(workload, quick(), tmp_path / str(number))
        with open_plan(folder, lambda *_: workload) as execution:
            outputs.append(execution.run())
    assert torch.equal(*outputs)


def test_fixed_filter_stays_on_the_simulator_and_is_priced(tmp_path):
    workload = class_workload()
    folder = make_plan(workload, quick(), tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    assert len(content["layers"]) == len(content["rounds"]) == 1
    assert content["rounds"][0]["requests"] == 6
    price = content["fixed_filters"]
    assert price["rows"] == 6 * 16
    assert price["executions_on_device"] == 6 * 16 * 400
    names = tuple(quantum_layers(workload.model))
    on_device = draft_plan(workload, quick(layers=names)).content["rounds"][0]
    assert price["qpu_seconds_on_device"] == on_device["qpu_seconds"]
    assert price["executions_of_distinct_points"] == on_device["executions"]
    with open_plan(folder, lambda *_: workload) as execution:
        found = write_outcome(execution, execution.run())
    assert list(found["obtained"]) == ["accuracy", "cross_entropy"]
    rows = read_rows(folder / "results" / "predictions.csv")
    right = np.mean([row["class"] == row["truth"] for row in rows])
    assert right == pytest.approx(found["obtained"]["accuracy"], abs=1e-6)


def test_layers_that_draw_at_random_must_be_sent(tmp_path):
    """The angles behind them would be others whenever the plan is opened, also after it was paid."""
    workload = class_workload()
    use_engine(workload.model, make_engine("exact", shots=10), ["quanvolution.filter"])
    with pytest.raises(HardwareError, match=r"quanvolution\.filter draw\(s\) at random\. Fix: use_engine"):
        make_plan(workload, quick(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_errors_count_what_was_executed(tmp_path):
    """Equal parameter sets share one execution: it is not an independent estimate for each of them."""
    workload = class_workload(2)
    images = torch.zeros_like(workload.samples.images)
    images[1, :, :2, :2] = 0.5
    blank = Workload(workload.model, Samples(images, None, ("a", "b")))
    folder = make_plan(blank, quick(layers=("quanvolution.filter",), shots=1000), tmp_path)
    with open_plan(folder, lambda *_: blank) as execution:
        write_outcome(execution, execution.run())
        distinct = len(execution.ledger.points())
    rows = read_rows(folder / "results" / "deviations.csv")
    assert distinct == 2
    assert {int(row["values"]) for row in rows} == {distinct}
    for row in rows:
        assert float(row["mean_error"]) == pytest.approx(float(row["rms_error"]) / np.sqrt(distinct))


def test_layers_that_depend_on_each_other_take_two_rounds(tmp_path):
    workload = class_workload(2)
    names = tuple(quantum_layers(workload.model))
    folder = make_plan(workload, quick(layers=names, shots=4000), tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    assert [one["requests"] for one in content["rounds"]] == [2, 2]
    assert content["fixed_filters"] is None
    with open_plan(folder, lambda *_: workload) as execution:
        assert execution.submit() == 1
        assert execution.collect() is None
        assert len(execution.ledger.chunks()) == 2
        assert execution.context.later_seconds == 0.0
        outputs = execution.run()
        assert execution.status()["rounds"] == {"entered": 2, "planned": 2}
    assert outputs.shape == (2, 2)


def test_the_cap_covers_all_rounds(tmp_path):
    workload = class_workload(2)
    names = tuple(quantum_layers(workload.model))
    total = draft_plan(workload, quick(layers=names)).content["qpu_seconds"]
    with pytest.raises(HardwareError, match=r"in 2 round\(s\)"):
        make_plan(workload, quick(layers=names, max_qpu_seconds=total - 1), tmp_path)
    assert not list(tmp_path.iterdir())


def test_jobs_must_be_able_to_end(tmp_path):
    with pytest.raises(HardwareError, match="`max_execution_seconds` must let every job end"):
        make_plan(map_workload(1), quick(max_execution_seconds=2), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "size"), [("qu_net", 64), ("qccnn", 8), ("qcnn", 8), ("quanvo_mlp", 8), ("qcq_cnn", 8)]
)
def test_other_models_run_too(name, size, tmp_path):
    torch.manual_seed(0)
    content = {"name": name, "in_channels": 1, "num_classes": 2, "image_size": [size, size]}
    model = build_model(content).eval()
    images = torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(1))
    workload = Workload(model, Samples(images, None, ("a", "b")))
    layers = tuple(quantum_layers(model))
    settings = quick(backend="fake_torino", shots=50, copies="auto", layers=layers)
    folder = make_plan(workload, settings, tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        found = write_outcome(execution, execution.run())
        assert torch.isfinite(execution.run()).all()
    assert found["obtained"] == {}
    assert found["observable_deviation_rms"] < 0.5


def test_a_plan_needs_a_layer_for_the_device(tmp_path):
    with pytest.raises(ConfigError, match="quantum layers of the model"):
        make_plan(map_workload(1), quick(layers=("nowhere",)), tmp_path)
    with pytest.raises(ConfigError, match="fake backend"):
        make_plan(map_workload(1), quick(backend="fake_nowhere"), tmp_path)


def test_other_weights_are_found_out(map_plan, tmp_path):
    workload, _ = map_plan
    folder = make_plan(workload, quick(), tmp_path)
    other = map_workload()
    with torch.no_grad():
        quantum_layers(other.model)["bottleneck.core"].weight += 0.3
    with open_plan(folder, lambda *_: other) as execution:
        with pytest.raises(HardwareError, match="was recorded"):
            execution.submit()
        assert not execution.ledger.jobs()


def test_waiting_can_be_left_to_later(map_plan, tmp_path, monkeypatch):
    workload, _ = map_plan
    folder = make_plan(workload, quick(), tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        execution.submit()
        with monkeypatch.context() as patch:
            patch.setattr(execution.context.service, "view", lambda _job: View(QUEUED))
            assert execution.collect(wait=False) is None
            assert execution.status()["jobs"] == {"sent": 1}
        assert execution.collect() is not None


def test_both_simulators_of_a_fake_device_agree(tmp_path):
    workload = map_workload(3)
    outcomes = {}
    for simulator in ("exact", "aer"):
        folder = make_plan(workload, quick(shots=3000, simulator=simulator), tmp_path / simulator)
        with open_plan(folder, lambda *_: workload) as execution:
            execution.run()
            log = execution.request_log()
            outcomes[simulator] = np.concatenate([log.results[key] for key in sorted(log.results)])
    difference = outcomes["exact"] - outcomes["aer"]
    assert np.abs(difference).max() < 6 * np.sqrt(2 / 3000)
    assert np.sqrt((difference**2).mean()) == pytest.approx(np.sqrt(2 / 3000), rel=0.6)


def test_backends_are_ranked(tmp_path):
    seen = []
    found = rank_backends(map_workload(1), quick(), ["fake_manila", "fake_nowhere"], seen.append)
    assert [one.backend for one in found] == ["fake_manila", "fake_nowhere"]
    assert [one.backend for one in seen] == ["fake_manila", "fake_nowhere"]
    assert found[0].two_qubit_gates > 0
    assert "fake backend" in found[1].problem


def test_folders_without_a_plan_are_refused(tmp_path):
    with pytest.raises(HardwareError, match="folder of a plan"):
        ledger_status(tmp_path)
    (tmp_path / "plan.json").write_text('{"format": 99}')
    with pytest.raises(HardwareError, match="format 1"):
        ledger_status(tmp_path)


def test_damaged_parts_of_a_plan_are_named(map_plan, tmp_path):
    workload, _ = map_plan
    folder = make_plan(workload, quick(), tmp_path)
    (circuit,) = folder.glob("circuits/*.qpy")
    circuit.write_bytes(circuit.read_bytes()[:40])
    with pytest.raises(HardwareError, match=circuit.stem), open_plan(folder, lambda *_: workload):
        pass
    (folder / "samples.safetensors").write_bytes(b"short")
    with pytest.raises(HardwareError, match=r"samples\.safetensors"):
        Samples.load(folder, (), ())


@pytest.mark.parametrize("backend", ["", " ", "ibm manila"])
def test_a_device_has_a_name(backend):
    """The client would take any device for an empty name, and the account would pay for it."""
    with pytest.raises(ValueError, match="backend"):
        HardwareSettings(backend=backend)


def test_cancellation_of_errors_is_refused_by_name():
    for name in ("pec", "PEC"):
        with pytest.raises(HardwareError, match=r"exp\(4 L\) times.* Fix: choose one of .*pea"):
            mitigation_of(name)


def test_experts_that_no_sample_has_are_named_and_alone_are_no_plan(tmp_path, capsys):
    names = [{"name": f"hqf_{kind}", "arguments": {"grid": 2}} for kind in ("local", "global")]
    section = {"circuit": names, "interface": "experts", "top_k": 1}
    content = {"in_channels": 2, "num_classes": 2, "patch_size": 16, "widths": [2, 2, 2, 2, 4]}
    model = build_model({"name": "unet", **content, "bottleneck": section}).eval()
    with torch.no_grad():
        model.bottleneck.router.linear.bias[0] = 1e3
    workload = Workload(model, Samples(torch.rand(1, 2, 16, 16), None, ("a",)))
    folder = make_plan(workload, quick(shots=100), tmp_path)
    print_plan(folder)
    assert "idle        bottleneck.core.hqf_global: a router" in capsys.readouterr().out
    with pytest.raises(HardwareError, match="no sample passes through bottleneck.core.hqf_global"):
        make_plan(workload, quick(shots=100, layers=("bottleneck.core.hqf_global",)), tmp_path)
