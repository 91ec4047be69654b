"""Results of a sweep on disk: files of a finished cell, named by its content, each whole or not at all.

KEY.json holds the numbers, KEY.predictions all predictions, from which later metrics are computed. Cells of
earlier versions have no predictions.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qhybrid.evaluation.subject.subject import Subject
from qhybrid.experiments.sweeps.arrays import pack
from qhybrid.experiments.sweeps.cells import SweepRun
from qhybrid.workspace import atomic_path, write_text

CELLS = "cells"
RUNS = "runs"
FAILURES = "failures.json"
FORMAT = 1
_NEEDED = {"format", "key", "metrics", "confusion", "count", "shown", "seconds", "made_with"}


class CellStore:
    """The finished cells of a sweep folder.

    Args:
        folder: The sweep folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def load(self, key: str) -> dict[str, Any] | None:
        """Return the result of a cell; None if there is none, or none that is whole."""
        try:
            content = json.loads(self._file(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        whole = isinstance(content, dict) and content.keys() >= _NEEDED
        return content if whole and content["format"] == FORMAT and content["key"] == key else None

    def save(self, key: str, result: Mapping[str, Any]) -> None:
        """Keep the result of a cell; one that is there is replaced.

        Raises:
            WorkspaceError: If it cannot be written; other cells are not touched.
        """
        content = {**result, "format": FORMAT, "key": key}
        write_text(self._file(key), json.dumps(content) + "\n")

    def save_predictions(self, key: str, content: bytes) -> None:
        """Keep the predictions of a cell; before its result, so that a finished cell has them.

        Raises:
            WorkspaceError: If they cannot be written.
        """
        with atomic_path(self._predictions(key)) as temporary:
            temporary.write_bytes(content)

    def predictions(self, key: str) -> Path | None:
        """Return the file of a cell's predictions; None if none were kept, or it is no whole file."""
        file = self._predictions(key)
        return file if zipfile.is_zipfile(file) else None

    def any(self) -> bool:
        """Return whether there is a finished cell at all."""
        return next((self.folder / CELLS).glob("*.json"), None) is not None

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Return the keys that have no result yet, each once, in order."""
        return [key for key in dict.fromkeys(keys) if self.load(key) is None]

    def _file(self, key: str) -> Path:
        return self.folder / CELLS / f"{key}.json"

    def _predictions(self, key: str) -> Path:
        return self.folder / CELLS / f"{key}.predictions"


def write_run(folder: Path, run: SweepRun, subject: Subject) -> None:
    """Keep what the report needs of a run beside its cells: names, colours, sample pictures."""
    samples = [
        {
            "title": sample.title,
            "picture": pack(sample.picture),
            "truth": pack(sample.truth),
            **({"place": sample.place} if sample.place else {}),
        }
        for sample in subject.samples()
    ]
    content = {
        "format": FORMAT,
        "name": run.name,
        "folder": run.folder,
        "facts": run.facts,
        "identity": run.identity,
        "class_names": list(subject.class_names),
        "colors": list(subject.colors),
        "samples": samples,
    }
    write_text(folder / RUNS / f"{run.facts['weights'][:16]}.json", json.dumps(content) + "\n")


def write_failures(folder: Path, failures: list[dict[str, Any]]) -> None:
    """Write what failed in the last run of a sweep; nothing failed: an empty list."""
    write_text(folder / FAILURES, json.dumps(failures, indent=2) + "\n")
