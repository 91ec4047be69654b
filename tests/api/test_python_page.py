"""The page about scripts: every block runs as it is written."""

from __future__ import annotations

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
