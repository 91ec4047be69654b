"""Token maps of tiles on disk, so that a tile passes the frozen ViT once.

A file's name is the hash of all that decides its content: the values that the ViT gets, its weights and
architecture, the layers, the size, the number type and the version of this code. What changes has another
name, so nothing stale is ever read. Files appear whole, so two processes may fill one cache.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qhybrid.errors import WorkspaceError
from qhybrid.workspace import atomic_path, cache_dir

VERSION = 1
"""Counted up when the same key would give other token maps."""


def token_key(image: Tensor, vit: Mapping[str, Any], grid: tuple[int, int]) -> str:
    """Return the hash under which the token maps of a tile are kept.

    Args:
        image: What the ViT gets, before it is resized, shape (C, H, W).
        vit: `FrozenViT.describing`.
        grid: Rows and columns of tokens.
    """
    described = {
        "version": VERSION,
        "vit": dict(vit),
        "shape": list(image.shape),
        "dtype": str(image.dtype),
        "grid": list(grid),
        "stored": "float16",
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
    digest.update(_bytes(image))
    return digest.hexdigest()


class TokenCache:
    """The files.

    Attributes:
        folder: Where they are; None where no folder can be made: then nothing is kept, with a warning once.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        """Find the folder: `tokens` in the cache folder if none is given."""
        self.folder: Path | None
        try:
            self.folder = cache_dir() / "tokens" if folder is None else Path(folder)
            self._problem = ""
        except WorkspaceError as error:
            self.folder, self._problem = None, str(error)
        self._full = False

    def file(self, key: str) -> Path | None:
        """Return where the token maps of a key are, or would be."""
        return None if self.folder is None else self.folder / key[:2] / f"{key}.safetensors"

    def load(self, key: str, shape: tuple[int, ...]) -> Tensor | None:
        """Return token maps; None if they are not there, or damaged, which is warned of.

        Args:
            key: Of `token_key`.
            shape: What they must have.
        """
        file = self.file(key)
        if file is None:
            return None
        try:
            if not file.is_file():
                return None
            with safe_open(file, framework="pt") as content:
                tokens: Tensor = content.get_tensor("tokens")
                said = content.metadata() or {}
        except (OSError, SafetensorError) as error:
            return self._damaged(file, str(error))
        if said.get("key") != key:
            return self._damaged(file, "it holds the token maps of another tile")
        if tuple(tokens.shape) != shape or tokens.dtype != torch.float16:
            return self._damaged(file, f"it has shape {tuple(tokens.shape)} and type {tokens.dtype}")
        if said.get("sha256") != _checksum(tokens):
            return self._damaged(file, "its checksum is wrong")
        return tokens

    def _damaged(self, file: Path, what: str) -> Tensor | None:
        warnings.warn(f"{file} is damaged ({what}): its token maps are computed again.", stacklevel=3)
        return None

    def save(self, key: str, tokens: Tensor) -> None:
        """Keep token maps; where that is not possible they are not kept, with one warning."""
        file = self.file(key)
        if self._full:
            return
        try:
            if file is None:
                raise WorkspaceError(self._problem)
            with atomic_path(file) as temporary:
                content = tokens.cpu().contiguous()
                save_file({"tokens": content}, temporary, {"key": key, "sha256": _checksum(content)})
        except (OSError, SafetensorError, WorkspaceError) as error:
            self._full = True
            warnings.warn(f"Token maps are not kept on disk from now on: {error}", stacklevel=2)


def _bytes(values: Tensor) -> bytes:
    return values.detach().cpu().contiguous().numpy().tobytes()


def _checksum(tokens: Tensor) -> str:
    return hashlib.sha256(_bytes(tokens)).hexdigest()
