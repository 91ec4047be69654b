"""Each file of a plan that is lost or damaged: made again where that can be, else named with a remedy."""

from __future__ import annotations

import json
import shutil

import pytest
from plan_cases import map_workload, quick
from test_learning_jobs import WORKLOAD, kinds, learn_and_move, opened, plan_apart, run, settings
from test_remapping import end_of, worsen

from qhybrid.api.plan_folders import find_plan
from qhybrid.errors import HardwareError
from qhybrid.hardware.jobs.remapping import remap
from qhybrid.hardware.jobs.status import ledger_status
from qhybrid.hardware.ledger import LEDGER_FILE
from qhybrid.hardware.model.kept_files import FILES
from qhybrid.hardware.model.runs import load_workload
from qhybrid.hardware.model.workload import Samples
from qhybrid.hardware.plan.planning import make_plan

LAYERS = "noise_layers.json"
DAMAGES = {
    "lost": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "halved": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "garbage": lambda file: file.write_bytes(b"\x00\xff{garbage" * 20),
    "a list": lambda file: file.write_bytes(b"[1, 2]"),
}
DAMAGED = [*((one, False) for one in ("lost", "halved", "garbage")), *((one, True) for one in DAMAGES)]
"""Each damage, and whether the plan is one of an earlier version."""


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A plan that learns noise and measures read-out errors, so that it has files of all kinds."""
    mitigation = settings().mitigation.model_copy(update={"readout_shots": 10})
    given = settings(mitigation=mitigation, limits={"jobs_per_minute": 1e6})
    return plan_apart(given, tmp_path_factory.mktemp("kept"))


@pytest.fixture
def new_plan(server, tmp_path):
    return lambda: make_plan(WORKLOAD, settings(), tmp_path / "plans")


@pytest.fixture
def folder(planned, server, tmp_path):
    return shutil.copytree(planned, tmp_path / planned.name)


def without_hashes(folder):
    """Make a plan one of an earlier version, which does not say what its files were."""
    content = json.loads((folder / "plan.json").read_text())
    del content[FILES]
    (folder / "plan.json").write_text(json.dumps(content))


def test_a_plan_says_which_files_it_keeps(folder):
    kept = json.loads((folder / "plan.json").read_text())[FILES]
    there = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    changing = {"plan.json", LEDGER_FILE, "requests.sqlite", "lock"}
    assert set(kept) == {one for one in there if not one.startswith(LEDGER_FILE)} - changing
    assert {"calibration.yaml", "samples.safetensors", LAYERS} < set(kept)


@pytest.mark.parametrize(("damage", "old"), DAMAGED)
@pytest.mark.parametrize(
    "name", ["calibration.yaml", "circuits/*.json", "circuits/*.qpy", "circuits/readout*"]
)
def test_circuits_and_calibration(name, damage, old, folder, service_state):
    """Neither a traceback nor, as without its calibration, results without a correction or a word."""
    service_state.queue_seconds = 1e4
    with opened(folder) as execution:
        assert execution.submit() == 1
    if old:
        without_hashes(folder)
    file = sorted(folder.glob(name))[0]
    whole = file.read_bytes()
    DAMAGES[damage](file)
    ledger_status(folder)
    with (
        pytest.raises(HardwareError, match=r"(put the file back|copy the plan's folder again)"),
        opened(folder),
    ):
        pass
    said = []
    with opened(folder, to_cancel=True, say=said.append) as execution:
        assert execution.cancel() == 1
    assert said[0].startswith("jobs can be stopped, but results are not read")
    service_state.queue_seconds = 0.0
    file.write_bytes(whole)
    with opened(folder) as execution:
        execution.submit(again=True)
        assert execution.run() is not None
    assert kinds(service_state) == {"noise-learner": 1, "executor": 1}


@pytest.mark.parametrize(("damage", "old"), DAMAGED)
def test_layers_whose_noise_is_learned_are_found_again(damage, old, folder, service_state):
    if old:
        without_hashes(folder)
    whole = (folder / LAYERS).read_bytes()
    for step in range(3):
        DAMAGES[damage](folder / LAYERS)
        said = []
        with opened(folder, say=said.append) as execution:
            assert said[0].endswith("is made again from the plan's circuits and the device")
            assert (folder / LAYERS).read_bytes() == whole
            assert execution.submit() == (1 if step < 2 else 0)
            execution.collect()
    assert kinds(service_state) == {"noise-learner": 1, "executor": 1}


def test_layers_of_a_layout_are_found_again(new_plan, service_state):
    folder = new_plan()
    with opened(folder) as execution:
        learn_and_move(execution, service_state)
    (folder / "layouts" / "1" / LAYERS).write_text("")
    run(folder)
    assert kinds(service_state) == {"noise-learner": 2, "executor": 2}


def test_a_layout_that_is_lost_is_named(new_plan, service_state):
    folder = new_plan()
    with opened(folder) as execution:
        worsen(service_state, end_of(execution))
        remap(execution)
    shutil.rmtree(folder / "layouts")
    with pytest.raises(HardwareError, match=r"layouts/1/.* must be as the plan was made"), opened(folder):
        pass


def test_layers_are_not_guessed_from_a_device_that_has_changed(folder, service_state):
    """Other qubits are neighbours there."""
    service_state.devices["ibm_manila"] = "fake_quito"
    (folder / LAYERS).unlink()
    with pytest.raises(HardwareError, match=r"noise_layers.json must hold"), opened(folder):
        pass
    assert not (folder / LAYERS).exists()


def test_what_is_left_without_plan_json_is_no_reason_to_plan_again(folder):
    (folder / "plan.json").unlink()
    with pytest.raises(HardwareError, match=rf"the tag qhybrid-{folder.name} .* a new plan is paid for anew"):
        find_plan(folder)


def test_an_empty_ledger_is_made_again(folder):
    (folder / LEDGER_FILE).write_bytes(b"")
    with pytest.raises(HardwareError, match="collect PLAN` makes a ledger that is lost or damaged again"):
        ledger_status(folder)


def test_samples_and_weights_are_those_of_the_plan(server, tmp_path):
    """Neither other samples nor other weights take the place of what was paid for."""
    workload = map_workload(2)
    folder = make_plan(workload, quick(backend="ibm_manila", mode="job"), tmp_path)
    file = folder / "samples.safetensors"
    content = json.loads((folder / "plan.json").read_text())
    content["origin"] = {"run": str(tmp_path), "which": "best"}
    turned = Samples(workload.samples.images.flip(0), workload.samples.targets, workload.samples.names)
    turned.save(folder)
    with pytest.raises(HardwareError, match=r"samples.safetensors must be as the plan was made with it"):
        load_workload(content, folder)
    file.unlink()
    with pytest.raises(HardwareError, match=r"samples.safetensors .* is not there"):
        load_workload(content, folder)
