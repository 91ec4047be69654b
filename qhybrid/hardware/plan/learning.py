"""The job that learns the noise of a layout's layers: one chunk of the plan, without points, before others.

noise_layers.json, beside the circuits of a layout, holds the layers and the price of learning them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.noise_layers import NoiseWork
from qhybrid.hardware.circuits.prepared import PreparedCircuit
from qhybrid.hardware.circuits.readout_calibration import READOUT_KEY
from qhybrid.hardware.ledger import Chunk
from qhybrid.hardware.service_kinds import rules_of
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


def load_noise_work(folder: Path, settings: HardwareSettings) -> NoiseWork | None:
    """Read the layers of a layout; None where nothing is learned.

    Raises:
        HardwareError: If the file is missing or damaged.
    """
    if not (settings.mitigation.pea and rules_of(settings).learns):
        return None
    try:
        return NoiseWork.from_json(json.loads((folder / LAYERS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HardwareError(
            f"{folder / LAYERS_FILE} must hold the layers whose noise is learned, but cannot be read "
            f"({error}). Fix: copy the plan's folder again, or make a new plan."
        ) from error
