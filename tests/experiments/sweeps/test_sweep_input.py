"""What a sweep refuses, and what it says then."""

from __future__ import annotations

import shutil

import pytest

from qhybrid.config.sweeps import load_sweep
from qhybrid.errors import CheckpointError, ConfigError, DataError, WorkspaceError
from qhybrid.experiments.sweeps import read_results, run_sweep
from qhybrid.experiments.sweeps.profiles import SweepProfiles
from qhybrid.noise import NoiseProfile

CLASSIFIER = "head.classifier.circuit"


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"profiles": ["depolarizing_0.01_0.03"]}, "Did you mean depolarizing_0.01_0.02"),
        ({"scales": [-1]}, r"scales.0.*greater than or equal to 0"),
        ({"shots": [0]}, r"^[^\n]*shots\.0`: [^\n]* or equal to 1; or: [^\n]*'infinite' \(given: 0\)\.$"),
        ({"shots": [-5]}, "shots"),
        ({"shots": []}, r"shots`: Tuple should have at least 1 item"),
        ({"shots": ["many"]}, "infinite"),
        ({"layers": ["first"]}, r"^[^\n]*layers\.0`: [^\n]*'all'; or: [^\n]*tuple \(given: 'first'\)\.$"),
        ({"seeds": [1, 1]}, "must differ"),
        ({"engines": ["guess"]}, "aer_density_matrix"),
        ({"mitigations": ["hope"]}, "readout_zne"),
        ({"mappings": ["fake_nowhere"], "profiles": ["readout"]}, "auto, all_to_all or a fake device"),
        ({"layers": [["nothing"]]}, f"no quantum layer is named nothing.*{CLASSIFIER}"),
        (
            {"profiles": ["fake_torino"], "mappings": ["all_to_all"]},
            "fake_torino.*all_to_all.*mappings: .auto.",
        ),
        ({"profiles": ["fake_torino"], "mappings": ["fake_fez"]}, "fake_torino.*fake_fez.*does not fit"),
        ({"profile": ["ideal"]}, "Did you mean `profiles`"),
    ],
)
def test_bad_grids(grid, message, make_image_run, sweep_of, mnist_root, tmp_path):
    with pytest.raises(ConfigError, match=message):
        run_sweep(sweep_of([make_image_run()], grid, samples=2), mnist_root, tmp_path / "out", processes=1)
    assert not list((tmp_path / "out").glob("cells/*"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p_1q: 1.5", "p_1q.*less than or equal to 1.33"),
        ("readout_p01: -0.1", "readout_p01.*greater than or equal to 0"),
        ("gates: {cnot: {p: 0.1}}", r"`qcq_classifier`.* lists gate `cnot`.*Did you mean `cx`\?"),
        ("gates: {ryy 0 1: {p: 0.1}, rxy: {p: 0.1}}", r"lists gate `rxy`.*Did you mean `r"),
        ("gates: {cx: {p: 1.2}}", r"`mine`.*`qcq_classifier`.*must lie in \[0, 1.06667\], but is 1.2"),
        ("qubits: {7: {p_1q: 0.1}}", "uses qubits 0, 1, but has values for qubits 7 alone"),
    ],
)
def test_bad_profiles(text, message, make_image_run, sweep_of, mnist_root, tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text(text)
    grid = {"profiles": [str(profile)], "layers": [[CLASSIFIER]]}
    with pytest.raises(ConfigError, match=message):
        run_sweep(sweep_of([make_image_run()], grid), mnist_root, tmp_path / "out", processes=1)


def test_a_device_profile_of_any_name_is_routed_to_its_device(make_image_run, sweep_of, mnist_root, tmp_path):
    device = NoiseProfile.from_backend("fake_manila")
    files = [tmp_path / "mine.yaml", tmp_path / "twice.yaml"]
    device.model_copy(update={"name": "mine"}).save(files[0])
    device.scale(2).save(files[1])
    grid = {"profiles": [str(file) for file in files], "layers": [[CLASSIFIER]]}
    outcome = run_sweep(
        sweep_of([make_image_run()], grid, samples=2), mnist_root, tmp_path / "out", processes=1
    )
    assert outcome.failures == []
    assert set(read_results(outcome.folder)["mapping"]) == {"fake_manila"}
    # Profiles from before there was a key `device` carry it as their name.
    old = tmp_path / "old.yaml"
    device.model_copy(update={"device": ""}).save(old)
    assert SweepProfiles().mapping(str(old), "auto") == "fake_manila"


def test_scaled_out_of_range(make_image_run, sweep_of, mnist_root, tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text("p_1q: 0.4")
    grid = {"profiles": [str(profile)], "scales": [1, 100]}
    # Rates saturate at the physical range.
    config = sweep_of([make_image_run()], grid | {"layers": [[CLASSIFIER]]}, samples=2)
    assert run_sweep(config, mnist_root, tmp_path / "out", processes=1).cells == 2


def test_a_model_without_quantum_layers(make_image_run, sweep_of, mnist_root, tmp_path):
    with pytest.raises(ConfigError, match="needs a model with quantum layers, but `cnn` has none"):
        run_sweep(sweep_of([make_image_run(model="cnn")], {}), mnist_root, tmp_path / "out", processes=1)


def test_a_run_that_is_not_there(sweep_of, mnist_root, tmp_path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        run_sweep(sweep_of([tmp_path / "no"], {}), mnist_root, tmp_path / "out", processes=1)


def test_truncated_parquet(make_image_run, sweep_of, mnist_root, tmp_path):
    config = sweep_of([make_image_run()], {"layers": [[CLASSIFIER]]}, samples=2)
    out = run_sweep(config, mnist_root, tmp_path / "out", processes=1).folder
    table = out / "results.parquet"
    table.write_bytes(table.read_bytes()[:200])
    with pytest.raises(DataError, match=r"results.parquet: must be a Parquet table.*qhybrid sweep"):
        read_results(out)
    again = run_sweep(config, mnist_root, out, processes=1)
    assert (again.computed, len(read_results(out)) > 0) == (0, True)
    with pytest.raises(DataError, match=r"results.parquet"):
        read_results(tmp_path)


def test_a_scheduler_that_does_not_answer(make_image_run, sweep_of, mnist_root, tmp_path, monkeypatch):
    monkeypatch.setattr("qhybrid.cluster.CONNECT_SECONDS", 0.5)
    config = sweep_of([make_image_run()], {"layers": [[CLASSIFIER]]}, samples=2)
    with pytest.raises(WorkspaceError, match="No Dask scheduler answers at tcp://127.0.0.1:1"):
        run_sweep(config, mnist_root, tmp_path / "out", scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\ndata: {dataset: mnist}", "must be a sweep"),
        ("name: a\nsweep: {}", "one of `runs` and `train` is needed"),
        ("name: a\nsweep: {runs: [x]}", "`grids` needs at least one entry"),
        ("name: a\nsweep: {train: [{recipe: x, vary: {seed: []}}]}", "need values"),
        ("name: a\nsweep: {runs: [x], grids: [{}], zne: {scales: [1, 1]}}", "must differ"),
    ],
)
def test_bad_files(text, message, tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_sweep(file)


def test_profiles_that_tables_would_call_alike(make_image_run, sweep_of, mnist_root, tmp_path):
    files = []
    for folder, p in (("one", 0.1), ("two", 0.2)):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "mine.yaml")
        files[-1].write_text(f"p_1q: {p}")
    config = sweep_of([make_image_run()], {"profiles": list(map(str, files))}, samples=2)
    with pytest.raises(ConfigError, match=r"both be `mine`.*rename"):
        run_sweep(config, mnist_root, tmp_path / "out", processes=1)


def test_a_copy_of_a_run_is_no_second_training(make_image_run, sweep_of, mnist_root, tmp_path):
    run, copy = make_image_run(), tmp_path / "copy"
    shutil.copytree(run, copy)
    grid = {"shots": [16], "seeds": [0, 1]}
    with pytest.raises(ConfigError, match=r"copy: must be another training.*same weights"):
        run_sweep(sweep_of([run, copy], grid, samples=2), mnist_root, tmp_path / "out", processes=1)
