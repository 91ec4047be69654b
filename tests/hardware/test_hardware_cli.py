"""`qhybrid hardware` on a tiny run, every command."""

from __future__ import annotations

import json
import shutil

import pytest
import rasterio

from qhybrid.cli.main import execute
from qhybrid.config import Recipe, load_recipe, validated
from qhybrid.hardware.jobs.opening import locked
from qhybrid.hardware.model.runs import origin_of, workload_of_run
from qhybrid.training import train

QUICK = ["--set", "layouts=1", "--set", "copies=1"]


@pytest.fixture(scope="module")
def tiny_run(tiny_data, tiny_content, tmp_path_factory):
    import yaml

    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_content(epochs=1)))
    return train(load_recipe(folder / "tiny.yaml"), tiny_data, folder / "out")


def plan_of(tiny_run):
    return max((tiny_run / "hardware").glob("[!.]*/"), key=lambda path: path.stat().st_mtime_ns)


def test_plan_submit_status_collect(tiny_run, tiny_data, capsys):
    options = ["--backend", "fake_manila", "--limit", "3", "--shots", "200", "--data-root", str(tiny_data)]
    assert execute(["hardware", "plan", str(tiny_run), *options, *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "QPU time" in printed
    assert "hq_unet_qcnn" in printed
    plan = str(plan_of(tiny_run))
    assert execute(["hardware", "status", plan]) == 0
    assert "none sent" in capsys.readouterr().out
    assert execute(["hardware", "submit", plan]) == 0
    assert "1 job sent" in capsys.readouterr().out
    assert execute(["hardware", "collect", str(tiny_run)]) == 0
    assert "obtained" in capsys.readouterr().out
    content = json.loads((plan_of(tiny_run) / "results" / "metrics.json").read_text())
    assert content["samples"] == 3
    assert execute(["hardware", "cancel", plan]) == 0


def test_a_run_that_keeps_its_last_weights_has_one_origin(tiny_run, tiny_data, tiny_content, tmp_path):
    assert [origin_of(tiny_run, "test", 2, which)["which"] for which in ("best", "last")] == ["best", "last"]
    recipe = validated(Recipe, tiny_content(epochs=1, keep="last"), "a test")
    kept = train(recipe, tiny_data, tmp_path / "run")
    origins = [workload_of_run(kept, "test", 2, which, tiny_data).origin for which in ("best", "last")]
    assert origins[0] == origins[1]
    assert origins[0]["which"] == "last"


def test_run_does_it_all_and_goes_on_with_a_plan(tiny_run, tiny_data, capsys):
    options = ["--backend", "aer", "--limit", "2", "--shots", "100", "--data-root", str(tiny_data)]
    assert execute(["hardware", "run", str(tiny_run), *options, "--mitigation", "none"]) == 0
    assert "obtained" in capsys.readouterr().out
    assert execute(["hardware", "run", str(plan_of(tiny_run))]) == 0


def test_the_report_shows_what_came_of_it(tiny_run, tiny_data, tmp_path, capsys):
    options = ["--backend", "fake_manila", "--limit", "2", "--shots", "150", "--data-root", str(tiny_data)]
    assert execute(["hardware", "run", str(tiny_run), *options, *QUICK]) == 0
    done = plan_of(tiny_run)
    assert execute(["hardware", "plan", str(tiny_run), *options, *QUICK]) == 0
    assert execute(["report", str(tiny_run), "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "On quantum hardware" in page
    assert "There are no results yet." in page
    assert "Calibration of the qubits that were used" in page
    content = json.loads((done / "results" / "metrics.json").read_text())
    for value in (content["obtained"]["accuracy"], content["predicted"]["exact"]["accuracy"]):
        assert f"{100 * value:.2f} %" in page
    assert f"{content['observable_deviation_rms']:.4f}" in page
    created = json.loads((done / "plan.json").read_text())["created"]
    assert f'fake_manila, <span class="whole">{created[:10]} {created[11:16]}' in page
    assert ".whole { white-space: nowrap; }" in page
    (done / "results" / "deviations.csv").write_text("")
    assert execute(["report", str(tiny_run), "-o", str(tmp_path / "other.html")]) == 1
    assert "deviations.csv" in capsys.readouterr().err


def test_the_same_command_goes_on_with_a_plan_without_results(tiny_run, tiny_data, capsys):
    options = ["--backend", "aer", "--limit", "2", "--shots", "77", "--data-root", str(tiny_data)]
    assert execute(["hardware", "plan", str(tiny_run), *options]) == 0
    planned = plan_of(tiny_run)
    half = planned.parent / f".{planned.name}.x.part"
    half.mkdir()
    (half / "plan.json").write_text("a killed process was writing")
    assert execute(["hardware", "run", str(tiny_run), *options, "--mitigation", "none"]) == 0
    assert "makes a new plan" not in capsys.readouterr().out
    assert execute(["hardware", "run", str(tiny_run), *options]) == 0
    assert f"{planned.name} goes on" in capsys.readouterr().out
    assert (planned / "results" / "metrics.json").is_file()
    assert execute(["hardware", "run", str(tiny_run), *options]) == 0
    assert "makes a new plan" not in capsys.readouterr().out


def test_what_was_paid_for_is_not_bought_again(tiny_run, tiny_data, server, service_state, capsys):
    options = ["--backend", "ibm_manila", "--limit", "1", "--data-root", str(tiny_data), *QUICK]
    assert execute(["hardware", "run", str(tiny_run), *options]) == 0
    assert len(service_state.jobs) == 1
    assert execute(["hardware", "run", str(tiny_run), *options]) == 0
    printed = capsys.readouterr().out
    assert f"{plan_of(tiny_run).name} has results; `qhybrid hardware plan` makes a new plan" in printed
    assert printed.count("obtained") >= 4
    assert len(service_state.jobs) == 1
    # Another instance that pays is another plan: here one that this account does not have.
    other = ["--set", "instance=crn:v1:bluemix:public:quantum-computing:us-east:a/account:other::"]
    assert execute(["hardware", "run", str(tiny_run), *options, *other]) == 1
    assert "account:other" in capsys.readouterr().err


def test_the_same_command_twice_at_once_makes_one_plan(tiny_run, tiny_data, capsys):
    options = ["--backend", "aer", "--limit", "1", "--shots", "66", "--data-root", str(tiny_data)]
    (tiny_run / "hardware").mkdir(exist_ok=True)
    with locked(tiny_run / "hardware"):
        assert execute(["hardware", "run", str(tiny_run), *options]) == 1
    assert "Only one process" in capsys.readouterr().err


def test_results_in_the_ledger_need_no_account(tiny_run, tiny_data, server, service_state, capsys):
    options = ["--backend", "ibm_manila", "--limit", "1", "--shots", "99", "--data-root", str(tiny_data)]
    assert execute(["hardware", "run", str(tiny_run), *options, *QUICK]) == 0
    metrics = plan_of(tiny_run) / "results" / "metrics.json"
    before = json.loads(metrics.read_text())
    metrics.unlink()
    server.stop()
    capsys.readouterr()
    assert execute(["hardware", "collect", str(tiny_run)]) == 0
    assert "results are in the ledger" in capsys.readouterr().out
    assert json.loads(metrics.read_text())["obtained"] == before["obtained"]


def test_an_interrupt_says_what_goes_on(tiny_run, tiny_data, server, service_state, monkeypatch, capsys):
    options = ["--backend", "ibm_manila", "--limit", "1", "--shots", "98", "--data-root", str(tiny_data)]

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("qhybrid.hardware.jobs.execution.collect_jobs", interrupted)
        assert execute(["hardware", "run", str(tiny_run), *options, *QUICK]) == 130
    assert "go on and are billed: `qhybrid hardware cancel" in capsys.readouterr().out
    assert execute(["hardware", "run", str(tiny_run), *options, *QUICK]) == 0
    assert len(service_state.jobs) == 1


def test_a_chunk_without_a_result_makes_submit_fail(tiny_run, tiny_data, server, service_state, capsys):
    options = ["--backend", "ibm_manila", "--limit", "1", "--shots", "62", "--data-root", str(tiny_data)]
    assert execute(["hardware", "plan", str(tiny_run), *options, *QUICK]) == 0
    service_state.outcomes = ["cancelled"]
    assert execute(["hardware", "submit", str(tiny_run)]) == 0
    assert execute(["hardware", "collect", str(tiny_run)]) == 1
    capsys.readouterr()
    assert execute(["hardware", "submit", str(tiny_run)]) == 1
    printed = capsys.readouterr()
    assert "nothing to send" in printed.out
    assert "chunk 0 is `cancelled`" in printed.err
    assert execute(["hardware", "submit", str(tiny_run), "--again"]) == 0
    shutil.rmtree(plan_of(tiny_run))


def test_collect_says_what_comes_next(tiny_run, tiny_data, server, service_state, capsys):
    options = ["--backend", "ibm_manila", "--limit", "1", "--shots", "64", "--data-root", str(tiny_data)]
    assert execute(["hardware", "plan", str(tiny_run), *options, *QUICK]) == 0
    printed = capsys.readouterr().out
    assert "hq_unet_qcnn" in printed
    assert "--max-qpu-seconds must be at least 3" in printed
    assert execute(["hardware", "collect", str(tiny_run)]) == 0
    assert "1 job is to be sent: qhybrid hardware submit" in capsys.readouterr().out
    service_state.queue_seconds = 1000.0
    assert execute(["hardware", "submit", str(tiny_run)]) == 0
    printed = capsys.readouterr().out
    assert "predicted: bills are open" in printed
    assert execute(["hardware", "collect", str(tiny_run), "--no-wait"]) == 0
    assert "1 job has not ended: collect again later" in capsys.readouterr().out
    assert execute(["hardware", "cancel", str(tiny_run)]) == 0
    assert "1 job cancelled" in capsys.readouterr().out


def test_a_plan_keeps_its_settings(tiny_run, tiny_data, capsys):
    options = ["--backend", "aer", "--limit", "1", "--data-root", str(tiny_data)]
    assert execute(["hardware", "plan", str(tiny_run), *options]) == 0
    assert execute(["hardware", "run", str(plan_of(tiny_run)), "--max-qpu-seconds", "3"]) == 2
    assert "--max-qpu-seconds" in capsys.readouterr().err


def test_the_cap_is_an_option(tiny_run, tiny_data, capsys):
    options = ["--backend", "fake_manila", "--limit", "2", "--data-root", str(tiny_data), *QUICK]
    before = len(list((tiny_run / "hardware").iterdir())) if (tiny_run / "hardware").is_dir() else 0
    assert execute(["hardware", "plan", str(tiny_run), *options, "--max-qpu-seconds", "0.1"]) == 1
    assert "max_qpu_seconds" in capsys.readouterr().err
    after = len(list((tiny_run / "hardware").iterdir())) if (tiny_run / "hardware").is_dir() else 0
    assert before == after


def test_backends_are_ranked(tiny_run, tiny_data, capsys):
    options = ["--limit", "1", "--shots", "100", "--data-root", str(tiny_data), *QUICK]
    names = ["fake_manila", "fake_lima", "fake_armonk"]
    assert execute(["hardware", "backends", str(tiny_run), *names, *options]) == 0
    printed = capsys.readouterr().out
    assert "fake_lima" in printed
    assert "fake_armonk is not usable: Circuit `hq_unet_qcnn` must fit the target" in printed


@pytest.mark.parametrize(
    "words", [["--set", "nonsense=1"], ["--set", "shots=0"], ["--set", "copies=0"], ["--set", "copies=-2"]]
)
def test_wrong_settings_are_named(tiny_run, tiny_data, words, capsys):
    assert execute(["hardware", "plan", str(tiny_run), "--data-root", str(tiny_data), *words]) == 1
    assert words[1].split("=")[0] in capsys.readouterr().err


def test_wrong_mitigation_and_missing_plans(tiny_run, tmp_path, capsys):
    assert execute(["hardware", "plan", str(tiny_run), "--mitigation", "magic"]) == 2
    (tmp_path / "recipe.yaml").write_text("name: empty\n")
    assert execute(["hardware", "status", str(tmp_path)]) == 1
    assert "hardware plan" in capsys.readouterr().err


@pytest.fixture
def changing(tiny_run, tiny_data, tmp_path):
    """A copy of the run and of its data, and the options of a plan."""
    run, data = shutil.copytree(tiny_run, tmp_path / "run"), shutil.copytree(tiny_data, tmp_path / "data")
    shutil.rmtree(run / "hardware", ignore_errors=True)
    options = ["--backend", "aer", "--limit", "2", "--shots", "100", "--mitigation", "none"]
    return run, data, [*options, "--data-root", str(data)]


def exchange_labels(data):
    with rasterio.open(data / "tiny" / "test" / "masks" / "d.tif", "r+") as mask:
        mask.write(7 - mask.read())


def test_a_plan_sends_nothing_of_data_that_have_changed(changing, capsys):
    run, data, options = changing
    assert execute(["hardware", "plan", str(run), *options]) == 0
    plan = str(plan_of(run))
    exchange_labels(data)
    capsys.readouterr()
    for command in ("submit", "run"):
        assert execute(["hardware", command, plan]) == 1
        assert "split `test` in" in capsys.readouterr().err
    assert not (plan_of(run) / "jobs").exists()
    # What would be asked of the device is of the plan's own samples: these can be had on request.
    assert execute(["hardware", "submit", plan, "--changed-data"]) == 0
    assert execute(["hardware", "collect", plan]) == 0
    origin = json.loads((plan_of(run) / "plan.json").read_text())["origin"]["data"]
    content = json.loads((plan_of(run) / "results" / "metrics.json").read_text())
    assert (content["data_root"], content["data_hash"]) == (str(data), origin["hash"])
    # Where the data are gone the plan's samples are all there is.
    shutil.rmtree(data)
    assert execute(["hardware", "collect", plan]) == 0


@pytest.mark.parametrize("what", ["weights", "run", "data"])
def test_later_training_and_lost_folders_leave_paid_results_usable(what, changing, capsys):
    """After submit the run's weights change, or its folder or the data are gone: results are the same."""
    from safetensors.torch import load_file, save_file

    run, data, options = changing
    assert execute(["hardware", "plan", str(run), *options]) == 0
    plan = plan_of(run)
    shutil.copytree(plan, run.parent / "undisturbed")
    assert execute(["hardware", "submit", str(plan)]) == 0
    if what == "weights":
        for file in run.glob("*/weights.safetensors"):
            save_file({name: 1.1 * one for name, one in load_file(file).items()}, file)
    elif what == "run":
        shutil.move(plan, run.parent / "plan")
        plan = run.parent / "plan"
        shutil.rmtree(run)
    else:
        shutil.rmtree(data)
    assert execute(["hardware", "collect", str(plan)]) == 0
    found = load_file(plan / "results" / "outputs.safetensors")
    if what == "run":
        assert sorted(one.name for one in (plan / "model").iterdir()) == ["best", "recipe.yaml"]
    assert execute(["hardware", "run", str(run.parent / "undisturbed")]) == 0
    expected = load_file(run.parent / "undisturbed" / "results" / "outputs.safetensors")
    assert all(found[name].equal(expected[name]) for name in expected)


def test_cancelling_needs_neither_weights_nor_samples(tiny_run, tiny_data, server, service_state, capsys):
    options = ["--backend", "ibm_manila", "--limit", "1", "--shots", "63", "--data-root", str(tiny_data)]
    assert execute(["hardware", "plan", str(tiny_run), *options, *QUICK]) == 0
    plan = plan_of(tiny_run)
    service_state.queue_seconds = 1000.0
    assert execute(["hardware", "submit", str(plan)]) == 0
    shutil.rmtree(plan / "model")
    (plan / "samples.safetensors").unlink()
    assert execute(["hardware", "cancel", str(plan)]) == 0
    assert "1 job cancelled" in capsys.readouterr().out
    shutil.rmtree(plan)


def test_changed_data_get_a_new_plan(changing, capsys):
    run, data, options = changing
    assert execute(["hardware", "plan", str(run), *options]) == 0
    first = plan_of(run)
    assert execute(["hardware", "run", str(run), *options]) == 0
    assert plan_of(run) == first
    found = json.loads((first / "results" / "metrics.json").read_text())["obtained"]
    exchange_labels(data)
    assert execute(["hardware", "plan", str(run), *options]) == 0
    shutil.rmtree(plan_of(run))
    assert execute(["hardware", "run", str(run), *options]) == 0
    second = plan_of(run)
    assert second != first
    again = json.loads((second / "results" / "metrics.json").read_text())["obtained"]
    assert again["accuracy"] == pytest.approx(1 - found["accuracy"], abs=1e-6)
