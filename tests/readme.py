"""Code blocks of README and documentation: files that they show, commands and Python that they run."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text()
OWN_CIRCUIT = (CHECKOUT / "docs" / "tutorials" / "own_circuit.md").read_text()
COMMENTS = {"yaml": "# ", "qasm": "// ", "python": "# "}
FILE = re.compile(r"[\w./-]+\.(yaml|qasm|py)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
SCENES = (
    *("training.epochs=1", "training.batch_size=4", "training.progress=false"),
    *("data.patches_per_epoch=4", "data.patch_size=32", "model.widths=[4, 4, 8, 8, 8]"),
)
IMAGES = ("training.epochs=1", "training.progress=false")
ONE_SCENE = ("size=128", "train=1", "val=1", "test=1")  # all classes are in each split
TINY = {
    "data synthetic": [word for value in ONE_SCENE for word in ("--option", value)],
    "sweep my_noise": ["--jobs", "1"],  # two processes are for the test of the wheel
    "sweep fields_noise": ["--jobs", "1"],
    "circuits analyze": ["--samples", "20"],
    "diagnose": ["--samples", "16"],
    "ablate": ["--arms", "zero", "--seeds", "0,1", "--set", "training.epochs=1"],
}
"""What is added to a command so that it takes a second."""
LEFT_OUT = {"hardware backends": ("fake_fez",)}
"""Words that are left out: routing 16 qubits on a heavy-hex lattice takes half a minute."""


def blocks(language: str, text: str = README) -> list[str]:
    """Return the code blocks of a language."""
    return [block for found, block in BLOCK.findall(text) if found == language]


def commands(program: str, text: str = README) -> list[list[str]]:
    """Return the words after `program` of every shell line, comments left out."""
    lines = [line for block in blocks("shell", text) for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(f"{program} ")]


def file_of(language: str, block: str) -> str | None:
    """Return the path that the first line of a block names, if it does."""
    first = block.splitlines()[0]
    name = first.removeprefix(COMMENTS.get(language, "\0")).strip()
    return name if name != first and FILE.fullmatch(name) else None


def write_files(folder: Path, text: str = README) -> None:
    """Write the blocks of files to the paths that their first lines name."""
    for language, block in BLOCK.findall(text):
        write_file(folder, language, block)


def write_file(folder: Path, language: str, block: str) -> bool:
    """Write a block that names a file; return whether it does."""
    name = file_of(language, block)
    if name is not None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(block)
    return name is not None


def without_plugin(words: list[str]) -> list[str]:
    """Return the words of a command without the option for all commands in front."""
    return words[2:] if words[0] == "--plugin" else words


def shrunk(words: list[str], folder: Path) -> list[str]:
    """Return a command that takes a second."""
    plain = without_plugin(words)
    for name, left_out in LEFT_OUT.items():
        if " ".join(plain).startswith(name):
            return [word for word in words if word not in left_out]
    if plain[0] == "train":
        recipe = folder / "runs" / f"{plain[1]}.yaml"
        settings = SCENES if "widths" in recipe.read_text() else IMAGES
        return [*words, *(word for value in settings for word in ("--set", value))]
    return [*words, *next((extra for name, extra in TINY.items() if " ".join(plain).startswith(name)), [])]


def lines_of(block: str) -> Iterator[list[str]]:
    """Give the words of each command of a shell block."""
    for line in block.splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def run_page(
    text: str, folder: Path, shrink: bool = True, known: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Do what a page says, block by block, in a folder that is the working directory.

    Files are written, `qhybrid` commands executed in this process, scripts in one of their own, and Python
    blocks one after the other in one namespace. `make` and `pip` are left to other tests.

    Returns:
        The namespace.
    """
    from qhybrid.cli.main import execute

    names: dict[str, Any] = {"__name__": "page"} if known is None else known
    for language, block in BLOCK.findall(text):
        if write_file(folder, language, block):
            continue
        if language == "python":
            exec(compile(block, "page", "exec"), names)
        elif language == "shell":
            for program, *words in lines_of(block):
                if program == "qhybrid":
                    assert execute(shrunk(words, folder) if shrink else words) == 0, words
                elif program == "python":
                    subprocess.run([sys.executable, *words], cwd=folder, check=True, timeout=600)
                else:
                    assert program in ("make", "pip"), program
        else:
            assert language == "text", f"a block of {language} that names no file and cannot be executed"
    return names


def check_own_circuit(folder: Path) -> None:
    """Check what the commands of "Your own circuit" have left in a folder."""
    (run,) = (folder / "runs" / "my_unet").iterdir()
    circuit = json.loads((run / "best" / "meta.json").read_text())["model"]["bottleneck"]["circuit"]
    assert circuit["content"] == (folder / "circuits" / "my_ring.qasm").read_text()
    cells = pd.read_parquet(folder / "runs" / "my_noise" / "sweep" / "cells.parquet")
    miou = cells[cells["metric"] == "miou"].set_index("profile")["value"]
    assert set(miou.index) == {"ideal", "depolarizing_0.01_0.02", "fake_nighthawk"}
    assert miou.between(0, 1).all()
    assert "my_ring" in (folder / "my_report.html").read_text()
    (plan,) = (json.loads(file.read_text()) for file in (run / "hardware").glob("*/plan.json"))
    assert plan["settings"]["backend"] == "fake_nighthawk"
    assert [one["name"] for one in plan["circuits"].values()] == ["my_ring"]
