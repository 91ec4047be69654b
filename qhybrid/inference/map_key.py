"""What decides a map, as one hash: the model, the scene's content, and every setting."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from qhybrid.config import PredictionConfig
from qhybrid.data.identity import file_identity
from qhybrid.inference.scene_model import SceneModel, input_contract
from qhybrid.layers import quantum_layers
from qhybrid.models import has_code_of_others
from qhybrid.version import __version__

TAG = "QHYBRID_MAP"
"""Metadata key of a map's own hash."""


def map_key(run: SceneModel, image: str | Path, settings: PredictionConfig, **options: Any) -> str:
    """Return a hash of all that decides the bytes of a map.

    Args:
        run: The model; its weights count, not its folder.
        image: The scene; its content counts, not its name.
        settings: How windows are predicted.
        **options: Everything else, as plain values.

    Raises:
        DataError: If the scene cannot be read.
    """
    return _hash(
        {
            **_model(run),
            "settings": settings.model_dump(mode="json"),
            # Content that cannot be told is never that of another time.
            "scene": file_identity(image) or uuid.uuid4().hex,
            "options": options,
        }
    )


def model_key(run: SceneModel) -> str:
    """Return a hash of all of a model that decides the bytes of a map."""
    return _hash(_model(run))


def _hash(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _model(run: SceneModel) -> dict[str, Any]:
    section = getattr(run.model, "config", None)
    own = section is not None and not has_code_of_others(section)
    # Code of others may change, and its name stays.
    layers = {} if own else quantum_layers(run.model)
    gates = {name: layer.spec.fingerprint for name, layer in layers.items()}
    return {
        "qhybrid": __version__,
        "recipe": run.recipe.model_dump(mode="json"),
        "weights": _weights(run),
        "statistics": run.statistics.to_dict(),
        "contract": input_contract(run).to_dict(),
        "classes": run.classes.to_dict(),
        "bands": list(run.bands),
        "engines": _engines(run),
        **({"circuits": gates} if gates else {}),
    }


def _weights(run: SceneModel) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(run.model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(array.shape)} {array.dtype}".encode())
        digest.update(array.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _engines(run: SceneModel) -> Mapping[str, Any]:
    found = {}
    for name, layer in quantum_layers(run.model).items():
        told = layer.engine.describe()
        # The seed of a map is an option of its own; that of the engine is written over window by window.
        found[name] = {**told, "seed": None} if layer.engine.random else told
    return found
