"""`qhybrid circuits` and `qhybrid init`."""

from __future__ import annotations

import pytest
from qiskit.quantum_info import Operator

from qhybrid.circuits import CIRCUITS, export
from qhybrid.circuits.definitions import find_circuit
from qhybrid.circuits.library import RegisteredCircuit
from qhybrid.cli.main import execute
from qhybrid.plugins import Plugin
from qhybrid.workspace import starter_files, starter_root


@pytest.fixture(autouse=True)
def _workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_list_shows_starter_and_own_circuits(capsys, tmp_path):
    (tmp_path / "circuits").mkdir()
    (tmp_path / "circuits" / "mine.yaml").write_text("builder: hq_unet_qcnn\narguments: {grid: 2}\n")
    assert execute(["circuits", "list"]) == 0
    out = capsys.readouterr().out
    assert ["mine", "4", "12", "8", "8", "circuits/"] in rows(out)
    assert ["hq_unet_qcnn", "16", "48", "8", "32", "the package"] in rows(out)


ROTATION = 'OPENQASM 3.0;\ninclude "stdgates.inc";\ninput float a;\nqubit q;\nry(a) q;\n'


@pytest.fixture
def circuits(tmp_path):
    """The folder circuits/ with a good file `turn` and two bad ones."""
    folder = tmp_path / "circuits"
    folder.mkdir()
    (folder / "turn.qasm").write_text(ROTATION)
    (folder / "turn.yaml").write_text("file: turn.qasm\ninputs: [a]\nobservables: [Z0, X0]\n")
    (folder / "absent.yaml").write_text("file: none.qasm\nobservables: [Z0]\n")
    (folder / "broken.yaml").write_text("builder: qcnn\nargument: {}\n")
    return folder


def rows(out):
    """Return the words between the vertical lines of a table, row by row."""
    lines = [line for line in out.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def test_list_names_bad_files_and_hides_no_other(capsys, circuits):
    assert execute(["circuits", "list"]) == 0
    out = capsys.readouterr().out
    table = {row[0]: row[1:5] for row in rows(out) if row[0]}
    assert table["turn"] == ["1", "1", "0", "2"]
    assert table["absent"] == table["broken"] == ["unusable", "-", "-", "-"]
    assert table["qcnn"][:1] in (["8"], ["qhybrid"])  # a circuit, and below a builder of that name
    assert "Unusable: circuits/absent.yaml: key `file`: circuits/none.qasm cannot be read" in out
    assert "Unusable: circuits/broken.yaml: key `argument` is unknown. Did you mean `arguments`?" in out


def test_list_shows_builders_and_their_plugins(capsys):
    plugin = Plugin("acme-circuits", "acme", "2.1")
    with CIRCUITS.temporarily("acme", RegisteredCircuit(lambda: None, "One of Acme's.")):
        CIRCUITS._origins["acme"] = plugin
        assert execute(["circuits", "list"]) == 0
    table = {row[0]: row[1:] for row in rows(capsys.readouterr().out) if row[0]}
    assert table["acme"] == ["acme-circuits", "One of Acme's."]


def test_a_file_circuit_is_shown_like_a_named_one(capsys, circuits):
    assert execute(["circuits", "show", "turn"]) == 0
    out = capsys.readouterr().out
    assert "from         circuits/turn.yaml: turn.qasm" in out
    assert "observables  2 (Z0, X0)" in out
    assert "Ry(a)" in out
    assert execute(["circuits", "show", "turn", "--arg", "reps=2"]) == 1
    assert "is read from a file and takes no arguments" in capsys.readouterr().err


def test_show_keeps_the_other_arguments_of_a_file(capsys, circuits):
    (circuits / "wide.yaml").write_text("builder: hq_unet_qcnn\narguments: {grid: 2, reps: 3}\n")
    assert execute(["circuits", "show", "wide", "--arg", "readout=X"]) == 0
    lines = capsys.readouterr().out
    assert "from         circuits/wide.yaml: builder hq_unet_qcnn" in lines
    assert "weights      24" in lines
    assert "observables  4 (X0, X1, X2, X3)" in lines


def test_export_keeps_the_file_that_a_circuit_is_read_from(capsys, circuits):
    assert execute(["circuits", "export", "turn"]) == 0
    assert (circuits / "turn.qasm").read_text() == ROTATION
    assert (circuits / "turn.svg").is_file()
    assert "kept circuits/turn.qasm" in capsys.readouterr().out
    (circuits / "other.yaml").write_text("file: qcnn.qasm\nobservables: [Z0]\n")
    (circuits / "qcnn.qasm").write_text(ROTATION)
    assert execute(["circuits", "export", "qcnn"]) == 0
    assert (circuits / "qcnn.qasm").read_text() == ROTATION


def test_export_of_all_names_bad_files_and_writes_the_others(capsys, circuits, tmp_path, monkeypatch):
    """Drawings are compared by the test of the golden files; here they would take the longest."""

    def drawn(_spec, path):
        path.touch()
        return path

    monkeypatch.setattr(export, "draw_svg", drawn)
    assert execute(["circuits", "export", "--to", "out"]) == 1
    captured = capsys.readouterr()
    assert "circuits/absent.yaml" in captured.err
    assert "circuits/broken.yaml" in captured.err
    assert {"turn.qasm", "turn.svg", "qcnn.qasm"} <= {file.name for file in (tmp_path / "out").iterdir()}


def test_export_of_registers_that_share_qubits(circuits, tmp_path):
    (circuits / "turn.qasm").write_text(
        'OPENQASM 3.0;\ninclude "stdgates.inc";\ninput float a;\nqubit[2] q;\nqubit[1] r;\n'
        "let both = q[0:1];\ngphase(0.3);\nh both;\nctrl @ rx(a) q[1], r[0];\n"
    )
    (circuits / "turn.yaml").write_text("file: turn.qasm\ninputs: [a]\nobservables: [Z2, Y0]\n")
    assert execute(["circuits", "export", "turn", "--to", "out"]) == 0
    (circuits / "back.yaml").write_text("file: ../out/turn.qasm\ninputs: [a]\nobservables: [Z2, Y0]\n")
    found, expected = find_circuit("back").circuit, find_circuit("turn").circuit
    matrices = [Operator(one.assign_parameters([0.7])) for one in (found, expected)]
    assert matrices[0].equiv(matrices[1])


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
    assert lines["from"].endswith("hq_unet_qcnn.yaml: builder hq_unet_qcnn")
    assert set(lines) == {"from", "qubits", "inputs", "weights", "observables", "gates", "two-qubit", "depth"}


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
