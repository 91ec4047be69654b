"""A device: what it can execute (Qiskit's Target) and how well it did so on the day of its calibration."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from qiskit.circuit import Gate
from qiskit.transpiler import Target

from qhybrid.circuits.transpile import DEAD_ERROR, holes_of, is_known
from qhybrid.errors import ConfigError


@dataclass(frozen=True)
class QubitCalibration:
    """What was measured on one qubit; None where nothing was.

    Attributes:
        t1_us: Energy relaxation time in microseconds.
        t2_us: Dephasing time in microseconds, as reported: it may exceed 2 T1.
        readout_p01: Probability to read 0 after preparing 1.
        readout_p10: Probability to read 1 after preparing 0.
        readout_error: Mean of both, as the target reports it.
    """

    t1_us: float | None
    t2_us: float | None
    readout_p01: float | None
    readout_p10: float | None
    readout_error: float | None


@dataclass(frozen=True)
class GateCalibration:
    """What was measured of one gate.

    Attributes:
        name: Qiskit's name.
        qubits: The qubits it acts on.
        error: 1 - average gate fidelity, relaxation included; None where nothing was measured.
        ns: Duration in nanoseconds; None where it is not known.
    """

    name: str
    qubits: tuple[int, ...]
    error: float | None
    ns: float | None


@dataclass(frozen=True)
class Device:
    """Target and calibration of one backend.

    Attributes:
        name: The backend's name.
        target: What it can execute, with its errors and durations.
        qubits: One calibration a qubit.
        gates: One calibration for every gate on every qubit or pair; no measurements, resets and delays.
        source: Where the numbers come from.
        date: Day of the calibration (ISO), "" where it is not known.
    """

    name: str
    target: Target
    qubits: tuple[QubitCalibration, ...]
    gates: tuple[GateCalibration, ...]
    source: str
    date: str

    @classmethod
    def from_backend(cls, backend: Any, source: str = "") -> Device:
        """Read a backend: a fake one, or a real one whose calibration the service reports.

        Args:
            backend: A Qiskit BackendV2.
            source: Where the numbers come from; the backend's name if absent.

        Raises:
            ConfigError: If it is no BackendV2.
        """
        target = getattr(backend, "target", None)
        if not isinstance(target, Target) or target.num_qubits is None:
            raise ConfigError(
                f"Argument `backend` must be a Qiskit BackendV2 with a target, but is {backend!r}. Fix: give "
                "a backend, or the name of a fake one (see `qhybrid noise devices`)."
            )
        properties = _properties(backend)
        return cls(
            name=str(backend.name),
            target=target,
            qubits=tuple(_qubit(target, properties, qubit) for qubit in range(target.num_qubits)),
            gates=tuple(_gates(target)),
            source=source or f"backend {backend.name}",
            date=_date(properties),
        )

    @property
    def num_qubits(self) -> int:
        """Number of qubits."""
        return len(self.qubits)

    @property
    def basis_gates(self) -> tuple[str, ...]:
        """Names of its gates."""
        return tuple(sorted({gate.name for gate in self.gates}))

    @property
    def two_qubit_gates(self) -> tuple[GateCalibration, ...]:
        """Gates on pairs."""
        return tuple(gate for gate in self.gates if len(gate.qubits) == 2)

    @property
    def dead_edges(self) -> tuple[tuple[int, ...], ...]:
        """Pairs whose two-qubit gate is out of order."""
        return tuple(gate.qubits for gate in self.two_qubit_gates if (gate.error or 0.0) >= DEAD_ERROR)

    @property
    def holes(self) -> tuple[str, ...]:
        """Qubits and gates that routing avoids because nothing, or not all, is known of them."""
        qubits, pairs = holes_of(self.target)
        named = [f"{name} {' '.join(map(str, places))}" for name, places in sorted(pairs)]
        return (*(f"qubit {qubit}" for qubit in sorted(qubits)), *named)

    @property
    def silent(self) -> tuple[str, ...]:
        """Kinds of values that the calibration gives nowhere: nothing avoids or assumes them."""
        names = sorted({gate.name for gate in self.gates})
        values: dict[str, list[float | None]] = {
            **{f"errors of {name}": [g.error for g in self.gates if g.name == name] for name in names},
            "read-out errors": [one.readout_error for one in self.qubits],
            "T1": [one.t1_us for one in self.qubits],
            "T2": [one.t2_us for one in self.qubits],
        }
        return tuple(kind for kind, known in values.items() if all(one is None for one in known))


def _properties(backend: Any) -> Any:
    """Return the backend's calibration report, None if it has none."""
    read = getattr(backend, "properties", None)
    return read() if callable(read) else None


def _date(properties: Any) -> str:
    date = getattr(properties, "last_update_date", None)
    return date.date().isoformat() if isinstance(date, datetime.datetime) else ""


def _qubit(target: Target, properties: Any, qubit: int) -> QubitCalibration:
    known = (target.qubit_properties or [None] * target.num_qubits)[qubit]
    measured = (target["measure"] or {}).get((qubit,)) if "measure" in target.operation_names else None
    error = None if measured is None else _rate(measured.error)
    report = {} if properties is None else properties.qubit_property(qubit)
    p01, p10 = (_rate(report.get(key, (None,))[0]) for key in ("prob_meas0_prep1", "prob_meas1_prep0"))
    return QubitCalibration(
        t1_us=_time(getattr(known, "t1", None), 1e6),
        t2_us=_time(getattr(known, "t2", None), 1e6),
        readout_p01=p01 if is_known(p01) or "prob_meas0_prep1" in report else error,
        readout_p10=p10 if is_known(p10) or "prob_meas1_prep0" in report else error,
        readout_error=error,
    )


def _gates(target: Target) -> list[GateCalibration]:
    found = []
    for name in sorted(target.operation_names):
        places = target[name]
        if places is None or not isinstance(target.operation_from_name(name), Gate):
            continue
        for qubits, measured in sorted(places.items()):
            error, duration = (None, None) if measured is None else (measured.error, measured.duration)
            seconds = _known(duration)
            ns = None if seconds is None else seconds * 1e9
            found.append(GateCalibration(name, tuple(qubits), _known(error), ns))
    return found


def _known(value: float | None) -> float | None:
    """Return a number that was measured; None for what is no number."""
    return value if is_known(value) else None


def _rate(value: float | None) -> float | None:
    """Return a probability that was measured; None for what is none."""
    return value if value is not None and is_known(value) and value <= 1 else None


def _time(seconds: float | None, factor: float) -> float | None:
    """Return a decay time in another unit; zero means that nothing was measured."""
    return seconds * factor if seconds is not None and is_known(seconds) and seconds > 0 else None
