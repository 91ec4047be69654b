"""Layouts of a plan: the one that it was made with, and later ones that what was not sent yet is mapped to.

layouts/N holds the circuits of layout N from 1 and the calibration that it was chosen by; layout 0 is the
plan's own. The ledger says which chunk has which.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.hardware.circuits.noise_layers import NoiseWork
from qhybrid.hardware.circuits.prepared import PreparedCircuit
from qhybrid.hardware.plan.learning import load_noise_work, save_noise_work
from qhybrid.hardware.plan.plan_files import CALIBRATION_FILE, load_circuits, save_circuit
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.noise import NoiseProfile
from qhybrid.workspace import atomic_folder

LAYOUTS = "layouts"
Circuits = dict[str, PreparedCircuit]


def load_layouts(
    folder: Path, settings: HardwareSettings
) -> tuple[dict[str, CircuitSpec], dict[int, Circuits], dict[int, NoiseWork]]:
    """Read all circuits of a plan.

    Returns:
        The circuits as the layers have them by key, those that are sent by layout and key, and by layout
        what is learned of the noise.

    Raises:
        HardwareError: If a file is missing or damaged.
    """
    bound, own = load_circuits(folder, settings, _calibration(folder))
    layouts, learning = {0: own}, {0: load_noise_work(folder, settings)}
    for place in sorted((folder / LAYOUTS).glob("[0-9]*"), key=lambda place: int(place.name)):
        _, layouts[int(place.name)] = load_circuits(place, settings, _calibration(place))
        learning[int(place.name)] = load_noise_work(place, settings)
    return bound, layouts, {number: work for number, work in learning.items() if work is not None}


def _calibration(folder: Path) -> NoiseProfile | None:
    file = folder / CALIBRATION_FILE
    return NoiseProfile.load(file) if file.is_file() else None


def save_layout(
    folder: Path,
    number: int,
    circuits: Mapping[str, PreparedCircuit],
    bound: Mapping[str, CircuitSpec],
    noise: NoiseProfile | None,
    work: NoiseWork | None = None,
) -> None:
    """Write a layout, whole or not at all."""
    (folder / LAYOUTS).mkdir(exist_ok=True)
    with atomic_folder(folder / LAYOUTS / str(number)) as temporary:
        for key, circuit in circuits.items():
            save_circuit(temporary, bound[key], circuit)
        if noise is not None:
            noise.save(temporary / CALIBRATION_FILE)
        if work is not None:
            save_noise_work(temporary, work)
