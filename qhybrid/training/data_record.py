"""Which data a run was trained on: data.json in the run folder, and what has changed since.

It holds the identity of every split, and the digest of every file that decides one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qhybrid.config import DataConfig
from qhybrid.data.identity import DataIdentity, split_identity
from qhybrid.data.kinds import data_kind
from qhybrid.errors import ConfigError, DataError
from qhybrid.workspace import write_text

RECORD = "data.json"
FORMAT = 1
LEARNED = ("train", "val")
"""The splits that decide what is learned."""
_SHOWN = 5


@dataclass(frozen=True)
class DataRecord:
    """Which data a run was trained on.

    Attributes:
        data_root: Folder that the recipe's `data.root` was relative to.
        hashes: Identity of each split; None where it could not be told, or there is no such split.
        files: Digest of every file that decides, by split and by its path below the data root.
    """

    data_root: str
    hashes: Mapping[str, str | None] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)


def record_of(identities: Mapping[str, DataIdentity | None], data_root: Path) -> DataRecord:
    """Return the record of identities, by split."""
    root = data_root.absolute()
    return DataRecord(
        str(root),
        {split: None if one is None else one.hash for split, one in identities.items()},
        {split: {} if one is None else _below(one.files, root) for split, one in identities.items()},
    )


def _below(files: Mapping[str, str | None], root: Path) -> dict[str, str | None]:
    """Return digests by paths relative to the data root, where files lie below it."""
    found = {}
    for name, digest in files.items():
        path = Path(name).absolute()
        below = "://" not in name and path.is_relative_to(root)
        found[path.relative_to(root).as_posix() if below else name] = digest
    return found


def write_record(folder: Path, record: DataRecord) -> None:
    """Write the record of a run."""
    content = {
        "format": FORMAT,
        "data_root": record.data_root,
        "splits": {
            split: {"hash": digest, "files": dict(record.files.get(split, {}))}
            for split, digest in record.hashes.items()
        },
    }
    write_text(folder / RECORD, json.dumps(content, indent=1) + "\n")


def read_record(folder: Path) -> DataRecord | None:
    """Read the record of a run; None of runs of earlier versions, which have none.

    Raises:
        DataError: If it is damaged.
    """
    file = folder / RECORD
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        splits: dict[str, Any] = dict(content["splits"])
        return DataRecord(
            str(content["data_root"]),
            {split: one["hash"] for split, one in splits.items()},
            {split: dict(one["files"]) for split, one in splits.items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file}: must say which data the run was trained on, but is damaged ({error!r}). Fix: copy the "
            "run folder again, or start a new run."
        ) from error


def try_identity(config: DataConfig, split: str, data_root: Path) -> DataIdentity | None:
    """Return the identity of a split; None if there is no such split, or it cannot be used."""
    try:
        return split_identity(config, split, data_root)
    except (DataError, ConfigError):
        return None


def training_identity(config: DataConfig, data_root: Path) -> DataIdentity:
    """Return the identity of all that a run learns from: training and validation data.

    Raises:
        DataError: If the data are unusable.
        ConfigError: If a key of the section is wrong.
    """
    splits = data_kind(config.dataset).open(config, data_root).splits
    found = [split_identity(config, split, data_root) for split in LEARNED if split in splits]
    changes = [one.newest_change for one in found]
    files = {name: digest for one in found for name, digest in one.files.items()}
    known = [change for change in changes if change is not None]
    newest = max(known) if len(known) == len(changes) else None
    return DataIdentity([one.parts for one in found], files, newest)


def check_unchanged(folder: Path, before: DataRecord, now: DataRecord, splits: tuple[str, ...]) -> None:
    """Check that the data of a run are those that it was begun with.

    Args:
        folder: The run folder.
        before: What it was begun with.
        now: What is there.
        splits: The splits to compare. Where either cannot be told nothing is compared.

    Raises:
        DataError: If a split has changed; the message names the files.
    """
    changed = [
        split
        for split in splits
        if None not in (before.hashes.get(split), now.hashes.get(split))
        and before.hashes[split] != now.hashes[split]
    ]
    if changed:
        raise DataError(
            f"{folder}: the data must be those that the run was begun with ({RECORD}), but "
            f"{_changes(before, now, changed)}. Fix: put them back as they were (they lay in "
            f"{before.data_root}), or start a new run."
        )


def _changes(before: DataRecord, now: DataRecord, splits: list[str]) -> str:
    """Return what changed in words."""
    texts = []
    for split in splits:
        old, new = before.files.get(split, {}), now.files.get(split, {})
        differing = sorted(name for name in old.keys() & new.keys() if old[name] != new[name])
        groups = {
            "changed": differing,
            "new": sorted(new.keys() - old.keys()),
            "missing": sorted(old.keys() - new.keys()),
        }
        parts = [f"{what}: {_listed(names)}" for what, names in groups.items() if names]
        unnamed = "the same files are other scenes" if old else "other images or labels"
        texts.append(f"split {split} differs ({'; '.join(parts) or unnamed})")
    return ", ".join(texts)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
