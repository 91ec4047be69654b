"""Layouts of a plan: the one that it was made with, and later ones that what was not sent yet is mapped to.

layouts/N holds the circuits of layout N from 1 and the calibration that it was chosen by; layout 0 is the
plan's own. The ledger says which chunk has which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import ConfigError, HardwareError
from qhybrid.hardware.circuits.noise_layers import NoiseWork
from qhybrid.hardware.circuits.prepared import PreparedCircuit
from qhybrid.hardware.circuits.readout_calibration import READOUT_KEY
from qhybrid.hardware.model.kept_files import FILES, check_kept
from qhybrid.hardware.plan.learning import load_noise_work, save_noise_work
from qhybrid.hardware.plan.plan_files import CALIBRATION_FILE, CIRCUITS, load_circuits, save_circuit
from qhybrid.hardware.services.local import SIMULATOR
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.noise import NoiseProfile
from qhybrid.workspace import atomic_folder

LAYOUTS = "layouts"
Circuits = dict[str, PreparedCircuit]


def load_layouts(
    folder: Path,
    settings: HardwareSettings,
    content: Mapping[str, Any],
    say: Callable[[str], None] = lambda _text: None,
) -> tuple[dict[str, CircuitSpec], dict[int, Circuits], dict[int, NoiseWork]]:
    """Read all circuits of a plan.

    Args:
        folder: The plan's folder.
        settings: Its settings.
        content: Its plan.json.
        say: Called with a sentence if a file had to be made again.

    Returns:
        The circuits as the layers have them by key, those that are sent by layout and key, and by layout
        what is learned of the noise.

    Raises:
        HardwareError: If a file is missing or damaged, and cannot be made again.
    """
    learned: dict[str, Any] = content.get("noise_learning", {})
    facts: dict[int, Mapping[str, Any]] = {one["layout"]: one for one in content.get("layouts", ())}
    bound: dict[str, CircuitSpec] = {}
    layouts: dict[int, Circuits] = {}
    learning: dict[int, NoiseWork] = {}
    for number, place in _places(folder, facts):
        own: Mapping[str, Any] = facts.get(number, {}) if number else content
        check_kept(place, own, CIRCUITS, CALIBRATION_FILE)
        needed = FILES not in content and settings.service is None and settings.backend != SIMULATOR
        found, layouts[number] = load_circuits(place, settings, _calibration(place, needed))
        _check_whole(place, own, layouts[number])
        bound = bound or found
        circuits = {key: layouts[number][key] for key in own.get("circuits", ())}
        work = load_noise_work(place, settings, own, circuits, {} if number else learned, say)
        learning |= {} if work is None else {number: work}
    return bound, layouts, learning


def _places(folder: Path, known: Iterable[int]) -> list[tuple[int, Path]]:
    """Return numbers and folders of all layouts: those that are there, and those that the plan names."""
    there = {int(place.name) for place in (folder / LAYOUTS).glob("[0-9]*")}
    return [(0, folder), *((number, folder / LAYOUTS / str(number)) for number in sorted({*there, *known}))]


def _check_whole(folder: Path, content: Mapping[str, Any], circuits: Circuits) -> None:
    """Check that all circuits are there, of plans that do not say which files they have, too.

    Raises:
        HardwareError: If one is not.
    """
    measures = [READOUT_KEY] if content.get("readout_calibration") else []
    lacking = [key for key in [*content.get("circuits", ()), *measures] if key not in circuits]
    if lacking:
        raise HardwareError(
            f"{folder / CIRCUITS} must hold all circuits of the plan, but `{lacking[0]}` is not there. Fix: "
            "copy the plan's folder again, or make a new plan, which is paid for anew."
        )


def _calibration(folder: Path, needed: bool) -> NoiseProfile | None:
    """Return the calibration of a layout; None if there is none.

    Args:
        folder: The plan's folder, or that of the layout.
        needed: Whether there must be one, though plan.json does not say so.

    Raises:
        HardwareError: If it is damaged.
    """
    file = folder / CALIBRATION_FILE
    try:
        return NoiseProfile.load(file) if needed or file.is_file() else None
    except ConfigError as error:
        raise HardwareError(
            f"{file} must hold the calibration that the plan was made with, but cannot be read: {error} Fix: "
            "copy the plan's folder again, or make a new plan, which is paid for anew."
        ) from error


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
