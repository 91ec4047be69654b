"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from qhybrid import workspace
from qhybrid.config import read_yaml
from qhybrid.errors import WorkspaceError
from qhybrid.workspace import (
    STARTER_FOLDERS,
    atomic_folder,
    atomic_path,
    cache_dir,
    data_root,
    definition_files,
    lay_out_starter,
    locked,
    starter_files,
    starter_root,
    whole_files,
    write_text,
)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_what_is_half_written_is_no_whole_file(tmp_path):
    write_text(tmp_path / "b.json", "{}")
    write_text(tmp_path / "a.json", "{}")
    write_text(tmp_path / "a.yaml", "")
    with atomic_path(tmp_path / "c.json") as temporary:
        assert temporary.is_file()
        assert temporary.suffix == ".json"
        assert whole_files(tmp_path, ".json") == [tmp_path / "a.json", tmp_path / "b.json"]
    assert whole_files(tmp_path, ".json")[2:] == [tmp_path / "c.json"]
    assert whole_files(tmp_path / "nowhere", ".json") == []


def test_atomic_path_writes_and_replaces(tmp_path):
    target = tmp_path / "new" / "file.txt"
    for text in ("one", "two"):
        with atomic_path(target) as temporary:
            assert temporary.parent == target.parent
            assert temporary.suffix == ".txt"
            temporary.write_text(text)
        assert target.read_text() == text
    assert names(target.parent) == ["file.txt"]
    assert stat.S_IMODE(target.stat().st_mode) & 0o400


@pytest.mark.parametrize(
    "problem", [ValueError("bad"), KeyboardInterrupt(), OSError(errno.EIO, "input/output error")]
)
def test_atomic_path_leaves_nothing_after_an_error(tmp_path, problem):
    target = write_text(tmp_path / "file.txt", "old")

    def fail_half_way():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise problem

    with pytest.raises(type(problem)):
        fail_half_way()
    assert names(tmp_path) == ["file.txt"]
    assert target.read_text() == "old"


def test_full_disk_is_explained_and_leaves_nothing(tmp_path):
    def fill():
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(WorkspaceError, match=r"disk is full: .*file\.txt was not written"),
        atomic_path(tmp_path / "file.txt"),
    ):
        fill()
    with pytest.raises(WorkspaceError, match="disk is full"), atomic_folder(tmp_path / "folder"):
        fill()
    assert names(tmp_path) == []


def test_folder_in_the_way_of_a_file_is_explained(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(WorkspaceError, match=r"taken cannot be written"):
        write_text(tmp_path / "taken", "text")
    assert names(tmp_path) == ["taken"]


def test_file_in_the_way_of_a_parent_folder_is_explained(tmp_path):
    write_text(tmp_path / "file", "text")
    with pytest.raises(WorkspaceError, match=r"Cannot write in .*file"):
        write_text(tmp_path / "file" / "below", "text")
    with (
        pytest.raises(WorkspaceError, match=r"Cannot write in .*file"),
        atomic_folder(tmp_path / "file" / "below"),
    ):
        pass


def test_atomic_folder_appears_whole(tmp_path):
    target = tmp_path / "runs" / "one"
    with atomic_folder(target) as temporary:
        (temporary / "a.txt").write_text("a")
        assert not target.exists()
    assert (target / "a.txt").read_text() == "a"
    assert names(target.parent) == ["one"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


def test_atomic_folder_leaves_nothing_after_an_error(tmp_path):
    target = tmp_path / "one"

    def fail_half_way():
        with atomic_folder(target) as temporary:
            (temporary / "a.txt").write_text("a")
            raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        fail_half_way()
    assert names(tmp_path) == []


def test_atomic_folder_takes_an_empty_folder_but_no_other(tmp_path):
    target = tmp_path / "one"
    target.mkdir()
    with atomic_folder(target) as temporary:
        (temporary / "a.txt").write_text("a")
    with pytest.raises(WorkspaceError, match="already exists and is not empty"), atomic_folder(target):
        pass
    assert names(target) == ["a.txt"]
    assert names(tmp_path) == ["one"]


def test_data_root_prefers_argument_then_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("QHYBRID_DATA", raising=False)
    assert str(data_root()) == "data"
    monkeypatch.setenv("QHYBRID_DATA", str(tmp_path))
    assert data_root() == tmp_path
    assert str(data_root("elsewhere")) == "elsewhere"


def test_cache_dir_is_created_or_explained(monkeypatch, tmp_path):
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path / "a" / "b"))
    assert cache_dir().is_dir()
    write_text(tmp_path / "file", "text")
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path / "file"))
    with pytest.raises(WorkspaceError, match=r"Cannot create .*file.*QHYBRID_CACHE"):
        cache_dir()


class TestStarter:
    """The starter files, from a checkout; tests/cli/test_wheel.py does it from a wheel."""

    def test_starter_set_is_short_and_a_part_of_the_package(self):
        files = starter_files()
        assert len(files) <= 12
        assert set(files) < set(starter_files(examples=True))
        assert {str(file.parent) for file in files} == {"circuits", "noise_profiles", "runs"}

    def test_starter_recipes_need_no_data_of_the_user(self):
        recipes = [read_yaml(starter_root() / file) for file in starter_files() if file.parent.name == "runs"]
        trained = {recipe["name"]: recipe for recipe in recipes if "data" in recipe}
        assert {recipe["data"]["dataset"] for recipe in trained.values()} == {"synthetic", "digits"}
        (sweep,) = [recipe for recipe in recipes if "sweep" in recipe]
        assert set(sweep["sweep"]["runs"]) <= set(trained)
        laid_out = {file.stem for file in starter_files() if file.parent.name == "noise_profiles"}
        for grid in sweep["sweep"]["grids"]:
            assert set(grid["profiles"]) <= laid_out

    def test_the_log_of_findings_is_no_starter_file(self):
        assert (starter_root() / "runs" / "LOG.md").is_file()
        assert Path("runs/LOG.md") not in starter_files(examples=True)

    def test_results_of_runs_are_no_starter_files(self, tmp_path, monkeypatch):
        write_text(tmp_path / "runs" / "demo.yaml", "name: demo")
        write_text(tmp_path / "runs" / "demo" / "2026-01-01" / "recipe.yaml", "name: demo")
        write_text(tmp_path / "runs" / "demo.ckpt", "weights")
        monkeypatch.setattr(workspace, "starter_root", lambda: tmp_path)
        assert [str(file) for file in starter_files(examples=True)] == ["runs/demo.yaml"]

    def test_definitions_that_are_not_laid_out_keep_their_names(self, tmp_path, monkeypatch):
        lay_out_starter(tmp_path)
        monkeypatch.chdir(tmp_path)
        recipes = definition_files("runs")
        assert recipes["demo"] == Path("runs/demo.yaml")
        assert recipes["mnist35"] == starter_root() / "runs" / "mnist35.yaml"
        everything = {file.stem for file in starter_files(examples=True) if file.suffix == ".yaml"}
        assert everything == {name for folder in STARTER_FOLDERS for name in definition_files(folder)}

    @pytest.mark.parametrize("examples", [False, True])
    def test_layout_is_a_copy(self, tmp_path, examples):
        (tmp_path / "notes.txt").write_text("mine")
        written = lay_out_starter(tmp_path, examples)
        assert [file.relative_to(tmp_path) for file in written] == starter_files(examples)
        for name in starter_files(examples):
            assert (tmp_path / name).read_bytes() == (starter_root() / name).read_bytes()
        assert not [file for file in tmp_path.rglob("*") if file.name.startswith(".")]

    def test_existing_files_stay_and_nothing_is_added(self, tmp_path):
        mine = write_text(tmp_path / "runs" / "demo.yaml", "mine")
        with pytest.raises(WorkspaceError, match=r"already holds runs/demo\.yaml"):
            lay_out_starter(tmp_path)
        assert mine.read_text() == "mine"
        assert [file for file in tmp_path.rglob("*") if file.is_file()] == [mine]

    def test_examples_are_added_to_a_workspace_that_is_there(self, tmp_path):
        lay_out_starter(tmp_path)
        mine = write_text(tmp_path / "runs" / "demo.yaml", "mine")
        written = lay_out_starter(tmp_path, examples=True)
        added = {file.relative_to(tmp_path) for file in written}
        assert added == set(starter_files(examples=True)) - set(starter_files())
        assert mine.read_text() == "mine"

    def test_examples_never_overwrite(self, tmp_path):
        mine = write_text(tmp_path / "runs" / "ph2.yaml", "mine")
        with pytest.raises(WorkspaceError, match=r"already holds runs/ph2\.yaml\."):
            lay_out_starter(tmp_path, examples=True)
        assert [file for file in tmp_path.rglob("*") if file.is_file()] == [mine]

    def test_a_failure_half_way_removes_what_was_written(self, tmp_path, monkeypatch):
        copied = []

        def copy_two(source, target):
            if len(copied) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            copied.append(target)
            target.write_bytes(source.read_bytes())

        monkeypatch.setattr(workspace.shutil, "copyfile", copy_two)
        with pytest.raises(WorkspaceError, match="disk is full"):
            lay_out_starter(tmp_path / "new")
        assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_a_locked_folder_belongs_to_one_process(tmp_path):
    """The system lets go of a lock when its process is killed; until then nobody else gets it."""
    code = (
        "import sys, time\nfrom qhybrid.workspace import locked\n"
        "with locked(sys.argv[1]):\n    print('in', flush=True)\n    time.sleep(60)\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "in\n"
        with pytest.raises(WorkspaceError, match="Only one process may work on"), locked(tmp_path):
            pytest.fail("two at once")
    finally:
        holder.kill()
        holder.wait()
    with locked(tmp_path), pytest.raises(WorkspaceError, match="Only one process"), locked(tmp_path):
        pytest.fail("twice in one process")
    with locked(tmp_path):
        pass
    with (
        pytest.raises(WorkspaceError, match="must be writable.*There is no such folder"),
        locked(tmp_path / "missing"),
    ):
        pytest.fail("nowhere")
