"""Files of a plan that never change: plan.json holds their hashes, so that damage and edits are noticed.

Without that a lost calibration would leave read-out errors uncorrected, without a word, and other weights or
samples would take the place of those that were paid for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qhybrid.errors import HardwareError

FILES = "files"
CHUNK = 1 << 20


def hashes_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of all files below a folder by their names in it."""
    return {
        file.relative_to(folder).as_posix(): _hash(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _hash(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as handle:
        while part := handle.read(CHUNK):
            found.update(part)
    return found.hexdigest()


def is_kept(folder: Path, name: str, content: Mapping[str, Any]) -> bool:
    """Return whether a file is as it was written; plans of earlier versions do not say.

    Args:
        folder: The plan's folder, or that of a layout.
        name: Name of the file in it.
        content: The plan's plan.json, or what it says of the layout.
    """
    known = content.get(FILES, {}).get(name)
    try:
        return known is None or _hash(folder / name) == known
    except OSError:
        return False


def check_kept(folder: Path, content: Mapping[str, Any], *beginnings: str) -> None:
    """Check files of a plan that are needed, and cannot be made again from anything else.

    Args:
        folder: The plan's folder, or that of a layout.
        content: The plan's plan.json, or what it says of the layout.
        *beginnings: What names of these files begin with.

    Raises:
        HardwareError: If one is missing or has changed.
    """
    for name in content.get(FILES, {}):
        if name.startswith(beginnings) and not is_kept(folder, name, content):
            what = "has changed since" if (folder / name).is_file() else "is not there"
            raise HardwareError(
                f"{folder / name} must be as the plan was made with it, but {what}. Fix: put the file back "
                "from a copy of the plan's folder; results that came are in the ledger, `qhybrid hardware "
                "cancel PLAN` stops jobs that were sent. A new plan is paid for anew."
            )
