"""Error mitigation by name: what sweeps, hardware plans and reports call it, and how it is done.

A method has a form for engines (simulation) and, where it is possible, one for results of a device.
`qhybrid.engines.register_mitigation` adds others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qhybrid.errors import EngineError, PluginError
from qhybrid.plugins import Registry, resolved

NONE = "none"


@dataclass(frozen=True)
class DeviceForm:
    """How a method is done on hardware: from the results of the circuits, and of stretched ones if wanted.

    Attributes:
        readout: Whether read-out errors are corrected first, with the device's calibration.
        folds: Factors by which every two-qubit gate is repeated, odd numbers from 1. The circuits of each
            factor are executed and paid for; empty stands for the plain circuits alone.
        estimate: Function of a `qhybrid.hardware.circuits.readings.Readings`, what was read on one place
            of the device, that returns means and variances of its strings, each of shape (B, T). Absent:
            linear extrapolation over the factors.
    """

    readout: bool = False
    folds: tuple[int, ...] = ()
    estimate: Callable[[Any], tuple[Any, Any]] | None = None


@dataclass(frozen=True)
class MitigationMethod:
    """One method of error mitigation.

    Attributes:
        label: What tables and charts call it.
        description: One line for lists.
        needs: What it has to know, or to execute more than the circuit itself.
        wrap: Function that returns the mitigated engine, or `module:name` of one that is imported when
            needed. Its arguments are `make`, which makes the engine of a noise profile and of a number from 0
            (so that each execution can have its own seed), the profile, and the options below.
        options: Section of a sweep file whose keys are further arguments; empty for none.
        executions: How often as many shots as a plain estimate takes are needed: a number, or a function of
            the options.
        version: To be counted up when the same conditions give other numbers, so that a sweep computes them
            again.
        device: How it is done on hardware; None where it cannot be.
    """

    label: str
    description: str
    needs: str
    wrap: Callable[..., Any] | str
    options: str = ""
    executions: int | Callable[[Mapping[str, Any]], int] = 1
    version: int = 1
    device: DeviceForm | None = None

    def engine(self, make: Callable[..., Any], profile: Any, **options: Any) -> Any:
        """Return the mitigated engine."""
        return resolved(self.wrap)(make, profile, **options)

    def times(self, settings: Mapping[str, Any]) -> int:
        """Return how many times the shots of a plain estimate it takes.

        Args:
            settings: Sections of a sweep by name.
        """
        if isinstance(self.executions, int):
            return self.executions
        return self.executions(settings[self.options] if self.options else {})


MITIGATIONS: Registry[MitigationMethod] = Registry("mitigation", EngineError)


def register_mitigation(
    name: str,
    wrap: Callable[..., Any],
    *,
    label: str,
    description: str = "",
    needs: str = "",
    executions: int = 1,
    version: int = 1,
    device: DeviceForm | None = None,
    replace: bool = False,
) -> None:
    """Make a mitigation known to sweeps, hardware plans and reports.

    Args:
        name: Its name in sweep files and for `qhybrid hardware --mitigation`.
        wrap: Function `(make, profile) -> Engine`; see `MitigationMethod`.
        label: What tables and charts call it; no other method has the same.
        description: One line for lists.
        needs: What it has to know, or to execute more than the circuit itself.
        executions: How often as many shots as a plain estimate takes are needed.
        version: To be counted up when it gives other numbers.
        device: How it is done on hardware; absent where it cannot be.
        replace: Whether it may take the place of another one.

    Raises:
        PluginError: If a name or label is taken, or a number is out of range.
    """
    others = {one.label: other for other, one in MITIGATIONS.items() if other != name}
    if not label or label in others:
        raise PluginError(
            f"Mitigation `{name}` must have a label of its own, but has {label!r}"
            f"{f', as `{others[label]}` has' if label in others else ''}. Fix: label='...'."
        )
    if executions < 1 or version < 1:
        raise PluginError(
            f"Mitigation `{name}` must have `executions` and `version` of at least 1, but has {executions} "
            f"and {version}."
        )
    if device is not None:
        _check_folds(name, device.folds)
    method = MitigationMethod(label, description, needs, wrap, "", executions, version, device)
    MITIGATIONS.register(name, method, replace=replace)


def mitigation_label(name: str) -> str:
    """Return what tables call a mitigation; its name if it is not known here."""
    return MITIGATIONS.get(name).label if name in MITIGATIONS else name


def check_mitigation(name: str) -> str:
    """Return the name of a mitigation that is known.

    Raises:
        EngineError: If it is not; the message has a near name.
    """
    MITIGATIONS.get(name)
    return name


def _check_folds(name: str, folds: Sequence[int]) -> None:
    odd = all(fold >= 1 and fold % 2 == 1 for fold in folds)
    if folds and (not odd or 1 not in folds or len(folds) < 2 or len(set(folds)) < len(folds)):
        raise PluginError(
            f"Mitigation `{name}`: `folds` must be empty, or 1 and other odd numbers, each once, but are "
            f"{list(folds)}."
        )


def _strengths(options: Mapping[str, Any]) -> int:
    return len(options["scales"])


_METHODS = "qhybrid.engines.mitigation.methods"
for _name, _method in {
    NONE: MitigationMethod(
        "no mitigation", "values as they are read", "nothing", f"{_METHODS}:plain", device=DeviceForm()
    ),
    "readout": MitigationMethod(
        "read-out correction",
        "undoes read-out errors by their known rates",
        "the read-out errors of the profile, or of the device's calibration",
        f"{_METHODS}:readout_corrected",
        device=DeviceForm(readout=True),
    ),
    "zne": MitigationMethod(
        "zero-noise extrapolation",
        "executes the circuit at several strengths of noise and continues to none",
        "the shots of a plain estimate for every strength",
        f"{_METHODS}:extrapolated",
        "zne",
        _strengths,
        device=DeviceForm(folds=(1, 3)),
    ),
    "readout_zne": MitigationMethod(
        "read-out correction and extrapolation",
        "read-out correction at every strength, then zero-noise extrapolation",
        "what both need",
        f"{_METHODS}:corrected_and_extrapolated",
        "zne",
        _strengths,
        device=DeviceForm(readout=True, folds=(1, 3)),
    ),
}.items():
    MITIGATIONS.register(_name, _method)
