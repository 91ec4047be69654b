"""What evaluations of scenes and of whole images share: where results go, and what they were made with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import qhybrid
from qhybrid.config import EngineConfig
from qhybrid.devices import list_devices
from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine
from qhybrid.engines.mapped import DEFAULT_TRIALS
from qhybrid.engines.routed import INNER
from qhybrid.errors import WorkspaceError
from qhybrid.layers import quantum_layers
from qhybrid.noise import load_profile
from qhybrid.training.images.run import LoadedImageRun
from qhybrid.training.run_folder import LoadedRun, Which

ON = "on-"
"""Begins the names of results on other data than the run's own."""


def evaluation_folder(
    folder: str | Path, split: str, engine: EngineConfig, which: Which = "best", on: str | None = None
) -> Path:
    """Return where results go by default: `<run>/evaluation/<split>-<engine kind>`.

    Those on other data, named by `on`, go to `<run>/evaluation/on-<on>-<split>-<engine kind>`. Device, its
    inner engine, noise, shots and `last` weights, where they were asked for by that name, are added to it, so
    that such results stand beside each other.
    """
    parts = [split, engine.kind]
    if "backend" in engine.options:
        parts.append(str(engine.options["backend"]))
    if (inner := engine.options.get("engine", "exact")) != "exact":
        parts.append(str(inner))
    if engine.noise is not None and (noise := Path(engine.noise).name.removesuffix(".yaml")) not in parts:
        parts.append(noise)
    if engine.shots is not None:
        parts.append(f"{engine.shots}-shots")
    if which != "best":
        parts.append(which)
    name = "-".join(parts)
    return Path(folder) / "evaluation" / (name if on is None else f"{ON}{on}-{name}")


def check_folder(target: Path) -> None:
    """Find out before the work, not after it, that results have no place to go.

    Raises:
        WorkspaceError: If the folder cannot be written.
    """
    existing = next(path for path in (target, *target.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise WorkspaceError(
            f"{target}: results need a folder that can be written, but {existing} is not one. Fix: choose "
            "another one."
        )


def routed_to_its_device(engine: EngineConfig) -> EngineConfig:
    """Return the engine `routed` in place of another one under the noise profile of a device.

    Such a profile has values for the device's own qubits and gates alone, so circuits are routed to it, as in
    a sweep and with the same layouts. Other engines are returned as they are.

    Raises:
        ConfigError: If there is no such profile.
    """
    if engine.noise is None or engine.kind not in INNER:
        return engine
    profile = load_profile(engine.noise)
    device = profile.device or profile.name
    if not profile.listed_only or device not in list_devices():
        return engine
    options: dict[str, Any] = {"backend": device, "layout": "gates", "trials": DEFAULT_TRIALS}
    if engine.kind != "exact":
        options["engine"] = engine.kind
    if engine.options:
        options["options"] = engine.options
    return engine.model_copy(update={"kind": "routed", "options": options})


def engine_of(engine: EngineConfig) -> Engine:
    """Return the engine that a section describes."""
    return make_engine(**engine.arguments())


def provenance(run: LoadedRun | LoadedImageRun, engine: EngineConfig | None) -> dict[str, Any]:
    """Return which weights were evaluated, on which engines."""
    layers = {name: layer.engine.describe() for name, layer in quantum_layers(run.model).items()}
    return {
        "qhybrid": qhybrid.__version__,
        "run": run.recipe.name,
        "model": run.meta.model["name"],
        "which": run.which,
        "epoch": run.meta.epoch,
        "parameters": sum(part.numel() for part in run.model.parameters() if part.requires_grad),
        "engine": (engine or run.recipe.engine).model_dump(mode="json") if layers else None,
        "quantum_layers": layers,
    }
