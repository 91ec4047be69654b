"""What evaluations of scenes and of whole images share: where results go, and what they were made with."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from qhybrid.config import EngineConfig
from qhybrid.devices import list_devices
from qhybrid.engine_kinds import ENGINES
from qhybrid.engines import make_engine
from qhybrid.engines.base import Engine
from qhybrid.engines.mapped import DEFAULT_TRIALS
from qhybrid.engines.routed import INNER
from qhybrid.errors import QHybridError, WorkspaceError
from qhybrid.layers import quantum_layers
from qhybrid.noise import load_profile
from qhybrid.noise.library import profile_files
from qhybrid.training.images.run import LoadedImageRun
from qhybrid.training.run_folder import LoadedRun, Which
from qhybrid.version import __version__

ON = "on-"
"""Begins the names of results on other data than the run's own."""
METRICS = "metrics.json"
"""Numbers of an evaluation, in its folder."""
_SHORT = 8
_LONGEST = 60


def evaluation_folder(
    folder: str | Path,
    split: str,
    engine: EngineConfig,
    which: Which = "best",
    on: str | None = None,
    seed: int | None = None,
) -> Path:
    """Return where results go by default: `<run>/evaluation/<split>-<engine kind>`.

    Those on other data, named by `on`, go to `<run>/evaluation/on-<on>-<split>-<engine kind>`. Device, its
    inner engine, noise, shots, other options of the engine, its layers, a seed of its draws other than
    `seed`, the recipe's, and `last` weights, where they were asked for by that name, are added to it, so that
    such results stand beside each other.

    Earlier versions left out options, layers, seeds and the content of noise files; what they have left stays
    where it is.
    """
    parts = [split, engine.kind]
    if "backend" in engine.options:
        parts.append(str(engine.options["backend"]))
    if (inner := engine.options.get("engine", "exact")) != "exact":
        parts.append(str(inner))
    before = list(parts)
    if engine.noise is not None and (noise := Path(engine.noise).name.removesuffix(".yaml")) not in parts:
        before.append(noise)
        parts.append(_noise_name(engine.noise, noise))
    shots = [] if engine.shots is None else [f"{engine.shots}-shots"]
    other = seed is not None and engine.seed not in (None, seed) and _draws(engine)
    drawn = [f"seed={engine.seed}"] if other else []
    weights = [] if which == "best" else [which]
    begin = "" if on is None else f"{ON}{on}-"
    place = Path(folder) / "evaluation"
    new = place / f"{begin}{'-'.join([*parts, *shots, *drawn, *_other_options(engine), *weights])}"
    old = place / f"{begin}{'-'.join([*before, *shots, *weights])}"
    return old if new != old and not new.exists() and _engine_in(old) == _plain(engine) else new


def _noise_name(noise: str, name: str) -> str:
    """Return the name of a noise profile; of a file that is no known profile with a hash of its content."""
    if not Path(noise).is_file():
        return name
    try:
        content = load_profile(noise).fingerprint
        known = name in profile_files() and load_profile(name).fingerprint == content
    except QHybridError:  # said where the profile is used
        return name
    return name if known else f"{name}-{content[:_SHORT]}"


def _other_options(engine: EngineConfig) -> list[str]:
    """Return what else tells an engine from others of its kind, as in `method=statevector`."""
    rest = {key: value for key, value in engine.options.items() if key not in ("backend", "engine")}
    if engine.noise is not None and "backend" in engine.options:  # see `routed_to_its_device`
        usual = {"layout": "gates", "trials": DEFAULT_TRIALS}
        rest = {key: value for key, value in rest.items() if usual.get(key) != value}
    inner = rest.pop("options", None)
    flat = {**rest, **(inner if isinstance(inner, dict) else {})}
    words = [f"{key}={value}" for key, value in sorted(flat.items())]
    words += [] if engine.layers is None else [f"in={'+'.join(engine.layers)}"]
    told = "-".join(words)
    if len(told) > _LONGEST or re.search(r"[^\w.=+-]", told):
        return [hashlib.sha256(told.encode()).hexdigest()[:_SHORT]]
    return words


def _plain(engine: EngineConfig) -> Any:
    return json.loads(engine.model_dump_json())


def _engine_in(folder: Path) -> Any:
    """Return the engine that a result was made with; None if there is no result, or it does not say."""
    try:
        return json.loads((folder / METRICS).read_text(encoding="utf-8")).get("engine")
    except (OSError, ValueError, AttributeError):
        return None


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


def seeded(engine: EngineConfig, seed: int) -> EngineConfig:
    """Return the engine with the seed of its draws: its own, otherwise the recipe's.

    The same command gives the same numbers, as everywhere else.

    Args:
        engine: The engine; one that draws nothing stays as it is.
        seed: The recipe's seed.
    """
    if engine.seed is not None or not _draws(engine):
        return engine
    return engine.model_copy(update={"seed": seed})


def _draws(engine: EngineConfig) -> bool:
    """Return whether an engine's values are drawn, by a seed."""
    kind = ENGINES.get(engine.kind)
    draws = engine.shots is not None or (engine.noise is not None and kind.trajectories)
    return draws and "seed" in kind.arguments()


def provenance(run: LoadedRun | LoadedImageRun, engine: EngineConfig | None) -> dict[str, Any]:
    """Return which weights were evaluated, on which engines."""
    layers = {name: layer.engine.describe() for name, layer in quantum_layers(run.model).items()}
    return {
        "qhybrid": __version__,
        "run": run.recipe.name,
        "model": run.meta.model["name"],
        "which": run.which,
        "epoch": run.meta.epoch,
        "parameters": sum(part.numel() for part in run.model.parameters() if part.requires_grad),
        "engine": (engine or run.recipe.engine).model_dump(mode="json") if layers else None,
        "quantum_layers": layers,
    }
