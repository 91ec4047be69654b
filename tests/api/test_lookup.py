"""How names become files and folders."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from qhybrid.api import lookup
from qhybrid.api.lookup import (
    find_recipe,
    find_repeats,
    find_report_sources,
    find_run,
    find_runs,
    new_run_folder,
    run_folder,
)
from qhybrid.errors import CheckpointError, ConfigError, WorkspaceError
from qhybrid.workspace import starter_root, write_text


@pytest.fixture(autouse=True)
def _workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_recipe_by_path_then_workspace_then_starter():
    assert find_recipe("demo") == starter_root() / "runs" / "demo.yaml"
    write_text("runs/demo.yaml", "name: demo")
    assert find_recipe("demo") == Path("runs/demo.yaml")
    write_text("elsewhere.yaml", "name: x")
    assert find_recipe("elsewhere.yaml") == Path("elsewhere.yaml")
    with pytest.raises(ConfigError, match="Known names: deepglobe, .*demo, "):
        find_recipe("nothing")
    with pytest.raises(ConfigError, match=r"Did you mean `digits_cnn`\? Known names: "):
        find_recipe("digit_cnn.yaml")


def test_a_run_where_a_recipe_is_wanted():
    write_text("runs/tried/2026-01-01_00-00-00/recipe.yaml", "name: tried")
    recipe = "runs/tried/2026-01-01_00-00-00/recipe.yaml"
    for text in ("tried", "runs/tried", str(Path(recipe).parent)):
        with pytest.raises(ConfigError, match=f"Fix: there is a run of that name; its recipe is {recipe}"):
            find_recipe(text)
    assert find_recipe(recipe) == Path(recipe)


def test_run_by_folder_or_newest_below_its_name():
    write_text("runs/a/2026-01-02_00-00-00/recipe.yaml", "")
    write_text("runs/a/2026-01-01_00-00-00/recipe.yaml", "")
    write_text("runs/a/2026-01-03_00-00-00/other.txt", "")
    newest = Path("runs/a/2026-01-02_00-00-00")
    assert find_run("runs/a/2026-01-01_00-00-00") == Path("runs/a/2026-01-01_00-00-00")
    assert find_run("runs/a") == newest
    assert find_run("a") == newest
    with pytest.raises(CheckpointError, match=r"b must be a run folder or hold one"):
        find_run("b")


def test_the_newest_run_is_told_by_utc_wherever_it_was_made(monkeypatch):
    """A container names its runs by its own clock, which is another one than that of the host."""
    monkeypatch.setenv("TZ", "Asia/Seoul")
    time.tzset()
    try:
        write_text("runs/a/2026-01-02_08-00-00/recipe.yaml", "")  # of an earlier version: 23:00 UTC
        write_text("runs/a/2026-01-01_23-30-00Z/recipe.yaml", "")
        assert find_run("a") == Path("runs/a/2026-01-01_23-30-00Z")
        made = new_run_folder("b")
        told = datetime.strptime(made.name, "%Y-%m-%d_%H-%M-%SZ").replace(tzinfo=UTC)
        assert abs((datetime.now(UTC) - told).total_seconds()) < 60
        write_text("runs/b/2026-13-40_99-99-99/recipe.yaml", "")
        write_text(made / "recipe.yaml", "")
        assert find_run("b") == made
    finally:
        monkeypatch.undo()
        time.tzset()


def test_runs_of_one_second_are_counted():
    for name in ("", "_2", "_9", "_10"):
        write_text(f"runs/a/2026-01-02_00-00-00{name}/recipe.yaml", "")
    assert find_run("a") == Path("runs/a/2026-01-02_00-00-00_10")


def test_repeated_runs_by_folder_or_newest_below_their_name():
    several = Path("runs/a/2026-01-02_00-00-00")
    write_text("runs/a/2026-01-01_00-00-00/recipe.yaml", "")
    write_text(several / "repeats.json", "{}")
    write_text(several / "seed-10" / "recipe.yaml", "")
    write_text(several / "seed-2" / "recipe.yaml", "")
    assert find_repeats("a") == find_repeats("runs/a") == find_repeats(str(several)) == several
    for text in ("a", str(several)):
        with pytest.raises(CheckpointError, match="holds repeated runs.*for example .*seed-2"):
            find_run(text)
    assert find_run(str(several / "seed-10")) == several / "seed-10"
    assert find_repeats(str(several / "seed-10")) is None
    write_text("runs/a/2026-01-03_00-00-00/recipe.yaml", "")
    assert find_repeats("a") is None
    assert find_run("a") == Path("runs/a/2026-01-03_00-00-00")
    write_text("docs/results/summary.json", "{}")
    assert find_repeats("docs/results") == Path("docs/results")
    assert find_repeats("b") is None


def test_of_folders_with_names_of_their_own_one_must_be_named():
    write_text("runs/a/small/recipe.yaml", "")
    assert find_run("a") == Path("runs/a/small")
    assert find_runs("a") == [Path("runs/a/small")]
    write_text("runs/a/2026-01-02_00-00-00/repeats.json", "{}")
    for find in (find_run, find_runs, find_repeats, find_report_sources):
        with pytest.raises(CheckpointError, match="runs/a holds 2026-01-02_00-00-00, small, of which none"):
            find("a")
    assert find_run("runs/a/small") == Path("runs/a/small")


def test_a_training_of_several_seeds_is_all_its_runs():
    write_text("runs/a/2026-01-01_00-00-00/recipe.yaml", "")
    several = Path("runs/a/2026-01-02_00-00-00")
    for seed in (0, 10, 2):
        write_text(several / f"seed-{seed}" / "recipe.yaml", "")
    write_text(several / "repeats.json", "{}")
    expected = [several / "seed-0", several / "seed-2", several / "seed-10"]
    assert find_runs("a") == find_runs("runs/a") == find_runs(str(several)) == expected
    assert find_report_sources("a") == expected
    assert find_runs("runs/a/2026-01-01_00-00-00") == [Path("runs/a/2026-01-01_00-00-00")]
    write_text("runs/a/2026-01-03_00-00-00/recipe.yaml", "")
    assert find_runs("a") == [Path("runs/a/2026-01-03_00-00-00")]
    write_text("runs/a/sweep/sweep.yaml", "")
    assert find_report_sources("a") == [Path("runs/a/sweep")]
    with pytest.raises(CheckpointError, match="b must be a run folder"):
        find_runs("b")


def test_new_run_folders_differ_within_a_second(monkeypatch):
    monkeypatch.setattr(lookup, "time_name", lambda: "2026-01-01_00-00-00Z")
    assert new_run_folder("a") == Path("runs/a/2026-01-01_00-00-00Z")
    names = [new_run_folder("a").name, new_run_folder("a").name]
    assert names == ["2026-01-01_00-00-00Z_2", "2026-01-01_00-00-00Z_3"]
    # Eight at the same moment get eight folders, each of which is there.
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(new_run_folder, ["b"] * 8))
    assert len(set(folders)) == 8
    assert all(folder.is_dir() for folder in folders)


def test_a_new_run_folder_goes_again_if_nothing_came_of_it():
    with pytest.raises(ConfigError), run_folder(None, "a") as folder:
        raise ConfigError("no such model")
    assert not folder.exists()
    with run_folder(None, "a") as folder:
        write_text(folder / "recipe.yaml", "")
    assert (folder / "recipe.yaml").is_file()
    Path("mine").mkdir()
    with pytest.raises(ConfigError), run_folder(Path("mine"), "a") as folder:
        raise ConfigError("no such model")
    assert Path("mine").is_dir()


def test_a_run_folder_that_cannot_be_made():
    write_text("runs/a", "a file in the way")
    with pytest.raises(WorkspaceError, match="runs/a"):
        new_run_folder("a")
