"""The identity of data: a hash of everything that decides the pixels and labels which are read.

It is the same wherever the files lie. Every cache, cell, plan and resumed training is keyed by it. Content
that cannot be told (a server without ETag) has no identity: unknown never equals unknown.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from qhybrid.config import DataConfig
from qhybrid.data.deciding_files import DecidingFiles, Listings, deciding_files
from qhybrid.data.digests import file_digests
from qhybrid.data.images.dataset import ImageArrays
from qhybrid.data.images.image_datasets import is_image_dataset, open_image_dataset
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import Scene

UNKNOWN = "content unknown"
"""Stands for content that cannot be told."""
_SECONDS = 20


@dataclass(frozen=True)
class DataIdentity:
    """The identity of a split.

    Attributes:
        parts: One entry a scene or set of images, JSON-safe; None where the content cannot be told.
        files: Digest of every local file that decides, by its path; of remote files their ETag.
        newest_change: When the newest of these files or their folders changed, in seconds since 1970; None if
            that cannot be told.
    """

    parts: list[Any]
    files: dict[str, str | None] = field(default_factory=dict)
    newest_change: float | None = None

    @property
    def hash(self) -> str | None:
        """The SHA-256 of it all; None if something cannot be told."""
        return identity_hash(self.parts)


def identity_hash(content: Any) -> str | None:
    """Return the SHA-256 of plain values; None if a part of them is unknown.

    Args:
        content: Plain values with an `UNKNOWN` where something cannot be told.
    """
    return None if _has_unknown(content) else hashlib.sha256(_text(content).encode()).hexdigest()


def _has_unknown(content: Any) -> bool:
    if isinstance(content, Mapping):
        return any(_has_unknown(value) for value in content.values())
    if isinstance(content, list | tuple):
        return any(_has_unknown(value) for value in content)
    return bool(content == UNKNOWN)


def _text(content: Any) -> str:
    return json.dumps(content, sort_keys=True, default=str)


def file_identity(location: str | Path) -> str | None:
    """Return the identity of an image, a mask or a vector file.

    Args:
        location: A file, a URL, or a name that GDAL can open.

    Returns:
        A hash; of a single file without companions the SHA-256 of its bytes. None if the content cannot be
        told.

    Raises:
        DataError: If a file is missing or cannot be read.
    """
    found = _Identities().of([location])[location]
    return None if found == UNKNOWN else found


def scenes_identity(scenes: Sequence[Scene]) -> DataIdentity:
    """Return the identity of scenes: names, windows, and the content of images and labels.

    Raises:
        DataError: If a file is missing or cannot be read.
    """
    identities = _Identities()
    sources = dict.fromkeys(
        part for scene in scenes for part in (scene.image, scene.mask) if part is not None
    )
    known = identities.of(sources)
    parts = [
        [
            scene.id,
            known[scene.image],
            list(scene.window) if scene.window else None,
            None if scene.mask is None else known[scene.mask],
        ]
        for scene in scenes
    ]
    return DataIdentity(parts, identities.files, identities.newest_change())


def arrays_identity(arrays: ImageArrays) -> DataIdentity:
    """Return the identity of whole images in memory: the bytes of images and targets."""
    digest = hashlib.sha256(arrays.images.numpy().tobytes())
    digest.update(arrays.targets.numpy().tobytes())
    return DataIdentity([{"images": len(arrays), "sha256": digest.hexdigest()}])


def split_identity(config: DataConfig, split: str, data_root: Path) -> DataIdentity:
    """Return the identity of a split of a recipe's data set.

    Args:
        config: The recipe's section `data`.
        split: `train`, `val` or `test`.
        data_root: Folder that `config.root` is relative to.

    Raises:
        DataError: If the data set is unusable, or has no such split.
    """
    if is_image_dataset(config.dataset):
        return arrays_identity(open_image_dataset(config, data_root).load(split))
    return scenes_identity(open_dataset(config, data_root).scenes(split))


class _Identities:
    """Identities of many locations, whose files are hashed together."""

    def __init__(self) -> None:
        self.files: dict[str, str | None] = {}
        self._local: set[Path] = set()
        self._remote = False

    def of(self, sources: Iterable[Any]) -> dict[Any, str]:
        """Return the identity of each source, or `UNKNOWN`.

        Args:
            sources: Locations, or dataclasses that hold some (labels with how they are drawn).
        """
        listings = Listings()
        found = {source: [deciding_files(one, listings) for one in _locations(source)] for source in sources}
        every = [one for parts in found.values() for one in parts]
        digests = file_digests(file for one in every for file in one.files.values())
        tags = {url: remote_identity(url) for url in {url for one in every for url in one.urls}}
        self._local |= digests.keys()
        self._remote |= bool(tags) or any(one.unknown for one in every)
        self.files |= {str(file): digest for file, digest in digests.items()} | tags
        return {source: _identity(source, parts, digests, tags) for source, parts in found.items()}

    def newest_change(self) -> float | None:
        """Return when the newest file or folder changed; None if not all are local."""
        if self._remote:
            return None
        places = self._local | {file.parent for file in self._local}
        stats = [place.stat() for place in places]
        return max((max(one.st_mtime, one.st_ctime) for one in stats), default=0.0)


def _locations(source: Any) -> list[str | Path]:
    if isinstance(source, str | Path):
        return [source]
    held = [getattr(source, one.name) for one in dataclasses.fields(source)]
    return [one for one in held if isinstance(one, Path)]


def _identity(
    source: Any,
    parts: Sequence[DecidingFiles],
    digests: Mapping[Path, str],
    tags: Mapping[str, str | None],
) -> str:
    content: list[Any] = []
    for one in parts:
        remote = [tags[url] for url in one.urls]
        if one.unknown or None in remote:
            return UNKNOWN
        local = sorted((label, digests[file]) for label, file in one.files.items())
        if isinstance(source, str | Path) and len(local) == 1 and not remote and not one.names:
            return local[0][1]
        content.append([local, remote, list(one.names)])
    if not isinstance(source, str | Path):
        # What is not a file decides as it is written, such as the attribute that labels are drawn by.
        held = {one.name: getattr(source, one.name) for one in dataclasses.fields(source)}
        content.append({name: value for name, value in held.items() if not isinstance(value, Path)})
    return hashlib.sha256(_text(content).encode()).hexdigest()


def remote_identity(url: str) -> str | None:
    """Return a hash of what a server says of a file: its ETag and size; None if it names no (strong) ETag."""
    try:
        answer = requests.head(url, timeout=_SECONDS, allow_redirects=True)
        answer.raise_for_status()
    except requests.RequestException:
        return None
    tag, size = answer.headers.get("ETag", ""), answer.headers.get("Content-Length", "")
    if not tag or tag.startswith("W/"):  # a weak one may stay when bytes change
        return None
    return hashlib.sha256(f"{tag} {size}".encode()).hexdigest()
