"""The page about scripts: every block runs as it is written."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS)
def test_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QHYBRID_DATA", raising=False)
    exec(compile(block, str(PAGE), "exec"), {"__name__": "block"})


def test_the_page_names_all_stable_names():
    import qhybrid

    for name in set(qhybrid.__all__) - {"__version__"}:
        assert f"`{name}`" in PAGE.read_text(encoding="utf-8")
        reference = (PAGE.parent / "reference" / "api.md").read_text(encoding="utf-8")
        assert re.search(rf"^::: qhybrid\.api\.[\w.]*\.{name}$", reference, re.MULTILINE), name


def test_functions_of_commands_without_a_name_are_there():
    rows = re.findall(r"^\| `qhybrid [^|]+\| (.*) of `([\w.]+)` \|$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) >= 4
    for names, module in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert callable(getattr(importlib.import_module(module), name))
