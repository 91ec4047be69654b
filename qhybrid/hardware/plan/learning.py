"""The job that learns the noise of a layout's layers: one chunk of the plan, without points, before others.

noise_layers.json, beside the circuits of a layout, holds the layers and the price of learning them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qhybrid.errors import HardwareError, QHybridError
from qhybrid.hardware.circuits.noise_layers import NoiseWork
from qhybrid.hardware.circuits.prepared import PreparedCircuit
from qhybrid.hardware.circuits.readout_calibration import READOUT_KEY
from qhybrid.hardware.ledger import Chunk
from qhybrid.hardware.model.kept_files import is_kept
from qhybrid.hardware.service_kinds import rules_of
from qhybrid.hardware.services.backends import open_backend
from qhybrid.hardware.services.interface import Backend
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.workspace import write_text

LAYERS_FILE = "noise_layers.json"


def noise_work_of(
    circuits: Mapping[str, PreparedCircuit], backend: Backend, settings: HardwareSettings
) -> NoiseWork | None:
    """Return the layers of circuits whose noise is raised, and what learning them costs; None if none is.

    Args:
        circuits: Circuits by key.
        backend: The device.
        settings: Mitigation and prices.

    Raises:
        HardwareError: If it is beyond the limits of a job.
    """
    if not settings.mitigation.pea or backend.device is None:
        return None
    own = [one for key, one in circuits.items() if key != READOUT_KEY]
    rules, most = rules_of(settings), settings.limits.executions
    found = rules.noise_work(own, backend.device, settings)
    if rules.learns and found.executions > most:
        raise HardwareError(
            f"Learning the noise of {len(found.layers)} layers must fit a job, but takes "
            f"{found.executions:,} executions where `limits.executions` is {most:,}. Fix: fewer of "
            "mitigation.learning.randomizations, shots or depths; nothing was sent."
        )
    return found


def learning_chunk(number: int, round_: int, work: NoiseWork, layout: int = 0) -> Chunk:
    """Return the chunk of a job that learns."""
    return Chunk(number, round_, (), work.seconds, layout=layout)


def learning_facts(work: NoiseWork, settings: HardwareSettings) -> dict[str, Any]:
    """Return what a plan says of the learning: layers, numbers, price, and whether it is done."""
    learned = rules_of(settings).learns
    return {
        "layers": len(work.layers),
        **settings.mitigation.learning.model_dump(mode="json"),
        "executions": work.executions,
        "qpu_seconds": round(work.seconds, 2),
        "noise": "learned" if learned else "computed from the calibration, not learned",
    }


def save_noise_work(folder: Path, work: NoiseWork) -> None:
    """Write the layers of a layout beside its circuits."""
    write_text(folder / LAYERS_FILE, json.dumps(work.as_json()) + "\n")


def load_noise_work(
    folder: Path,
    settings: HardwareSettings,
    content: Mapping[str, Any],
    circuits: Mapping[str, PreparedCircuit],
    learned: Mapping[str, Any],
    say: Callable[[str], None],
) -> NoiseWork | None:
    """Read the layers of a layout; None where nothing is learned. A file that is lost is made again.

    Args:
        folder: The plan's folder, or that of a layout.
        settings: The plan's settings.
        content: The plan's plan.json, or what it says of the layout.
        circuits: The circuits that the layers were found in, in their order then.
        learned: What the plan says of the learning.
        say: Called with a sentence if the file had to be made again.

    Raises:
        HardwareError: If the file is missing or damaged, and the device is not what it was.
    """
    if not (settings.mitigation.pea and rules_of(settings).learns):
        return None
    file, problem = folder / LAYERS_FILE, "it has changed"
    try:
        if is_kept(folder, LAYERS_FILE, content):
            return NoiseWork.from_json(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        problem = str(error)
    try:
        found = noise_work_of(circuits, open_backend(settings), settings) if circuits else None
    except QHybridError as error:
        found, problem = None, f"{problem}; the device that it could be made again from: {error}"
    facts = {} if found is None else learning_facts(found, settings)
    if found is not None and {key: facts.get(key) for key in learned} == learned:
        damaged = file.read_bytes() if file.is_file() else None
        save_noise_work(folder, found)
        if is_kept(folder, LAYERS_FILE, content):
            say(f"{file} was lost or damaged and is made again from the plan's circuits and the device")
            return found
        file.unlink() if damaged is None else file.write_bytes(damaged)
        problem = f"{problem}; the device's couplings or gates are not those of the plan any more"
    raise HardwareError(
        f"{file} must hold the layers whose noise is learned, but cannot be read ({problem}). Fix: copy the "
        "plan's folder again, or make a new plan, which is paid for anew; `qhybrid hardware cancel PLAN` "
        "stops jobs that were sent."
    )
