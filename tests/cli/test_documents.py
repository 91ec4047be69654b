"""The README's commands run, and the reference page says what the code says."""

from __future__ import annotations

import importlib
import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml
from readme import CHECKOUT, README, blocks, commands, run_page

from qhybrid.cli.main import execute
from qhybrid.config import DataConfig, validated
from qhybrid.data.datasets import is_image_dataset
from qhybrid.data.scene_datasets import open_dataset

CONTRIBUTING = (CHECKOUT / "CONTRIBUTING.md").read_text()
KINDS = (
    "Circuit",
    "Model",
    "Data set",
    "Label file",
    "Noise channel",
    "Mitigation",
    "Metric",
    "Engine",
    "Service",
)


def test_every_shell_line_is_checked():
    lines = [line for block in blocks("shell") for line in block.splitlines() if line.strip()]
    assert len(lines) == len(commands("make")) + len(commands("qhybrid"))


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {words[0] for words in commands("make")} <= targets
    assert {"demo", "test", "format", "bench", "clean", "wheel"} <= targets


def run_readme(tmp_path, monkeypatch, shrink):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QHYBRID_DATA", raising=False)
    run_page(README, tmp_path, shrink)
    assert (tmp_path / "map.tif").is_file()
    assert (tmp_path / "map.gpkg").is_file()
    (run,) = (tmp_path / "runs" / "fields").iterdir()
    (plan,) = (run / "hardware").iterdir()
    assert (plan / "results").is_dir()
    assert "fake_nighthawk" in (tmp_path / "report.html").read_text()


def test_the_three_jobs_in_small(tmp_path, monkeypatch):
    run_readme(tmp_path, monkeypatch, shrink=True)


@pytest.mark.slow
def test_the_three_jobs_as_written(tmp_path, monkeypatch):
    run_readme(tmp_path, monkeypatch, shrink=False)


def test_readme_is_short_and_has_three_pictures():
    assert len(README.split()) <= 900
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert [Path(one).name for one in pictures] == ["map.png", "noise.png", "plan.png"]
    for one in pictures:
        assert (CHECKOUT / one).stat().st_size < 200_000


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_links_lead_to_files(text):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (CHECKOUT / target).exists(), target


def test_contributing_lists_the_rooms_in_the_order_of_imports():
    table = CONTRIBUTING.split("## Where code belongs")[1].split("## How code is written")[0]
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [name.removeprefix("qhybrid.") for name in contracts[0]["layers"] if "|" not in name]
    rooms = [name for name in layers if (CHECKOUT / "qhybrid" / name).is_dir()]
    assert re.findall(r"^\| `qhybrid/(\w+)/`(?= \|)", table, flags=re.MULTILINE) == rooms
    assert {*rooms, "config"} == {
        folder.parent.name for folder in (CHECKOUT / "qhybrid").glob("*/__init__.py")
    }


def in_backticks():
    """Return the words of all code in running text, command lines taken apart."""
    text = re.sub(r"^```.*?^```", "", CONTRIBUTING, flags=re.MULTILINE | re.DOTALL)
    return [word for code in re.findall(r"`([^`\n]+)`", text) for word in code.split()]


def test_files_that_the_checklists_name_exist():
    tops = ("qhybrid/", "tests/", "docs/", "circuits/", "runs/", "noise_profiles/", "benchmarks/")
    paths = {word for word in in_backticks() if word.startswith(tops) and "NAME" not in word}
    assert len(paths) > 30
    missing = {path for path in paths if not (CHECKOUT / path).exists()}
    assert missing == set()


def test_functions_that_the_checklists_name_exist():
    names = {match for word in in_backticks() for match in re.findall(r"^qhybrid(?:\.\w+)+", word)}
    assert len([name for name in names if ".register_" in name]) == len(KINDS)
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_commands_that_the_checklists_name_exist(capsys):
    lines = re.findall(r"`qhybrid ((?:[a-z]+ ?)+)", CONTRIBUTING)
    assert len(lines) > 8
    for line in lines:
        assert execute([*line.split(), "--help"]) == 0, line


def test_every_kind_of_thing_has_a_checklist():
    sections = re.split(r"^### ", CONTRIBUTING.split("## Checklists")[1], flags=re.MULTILINE)[1:]
    assert tuple(section.splitlines()[0] for section in sections) == KINDS
    for section in sections:
        for part in ("- As a plugin:", "- In the package:", "- Test:", "- Check:"):
            assert section.count(part) == 1, (section.splitlines()[0], part)


def test_recipe_reference_is_up_to_date():
    write_page = runpy.run_path(str(CHECKOUT / "docs" / "write_recipes.py"))["write_page"]
    assert (CHECKOUT / "docs" / "recipes.md").read_text() == write_page(), "run: python docs/write_recipes.py"


@pytest.mark.parametrize("block", blocks("yaml", (CHECKOUT / "docs" / "data.md").read_text()))
def test_the_page_about_data_shows_valid_recipes(block, tmp_path):
    section = validated(DataConfig, yaml.safe_load(block)["data"], "docs/data.md")
    if not is_image_dataset(section.dataset):
        assert open_dataset(section, tmp_path).classes.num_classes == 2


def test_changelog_has_the_version_and_an_entry_to_come():
    versions = re.findall(r"^## (.+)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    released = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())
    assert versions[1] == f"[{released['version']}] - {released['date-released']}"


def test_ci_runs_the_readmes_test_command():
    script = CHECKOUT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text().splitlines()
    assert ["test"] in commands("make")


def test_the_table_of_examples_names_files_that_exist():
    folder = CHECKOUT / "docs" / "examples"
    text = (folder / "README.md").read_text()
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    files = re.findall(r"`((?:tests|qhybrid)/[^`]+)`", text)
    assert len(links) > 10
    assert len(files) == 8
    missing = [link for link in links if not (folder / link).exists()]
    assert missing + [file for file in files if not (CHECKOUT / file).exists()] == []
    named = {(folder / link).resolve() for link in links}
    kept = {file for file in folder.rglob("*") if file.suffix in (".py", ".yaml", ".qasm")}
    assert kept <= named, "an example that the table does not name"
