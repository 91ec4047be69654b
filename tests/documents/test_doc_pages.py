"""The pages of the documentation: what they say to do is done, block by block."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from readme import BLOCK, CHECKOUT, README, blocks, check_own_circuit, lines_of, run_page
from typer.main import get_command

from qhybrid.plugins.registry import REGISTRIES
from qhybrid.workspace import definition_files

DOCS = CHECKOUT / "docs"
FIRST = "tutorials/train.md"
AFTER_FIRST = ("tutorials/noise.md", "tutorials/qpu.md")
"""Pages that go on with the run of the first tutorial."""
TESTED_BY_NAME = {
    FIRST,
    *AFTER_FIRST,
    "tutorials/own_circuit.md",
    "tutorials/from_qml.md",
    "howto/cluster.md",
}
PAGES = sorted(
    str(page.relative_to(DOCS))
    for folder in ("tutorials", "howto", "explanation")
    for page in (DOCS / folder).glob("*.md")
)
ALL = [
    README,
    (CHECKOUT / "CONTRIBUTING.md").read_text(),
    *(page.read_text() for page in sorted(DOCS.rglob("*.md"))),
]


def page(name: str) -> str:
    return (DOCS / name).read_text()


@pytest.fixture(autouse=True)
def _own_registries():
    """What a page adds, as models, is not there for other tests."""
    yield
    for registry in REGISTRIES:  # rooms of the package, which pages import first, stay
        for name in [name for name, origin in registry._origins.items() if origin is not None]:
            del registry._entries[name], registry._origins[name]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """An empty working directory without data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QHYBRID_DATA", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def first(tmp_path_factory, common_cache) -> Path:
    """The folder that the first tutorial leaves, in small."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("QHYBRID_DATA", raising=False)
        patch.setenv("QHYBRID_CACHE", str(common_cache))
        run_page(page(FIRST), folder)
    return folder


def test_first_map(first):
    (run,) = (first / "runs" / "fields").iterdir()
    assert (first / "check" / "contact_sheet.png").is_file()
    assert {path.name for path in first.glob("map*")} >= {"map.tif", "map_probabilities.tif", "map.gpkg"}
    evaluated = sorted(one.name for one in (run / "evaluation").iterdir())
    assert len(evaluated) >= 4  # test, val, other data, another engine
    by_exact = json.loads((run / "evaluation" / "test-exact" / "metrics.json").read_text())
    (other,) = (run / "evaluation").glob("test-aer*")
    by_aer = json.loads((other / "metrics.json").read_text())
    assert by_aer["metrics"]["miou"] == pytest.approx(by_exact["metrics"]["miou"], abs=1e-3)


@pytest.mark.parametrize("name", AFTER_FIRST)
def test_pages_that_go_on_with_the_first_run(name, first, place):
    shutil.copytree(first, place, dirs_exist_ok=True)
    run_page(page(name), place)
    (run,) = (place / "runs" / "fields").iterdir()
    if name == "tutorials/noise.md":
        cells = pd.read_parquet(place / "runs" / "fields_noise" / "sweep" / "cells.parquet")
        assert len(cells[cells["metric"] == "miou"]) == 5
        assert "marrakesh" in (place / "noise_profiles" / "marrakesh.yaml").read_text()
        assert (place / "runs" / "digits_noisy").is_dir()
    else:
        plans = [json.loads(file.read_text()) for file in (run / "hardware").glob("*/plan.json")]
        assert sorted(len(plan["samples"]) for plan in plans) == [2, 3]
        assert len(list((run / "hardware").glob("*/results"))) == 2


def test_own_circuit_in_small(place):
    run_page(page("tutorials/own_circuit.md"), place)
    check_own_circuit(place)
    assert (place / "analysis" / "my_ring.json").is_file()
    assert (place / "exports" / "my_ring.svg").is_file()


def test_from_other_libraries(place):
    names = run_page(page("tutorials/from_qml.md"), place)
    assert names["outputs"].shape == (16, 4)
    spec = __import__("qhybrid.circuits").circuits.build_circuit("my_qnn")
    inputs, weights = names["inputs"], names["layer"].weight.detach()
    named = __import__("qhybrid.engines").engines.make_engine("exact")
    old = names["before"]
    values = named.expectations(spec, inputs, old.weight.detach())
    torch.testing.assert_close(values, old(inputs).detach().to(values.dtype), atol=1e-5, rtol=0)
    assert len(weights) == 8


def test_templates_are_pennylanes_own(place):
    """The circuits of the page against PennyLane's templates; skipped where it is not installed."""
    qml = pytest.importorskip("pennylane")
    names = run_page(
        "\n".join(
            f"```python\n{block}```\n" for block in blocks("python", page("tutorials/from_qml.md"))[-3:-1]
        ),
        place,
    )
    for layer, template, shape in (
        (names["layer"], qml.BasicEntanglerLayers, (2, 4)),
        (names["deep"], qml.StronglyEntanglingLayers, (3, 4, 3)),
    ):
        device = qml.device("default.qubit", wires=4)

        @qml.qnode(device)
        def values(inputs, weights, template=template):
            qml.AngleEmbedding(inputs, wires=range(4), rotation="Y")
            template(weights, wires=range(4))
            return [qml.expval(qml.PauliZ(wire)) for wire in range(4)]

        inputs = torch.rand(4, dtype=torch.float64)
        theirs = values(inputs.numpy(), layer.weight.detach().double().numpy().reshape(shape))
        ours = layer(inputs[None])[0].detach().double()
        torch.testing.assert_close(
            ours, torch.as_tensor([float(one) for one in theirs]).double(), atol=1e-5, rtol=0
        )


@pytest.mark.slow
def test_a_sweep_on_a_cluster(place):
    run_page(page("howto/cluster.md"), place)
    cells = pd.read_parquet(place / "runs" / "on_cluster" / "sweep" / "cells.parquet")
    assert len(cells[cells["metric"] == "accuracy"]) == 2


@pytest.mark.parametrize("name", [name for name in PAGES if name not in TESTED_BY_NAME])
def test_page_runs(name, place, capsys):
    names = run_page(page(name), place)
    said = capsys.readouterr().out
    if name == "howto/noise_channel.md":
        values = dict(re.findall(r"^(exact|aer) (\S+)$", said, flags=re.MULTILINE))
        assert {kind: float(value) for kind, value in values.items()} == pytest.approx(
            {"exact": 0.8, "aer": 0.8}, abs=1e-6
        )
    if name == "howto/torch_layers.md":
        assert names["logits"].shape == (2, 5, 128, 128)
    if name == "howto/service.md":
        (log,) = (place / "runs" / "digits_service").glob("*/hardware/*/sent.log")
        assert "256 shots" in log.read_text()
    if name == "explanation/models.md":
        assert said == blocks("text", page(name))[0]
    if name == "explanation/statistics.md":
        assert [line.split()[0] for line in said.splitlines()[:3]] == ["equivalent", "different", "not"]
    if name == "explanation/shots.md":
        scatter = names["sampled"].std(dim=0)
        expected = ((1 - names["exact"] ** 2) / 100).sqrt()
        torch.testing.assert_close(scatter, expected.to(scatter.dtype), rtol=0.1, atol=1e-6)


def test_commands_that_are_to_be_run_stand_on_pages_that_are_tested():
    tested = {DOCS / name for name in PAGES}
    # Pages of the examples have tests of their own, beside those of what they add.
    others = [file for file in DOCS.rglob("*.md") if file not in tested and "examples" not in file.parts]
    assert len(others) > 20
    for file in others:
        programs = {words[0] for block in blocks("shell", file.read_text()) for words in lines_of(block)}
        assert programs <= {"make", "pip"}, file


@functools.cache
def whole_command() -> Any:
    from qhybrid.cli.main import app

    return get_command(app)


def options_of(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that a line calls, and the options that it gives."""
    command = whole_command()
    rest = list(words)
    while rest and hasattr(command, "commands"):
        if rest[0].startswith("-"):
            del rest[:2]  # --plugin FILE
            continue
        assert rest[0] in command.commands, words
        command = command.commands[rest.pop(0)]
    return command, [word for word in rest if re.fullmatch(r"--?[a-z][a-z-]*", word)]


def test_every_block_says_what_it_is():
    """A block without a language is neither run nor looked at."""
    known = {"python", "shell", "yaml", "text", "qasm"}
    for text in ALL:
        fences = re.findall(r"^ *```(.*)$", text, flags=re.MULTILINE)
        assert set(fences[::2]) <= known, text[:60]
        assert set(fences[1::2]) <= {""}, text[:60]


def test_python_that_is_not_run_takes_names_that_are_there():
    looked_at = 0
    for file in DOCS.rglob("*.md"):
        for block in blocks("python", file.read_text()):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "qhybrid":
                    found = importlib.import_module(str(node.module))
                    assert all(hasattr(found, alias.name) for alias in node.names), (file, ast.unparse(node))
                    looked_at += 1
    assert looked_at > 30


def commands_of(text: str) -> set[str]:
    """Return the lines and words of a page that call qhybrid and are not run: text blocks, lists, tables."""
    shown = [block for language, block in BLOCK.findall(text) if language == "text"]
    rest = BLOCK.sub("", text)
    lines = [line for block in shown for line in block.splitlines()]
    lines += [line[4:] for line in rest.splitlines() if line.startswith("    qhybrid ")]
    found = {line for line in lines if line.startswith("qhybrid ")}
    return found | {code for code in re.findall(r"`([^`\n]+)`", rest) if code.startswith("qhybrid ")}


def test_commands_that_are_not_run_have_the_options_that_they_name():
    lines = sorted({line for text in ALL for line in commands_of(text)})
    assert len(lines) > 100
    for line in lines:
        command, options = options_of(
            shlex.split(line.replace("[", " ").replace("]", " "), comments=True)[1:]
        )
        known = {one for parameter in command.params for one in (*parameter.opts, *parameter.secondary_opts)}
        assert set(options) <= known, line


def test_recipes_that_commands_name_are_there():
    """In the package, or as a file of some page."""
    written = {name for text in ALL for name in re.findall(r"^# runs/([\w.]+)\.yaml$", text, re.MULTILINE)}
    known = written | set(definition_files("runs"))
    named = re.compile(r"\bqhybrid (?:train|ablate|sweep|tune|data (?:check|tile)) ([a-z][\w.]*)(?![\w/.])")
    found = {name for text in ALL for line in commands_of(text) for name in named.findall(line)}
    assert len(found) > 10
    assert found <= known


def test_pictures_are_small_and_used():
    pictures = {picture.name: picture for picture in (DOCS / "pictures").glob("*.png")}
    text = "".join(ALL)
    assert len(pictures) >= 9
    for name, picture in pictures.items():
        assert picture.stat().st_size < 200_000
        assert f"pictures/{name}" in text, f"{name} is shown nowhere"
    scripts = (DOCS / "make_pictures.py").read_text() + (DOCS / "make_figures.py").read_text()
    assert all(name in scripts or f"def {picture.stem}(" in scripts for name, picture in pictures.items())
