"""Which device suits a model: predicted accuracy and cost of the same plan on several."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qhybrid.errors import QHybridError
from qhybrid.hardware.model.workload import Workload
from qhybrid.hardware.plan.planning import draft_plan
from qhybrid.hardware.settings import HardwareSettings

DEFAULT_BACKENDS = (
    "fake_torino",
    "fake_fez",
    "fake_marrakesh",
    "fake_kingston",
    "fake_boston",
    "fake_pittsburgh",
    "fake_aachen",
    "fake_nighthawk",
    "fake_berlin",
    "fake_miami",
)
"""Snapshots of Heron and Nighthawk devices."""


@dataclass(frozen=True)
class Ranked:
    """What a backend is expected to do with a workload.

    Attributes:
        backend: Its name.
        same_class: Fraction of samples or pixels with the class that the exact model gives.
        accuracy: Predicted accuracy, shots included; None without labels.
        two_qubit_gates: Of all circuits together, after routing.
        qpu_seconds: Predicted.
        problem: Why it cannot run the workload; empty if it can.
        missing: Kinds of errors that its calibration does not have at all: what is predicted is too good.
    """

    backend: str
    same_class: float = 0.0
    accuracy: float | None = None
    two_qubit_gates: int = 0
    qpu_seconds: float = 0.0
    problem: str = ""
    missing: tuple[str, ...] = ()


def rank_backends(
    workload: Workload,
    settings: HardwareSettings,
    backends: Iterable[str] = DEFAULT_BACKENDS,
    done: Callable[[Ranked], None] = lambda _ranked: None,
) -> list[Ranked]:
    """Return backends by predicted agreement with the exact model, then accuracy, then cost; best first.

    Those whose calibration lacks errors of a kind altogether come behind the others.

    Args:
        workload: Model and samples; few are enough.
        settings: Of the plan; its backend does not count.
        backends: Names.
        done: Called with each as soon as it is known.
    """
    found = []
    for name in backends:
        one = _ranked(workload, settings.model_copy(update={"backend": name, "max_qpu_seconds": None}))
        done(one)
        found.append(one)
    return sorted(
        found,
        key=lambda one: (
            bool(one.problem),
            bool(one.missing),
            -one.same_class,
            -(one.accuracy or 0.0),
            one.qpu_seconds,
        ),
    )


def _ranked(workload: Workload, settings: HardwareSettings) -> Ranked:
    try:
        content = draft_plan(workload, settings).content
    except QHybridError as error:
        return Ranked(settings.backend, problem=str(error))
    predicted = content["predicted"]
    return Ranked(
        settings.backend,
        predicted["same_class_as_exact"],
        predicted["device_and_shots"].get("accuracy"),
        sum(circuit["two_qubit_gates"] for circuit in content["circuits"].values()),
        content["qpu_seconds"],
        missing=tuple(content.get("calibration", {}).get("missing", ())),
    )
