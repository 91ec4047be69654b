"""Two processes that train together take the steps of one with the doubled batch, and outlive a killed "
"one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from two_processes import batch, gradients, network, normalised

from qhybrid.config import Recipe, validated
from qhybrid.errors import ConfigError
from qhybrid.layers import quantum_layers
from qhybrid.training import load_run, train
from qhybrid.training.ranks import Place, check_alone, check_restarts, joined, launched
from qhybrid.training.run_folder import load_weights

SCRIPT = Path(__file__).with_name("two_processes.py")
PATIENCE = 600
CURVES = [
    "epoch",
    "step",
    "train_loss",
    "train_miou",
    "val_loss",
    "val_miou",
    "val_accuracy",
    "learning_rate",
]
ALONE = Place()


@pytest.fixture(scope="module")
def content(tiny_content):
    found = tiny_content()
    found["data"]["patches_per_epoch"] = 25  # the last one is left out, by one process as by two
    return found


@pytest.fixture(scope="module")
def two(tiny_data, tmp_path_factory, content):
    """What two processes leave, one of which is killed in its last training and started again."""
    out = tmp_path_factory.mktemp("two")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    done = subprocess.run(
        [sys.executable, *launch, str(SCRIPT), yaml.safe_dump(content), str(tiny_data), str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads((out / f"{rank}.json").read_text()) for rank in range(2)]
    tensors = [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(2)]
    return SimpleNamespace(out=out, said=done.stderr, told=told, tensors=tensors)


@pytest.fixture(scope="module")
def one(tiny_data, tmp_path_factory, content):
    """The same training by one process with the doubled batch."""
    doubled = {**content, "training": {**content["training"], "batch_size": 8}}
    return train(validated(Recipe, doubled, "tiny.yaml"), tiny_data, tmp_path_factory.mktemp("one") / "run")


def files_of(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_the_loss_curve_is_that_of_one_process_with_the_doubled_batch(one, two):
    """With augmentation, batch norm over both processes, and labels that are ignored."""
    tables = [pd.read_csv(folder / "metrics.csv") for folder in (one, two.out / "whole")]
    assert len(tables[0]) == 2
    pd.testing.assert_frame_equal(tables[0][CURVES], tables[1][CURVES], rtol=1e-5)
    norms = [name for name in tables[0] if name.startswith("gradient_")]
    assert len(norms) == 2
    pd.testing.assert_frame_equal(tables[0][norms], tables[1][norms], rtol=1e-3)
    expected, found = (load_file(folder / "last/weights.safetensors") for folder in (one, two.out / "whole"))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=name)


def test_validation_counts_every_pixel_once(one, two):
    """Nine windows do not go round two processes: equal accuracies to the last digit are equal counts."""
    tables = [pd.read_csv(folder / "metrics.csv") for folder in (one, two.out / "whole")]
    for name in ("val_accuracy", "val_miou"):
        assert tables[0][name].tolist() == tables[1][name].tolist()
    assert [told["windows"] for told in two.told] == [5, 5]


def test_patches_are_shared_out_without_duplicates(two):
    indices = [[tuple(pair) for pair in told["indices"]] for told in two.told]
    assert [len(own) for own in indices] == [12, 12]
    assert sorted(indices[0] + indices[1]) == [(3, index) for index in range(24)]


def test_gradients_are_those_of_the_whole_batch(two):
    """Those of the circuits' weights too, to 1e-5 of their size."""
    expected = gradients(slice(None), ALONE)
    circuits = {f"{name}.weight" for name in quantum_layers(network())}
    assert circuits
    for tensors in two.tensors:
        found = tensors["gradients"]
        assert found.keys() == expected.keys()
        assert circuits <= found.keys()
        for name, value in expected.items():
            scale = float(value.abs().max())
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5 * scale, msg=name)
            assert scale > 0


def test_halves_alone_would_have_other_gradients():
    """The average of two losses is not the loss of both halves: what the sums over processes are for."""
    whole = gradients(slice(None), ALONE)
    halves = [gradients(slice(rank, None, 2), ALONE) for rank in range(2)]
    mean = {name: (halves[0][name] + halves[1][name]) / 2 for name in whole}
    assert any(not torch.allclose(mean[name], whole[name], rtol=1e-2, atol=0) for name in whole)


def test_batch_norm_sees_both_processes(two):
    expected = normalised(slice(None))
    for rank, tensors in enumerate(two.tensors):
        found, rows = tensors["norm"], slice(rank, None, 2)
        for name in ("output", "evaluated"):
            torch.testing.assert_close(found[name], expected[name][rows], msg=name)
        # Each has twice the gradient of its rows, which DDP's average takes back; see `ranks`.
        torch.testing.assert_close(found["images"] / 2, expected["images"][rows], rtol=1e-4, atol=1e-5)
        for name in ("mean", "var"):
            torch.testing.assert_close(found[name], expected[name], msg=name)
    for name in ("weight", "bias"):
        average = (two.tensors[0]["norm"][name] + two.tensors[1]["norm"][name]) / 2
        torch.testing.assert_close(average, expected[name], rtol=1e-4, atol=1e-5)


def test_one_process_writes(one, two):
    """As one alone does; the table has a row an epoch, and says how many took the steps."""
    assert files_of(two.out / "whole") == files_of(one)
    assert json.loads((two.out / "whole/environment.json").read_text())["processes"] == 2
    assert "processes" not in json.loads((one / "environment.json").read_text())
    assert load_run(two.out / "whole", "last").meta.epoch == 2


def test_weights_of_two_processes_are_those_of_a_plain_network(two):
    run = load_run(two.out / "whole", "last")
    assert not any("Summed" in type(part).__name__ for part in run.model.modules())
    load_weights(run.model, two.out / "whole/last/weights.safetensors")


def test_a_killed_process_ends_the_run_with_a_clear_error(two):
    """It is told by the lost connection, or by torchrun, whichever is faster."""
    said = " ".join(two.said.split())
    lost = "error: Process 0 of 2: all processes of a training must take every step, but another one"
    told = "error: Process 0 of 2 was told to end (SIGTERM)"
    assert lost in said or told in said, said
    assert "Complete epochs are kept" in said
    assert f"-m qhybrid.cli train --resume {two.out / 'cut'}" in said
    assert "Traceback" not in said


def test_restarted_processes_go_on_from_the_last_complete_epoch(two):
    whole, cut = (two.out / name for name in ("whole", "cut"))
    expected, found = (load_file(folder / "last/weights.safetensors") for folder in (whole, cut))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    tables = [pd.read_csv(folder / "metrics.csv")[CURVES] for folder in (whole, cut)]
    pd.testing.assert_frame_equal(*tables)
    assert files_of(cut) == files_of(whole)


def test_processes_tell_each_other(two):
    assert [told["place"] for told in two.told] == [[0, 2, 1], [1, 2, 1]]
    assert [told["gathered"] for told in two.told] == [[0, 1, 10, 11]] * 2
    assert [told["from first"] for told in two.told] == ["of 0"] * 2
    assert [told["error"] for told in two.told] == ["DataError: the first process has found a mistake"] * 2


def test_all_processes_have_the_run_folder_of_the_first(two):
    folders = {told["folder"] for told in two.told}
    assert len(folders) == 1
    folder = two.out / folders.pop()
    assert list(folder.parent.iterdir()) == [folder]
    assert [file.name for file in folder.iterdir()] == ["kept"]


def test_mistakes_are_told_before_time_is_spent(two):
    for told in two.told:
        assert (
            "Whole images (classification) are trained by one process, but this is one of 2" in told["images"]
        )
        assert "`data.patches_per_epoch` must be at least 8" in told["few"]
        assert "give --output" in told["restarts"]
    assert not (two.out / "digits").exists()
    assert not (two.out / "few").exists()


def test_processes_with_other_circuits_are_refused(two):
    """On machines without a common file system a name may be that of another circuit."""
    for told in two.told:
        assert "must have the same circuits of model, but process 1 has others" in told["alike"]
        assert told["the same"] == "no error"


def test_what_decides_the_steps_of_a_process_is_compared(two, tiny_data, content, monkeypatch):
    from qhybrid.training import training_run

    compared = []
    monkeypatch.setattr(training_run, "place", lambda: Place(0, 2))
    monkeypatch.setattr(training_run, "check_alike", compared.append)
    monkeypatch.setattr(training_run, "_begin", lambda *_: sys.exit("enough"))
    with pytest.raises(SystemExit, match="enough"):
        train(validated(Recipe, content, "tiny.yaml"), tiny_data, two.out / "compared")
    (found,) = compared
    assert found.keys() == {"versions", "recipe", "model", "data"}
    assert "pixels" in found["data"]
    assert "hq_unet" in found["model"]
    assert "progress" not in found["recipe"]


def test_a_run_is_resumed_by_as_many_processes(two, tiny_data, content):
    before = (two.out / "cut/environment.json").read_bytes()
    with pytest.raises(ConfigError, match=r"begun by 2 process\(es\).*by 1: .*Fix: start as many"):
        train(validated(Recipe, content, "tiny.yaml"), tiny_data, two.out / "cut", resume=True)
    assert (two.out / "cut/environment.json").read_bytes() == before


def test_the_place_is_what_torchrun_says(monkeypatch):
    assert launched() == Place()
    monkeypatch.setenv("WORLD_SIZE", "4")  # of some other launcher
    assert launched() == Place()
    told = {
        "TORCHELASTIC_RUN_ID": "none", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_MAX_RESTARTS": "2",
    }  # fmt: skip
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    found = launched()
    assert found == Place(3, 4, 1, 2, may_restart=True)
    assert (found.machines, found.first) == (2, False)
    check_restarts(found, "folder")
    with pytest.raises(ConfigError, match="needs a run folder of a known name"):
        check_restarts(found, None)
    with pytest.raises(
        ConfigError, match=r"A search must be called in one process, but torchrun has started 4"
    ):
        check_alone("A search")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match="as many processes, but this one has 3 of 4"):
        launched()


def test_tasks_of_srun_that_train_alone_are_warned_of(monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for tasks in (None, "1"):
            if tasks:
                monkeypatch.setenv("SLURM_STEP_NUM_TASKS", tasks)
            with joined() as own:
                assert own == ALONE
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    with pytest.warns(UserWarning, match="srun has started 8 tasks, and each of them trains by itself"):
        joined().__enter__()


def test_the_batch_of_these_tests_is_uneven():
    labels = batch()[1]
    counted = [(labels[rank::2] != 255).sum() for rank in range(2)]
    assert counted[0] > 1.5 * counted[1]
    assert (labels[0::2] == 2).any()
    assert not (labels[1::2] == 2).any()
