"""Pretrained models of `transformers`: where their files are, what identifies them, how they are loaded.

This is the only room that imports `transformers`; frozen ViTs and the encoders of U-Nets come from here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from qhybrid.errors import ConfigError, optional_import
from qhybrid.plugins import near_name
from qhybrid.workspace import data_root

EXTRA = "encoders"
FROZEN = "vit"
"""The extra that frozen ViTs are read with; it installs the same package."""
_GATED = (
    " Some weights (DINOv3) are given only to those who accept their licence: accept it on the model's page, "
    "then `hf auth login` and `hf download NAME --local-dir FOLDER`, and give the folder. `backbone: none` "
    "trains without a ViT."
)
CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
"""Weights, and in which of several files each tensor is."""
NOT_ARCHITECTURE = (
    "_name_or_path",
    "architectures",
    "dtype",
    "id2label",
    "label2id",
    "torch_dtype",
    "transformers_version",
)


def library(extra: str = EXTRA) -> ModuleType:
    """Return the package `transformers`.

    Args:
        extra: The extra of qhybrid that installs it, for the message.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    return optional_import("transformers", extra)


def find_weights(name: str, key: str = "encoder.weights", extra: str = EXTRA) -> Path:
    """Return the folder of pretrained weights.

    Args:
        name: A folder, in the working directory or below the data root, or a name on the hub.
        key: The recipe's key, for messages.
        extra: The extra of qhybrid that reads from the hub, for messages.

    Raises:
        ConfigError: If there is none.
    """
    for folder in (Path(name).expanduser(), data_root() / name):
        if (folder / CONFIG).is_file():
            return folder
        if folder.is_dir():
            raise ConfigError(
                f"Key `{key}` is folder {folder}, which must hold {CONFIG} and weights, but has no "
                f"{CONFIG}. Fix: save the model there with `save_pretrained`."
            )
    hub = optional_import("huggingface_hub", extra)
    try:
        return Path(hub.snapshot_download(name, allow_patterns=[CONFIG, PREPROCESSOR, *_WEIGHTS]))
    except Exception as error:  # the client raises many kinds: no network, no such model, a name it refuses
        raise ConfigError(
            f"Key `{key}` must be a folder, or the name of a model on the hub, but there is no "
            f"{name} in the working directory or below {data_root()}, and the hub gives none "
            f"({type(error).__name__}). Fix: check the path and the data root (--data-root, QHYBRID_DATA)."
            f"{_GATED if extra == FROZEN else ''}"
        ) from error


def weights_hash(folder: Path) -> str:
    """Return the hash of the content of the safetensors files in a folder.

    Raises:
        ConfigError: If there are none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ConfigError(
            f"{folder} must hold pretrained weights as *.safetensors, but has none. Fix: save the model with "
            "`save_pretrained`; weights in pickle files are not read, since they may execute code."
        )
    digest = hashlib.sha256()
    for file in files:
        state = file.stat()
        digest.update(_file_hash(file.resolve(), state.st_size, state.st_mtime_ns, state.st_ino))
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _file_hash(file: Path, _size: int, _changed: int, _inode: int) -> bytes:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").digest()


def read_config(name: str, key: str = "encoder.weights", extra: str = EXTRA) -> dict[str, Any]:
    """Return the content of the config.json of pretrained weights.

    Raises:
        ConfigError: If it cannot be read.
    """
    file = find_weights(name, key, extra) / CONFIG
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} must be JSON, but cannot be read: {error}.") from error


def architecture(
    content: Mapping[str, Any], key: str = "encoder.config", extra: str = EXTRA
) -> dict[str, Any]:
    """Return an architecture complete, with the defaults of its kind, so that later versions rebuild it.

    Raises:
        ConfigError: If `transformers` knows no such kind, or refuses a value.
    """
    known = library(extra).CONFIG_MAPPING
    kind = content.get("model_type")
    if kind not in known:
        raise ConfigError(
            f"Key `{key}` must have a `model_type` that transformers knows, but has {kind!r}."
            f"{near_name(kind, list(known))}"
        )
    try:
        plain = {key: value for key, value in content.items() if key not in NOT_ARCHITECTURE}
        complete = json.loads(known[kind].from_dict(plain).to_json_string(use_diff=False))
    except Exception as error:  # each kind has checks of its own
        raise ConfigError(f"Key `{key}` is not an architecture of kind `{kind}`: {error}") from error
    return {key: value for key, value in complete.items() if key not in NOT_ARCHITECTURE}


def load_pretrained(folder: Path, content: Mapping[str, Any], extra: str = EXTRA) -> tuple[Any, set[str]]:
    """Return a model with the weights in a folder, in 32 bit, and the names of tensors that they lack.

    Args:
        folder: Where its safetensors files are; code that lies beside them is not executed.
        content: Its architecture, complete.
        extra: The extra of qhybrid that installs `transformers`, for the message.
    """
    package = library(extra)
    config = package.CONFIG_MAPPING[content["model_type"]].from_dict(dict(content))
    with _quiet(package):
        model, report = package.AutoModel.from_pretrained(
            str(folder),
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    return model, set(report["missing_keys"])


def random_model(content: Mapping[str, Any], extra: str = EXTRA) -> Any:
    """Return a model of an architecture with new random weights, from torch's global generator."""
    package = library(extra)
    config = package.CONFIG_MAPPING[content["model_type"]].from_dict(dict(content))
    return package.AutoModel.from_config(config)


@contextlib.contextmanager
def _quiet(package: Any) -> Iterator[None]:
    """Keep the library's progress bar and its warnings off the terminal."""
    log = package.utils.logging
    before, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()
