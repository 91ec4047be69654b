"""The README's code blocks: files that it shows, and commands that it runs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pandas as pd

CHECKOUT = Path(__file__).resolve().parents[1]
README = (CHECKOUT / "README.md").read_text()
OWN_CIRCUIT = README.split("\n## Your own circuit\n")[1].split("\n## ")[0]
MAIN = README.replace(OWN_CIRCUIT, "")
COMMENTS = {"yaml": "# ", "qasm": "// "}


def blocks(language: str, text: str = README) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(program: str, text: str = README) -> list[list[str]]:
    """Return the words after `program` of every shell line, comments left out."""
    lines = [line for block in blocks("shell", text) for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith(f"{program} ")]


def write_files(folder: Path, text: str = README) -> None:
    """Write the blocks of files to the paths that their first lines name."""
    for language, comment in COMMENTS.items():
        for block in blocks(language, text):
            path = folder / block.splitlines()[0].removeprefix(comment)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block)


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
