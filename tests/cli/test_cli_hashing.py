"""Progress of reading data files, where there is a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from qhybrid.cli import console, hashing
from qhybrid.data import digests


def test_a_bar_is_drawn_beside_others_and_nothing_without_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "_SHOWN_FROM", 1)
    file = tmp_path / "a.bin"
    file.write_bytes(bytes(2**21))
    for terminal in (True, False):
        screen = Console(file=io.StringIO(), force_terminal=terminal, width=80)
        monkeypatch.setattr(console, "errors", screen)
        monkeypatch.setattr(hashing, "errors", screen)
        with console.progress_bar("test split"), hashing.hashing_bar():
            assert len(digests.file_digests([file])) == 1
        assert ("reading data" in screen.file.getvalue()) == terminal
