"""`qhybrid circuits` and `qhybrid init`."""

from __future__ import annotations

import pytest

from qhybrid.cli.main import execute
from qhybrid.workspace import starter_files, starter_root


@pytest.fixture(autouse=True)
def _workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_list_shows_starter_and_own_circuits(capsys, tmp_path):
    (tmp_path / "circuits").mkdir()
    (tmp_path / "circuits" / "mine.yaml").write_text("builder: hq_unet_qcnn\narguments: {grid: 2}\n")
    assert execute(["circuits", "list"]) == 0
    out = capsys.readouterr().out
    assert "hq_unet_qcnn" in out
    assert "mine" in out
    assert "circuits/mine" in out


def test_show_prints_counts(capsys):
    assert execute(["circuits", "show", "hq_unet_qcnn"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["qubits"] == "16"
    assert lines["inputs"] == "48"
    assert lines["weights"] == "8"
    assert lines["observables"].startswith("32 (Z0, Z1, Z2, ..., X13, X14, X15)")
    assert lines["gates"].startswith("168 (")
    assert "24 cx" in lines["gates"]
    assert lines["two-qubit"] == "24"
    assert set(lines) == {"qubits", "inputs", "weights", "observables", "gates", "two-qubit", "depth"}


def test_show_draws_small_circuits(capsys):
    assert execute(["circuits", "show", "hq_unet_qcnn", "--arg", "grid=2", "--arg", "readout=Z"]) == 0
    out = capsys.readouterr().out
    assert "observables  4 (Z0, Z1, Z2, Z3)" in out
    assert "q_3:" in out
    assert "Rx(x[0])" in out.replace(" ", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "'nothing' is unknown"),
        (["hq_unet_qcnn", "--arg", "grid=0"], "`grid` must"),
        (["hq_unet_qcnn", "--arg", "grid"], "--arg grid: must look like key.sub=value"),
        (["hq_unet_qcnn", "--arg", "size=3"], "no argument(s) size"),
        (["missing.yaml"], "missing.yaml: cannot be read"),
    ],
)
def test_show_explains_bad_requests(capsys, arguments, message):
    assert execute(["circuits", "show", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_export_writes_the_golden_files(capsys, tmp_path):
    assert execute(["circuits", "export", "--to", "out"]) == 0
    assert "wrote out/hq_unet_qcnn.qasm" in capsys.readouterr().out
    golden = (starter_root() / "circuits" / "hq_unet_qcnn.qasm").read_bytes()
    assert (tmp_path / "out" / "hq_unet_qcnn.qasm").read_bytes() == golden
    assert (tmp_path / "out" / "hq_unet_qcnn.svg").stat().st_size > 10_000


def test_export_of_a_named_circuit(tmp_path):
    (tmp_path / "small.yaml").write_text("builder: hq_unet_qcnn\narguments: {grid: 1}\n")
    assert execute(["circuits", "export", "small.yaml", "--to", "out"]) == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["small.qasm", "small.svg"]


def test_init_lays_out_a_workspace(capsys, tmp_path):
    assert execute(["init", "work"]) == 0
    *files, _, hint = capsys.readouterr().out.splitlines()
    assert files == [f"wrote work/{name}" for name in starter_files()]
    assert "qhybrid init work --examples" in hint
    assert (tmp_path / "work" / "runs" / "demo.yaml").is_file()
    assert not (tmp_path / "work" / "runs" / "ph2.yaml").exists()


def test_init_adds_the_examples(capsys, tmp_path):
    assert execute(["init", "work"]) == 0
    capsys.readouterr()
    assert execute(["init", "work", "--examples"]) == 0
    rest = [name for name in starter_files(examples=True) if name not in starter_files()]
    assert capsys.readouterr().out.splitlines() == [f"wrote work/{name}" for name in rest]
    assert (tmp_path / "work" / "runs" / "ph2.yaml").is_file()


def test_init_never_overwrites(capsys, tmp_path):
    assert execute(["init", "."]) == 0
    (tmp_path / "runs" / "demo.yaml").write_text("mine")
    assert execute(["init", "."]) == 1
    assert "already holds circuits/hq_unet_qcnn.qasm" in capsys.readouterr().err
    assert (tmp_path / "runs" / "demo.yaml").read_text() == "mine"
