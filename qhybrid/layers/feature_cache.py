"""Features of fixed quantum filters on disk, so that a data set is filtered once.

A file's key covers the images, the circuit, its weights, the patches, and everything that the engine says
about itself: method, precision, noise. A noisy run therefore never reads noiseless features.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qhybrid.errors import WorkspaceError
from qhybrid.layers.quantum_layer import QuantumLayer
from qhybrid.layers.quanvolution import Quanvolution
from qhybrid.workspace import atomic_path, cache_dir

VERSION = 2
"""Counted up when a layer or an engine gives other numbers for the same key."""
IMAGES_A_CALL = 4096


def cached_features(
    layer: Quanvolution, images: Tensor, folder: str | Path | None = None, images_a_call: int = IMAGES_A_CALL
) -> Tensor:
    """Return `layer(images)`, from disk if it has been computed before.

    What an engine draws (shots, random trajectories) depends on all that it has drawn before, so such values
    are computed each time and never stored; so are those of a classical filter, which is quick. A file that
    cannot be read is computed anew, and a folder that cannot be written is no error.

    Args:
        layer: The fixed filter.
        images: Images, shape (N, C, H, W).
        folder: Where to keep the files; `features` in the cache folder if absent.
        images_a_call: Images that go through the layer at once; it bounds the memory.

    Returns:
        Features (N, C', H', W'), without gradients, on the device of the images.
    """
    shape = (len(images), *layer.output_shape(*images.shape[1:]))
    if not isinstance(layer.filter, QuantumLayer) or draws(layer.filter.engine.describe()):
        return _compute(layer, images, shape, images_a_call)
    file = _file(folder, feature_key(layer, images))
    found = _load(file, shape)
    if found is None:
        found = _compute(layer, images, shape, images_a_call)
        _save(file, found)
    return found.to(images.device)


def feature_key(layer: Quanvolution, images: Tensor) -> str:
    """Return the hash under which the features of `images` are kept."""
    quantum: Any = layer.filter
    description = {
        "version": VERSION,
        "circuit": quantum.engine.circuit_key(quantum.spec),
        "weights": quantum.weight.detach().double().cpu().tolist(),
        "patch": layer.patch,
        "stride": layer.stride,
        "engine": quantum.engine.describe(),
        "shape": list(images.shape),
        "dtype": str(images.dtype),
    }
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode())
    digest.update(_bytes(images))
    return digest.hexdigest()


def draws(engine: Mapping[str, Any]) -> bool:
    """Return whether the values of an engine that describes itself so are random."""
    return bool(engine.get("shots") or engine.get("trajectories"))


def _file(folder: str | Path | None, key: str) -> Path | None:
    try:
        return (cache_dir() / "features" if folder is None else Path(folder)) / f"{key}.safetensors"
    except WorkspaceError:
        return None


def _compute(layer: Quanvolution, images: Tensor, shape: tuple[int, ...], images_a_call: int) -> Tensor:
    with torch.no_grad():
        starts = range(0, len(images), images_a_call)
        parts = [layer(images[start : start + images_a_call]) for start in starts]
    return torch.cat(parts) if parts else images.new_zeros(shape)


def _load(file: Path | None, shape: tuple[int, ...]) -> Tensor | None:
    if file is None:
        return None
    try:
        with safe_open(file, framework="pt") as content:
            features: Tensor = content.get_tensor("features")
            expected = (content.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    whole = tuple(features.shape) == shape and _checksum(features) == expected
    return features if whole else None


def _save(file: Path | None, features: Tensor) -> None:
    if file is None:
        return
    try:
        with atomic_path(file) as temporary:
            save_file({"features": features.cpu().contiguous()}, temporary, {"sha256": _checksum(features)})
    except (OSError, SafetensorError):
        return


def _bytes(values: Tensor) -> bytes:
    """Return a tensor's content; by way of bytes, because NumPy lacks some of torch's types (bfloat16)."""
    return values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _checksum(features: Tensor) -> str:
    return hashlib.sha256(_bytes(features)).hexdigest()
