"""From raw results to expectation values with error bars, offline."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from qhybrid.engines.mitigation import extrapolation_coefficients
from qhybrid.engines.mitigation.readout import SMALLEST_SLOPE
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.noise_layers import LearnedNoise, NoiseWork, checked_noise
from qhybrid.hardware.circuits.preparation import z_strings
from qhybrid.hardware.circuits.prepared import MARK, Copy, PreparedCircuit
from qhybrid.hardware.circuits.readings import Readings
from qhybrid.hardware.circuits.readout_calibration import READOUT_KEY, MeasuredReadout, measured_readout
from qhybrid.hardware.pub_results import PubResult, read_neutral
from qhybrid.hardware.service_kinds import rules_of
from qhybrid.hardware.settings import HardwareSettings, device_form
from qhybrid.noise import NoiseProfile

Array = NDArray[np.float64]


class Estimates:
    """Means and standard errors of a circuit's strings for some points.

    Attributes:
        means: Shape (B, T).
        errors: Shape (B, T).
    """

    def __init__(self, means: Array, errors: Array) -> None:
        self.means, self.errors = means, errors


def decode_chunk(
    raw: str, blocks: list[tuple[PreparedCircuit, int]], settings: HardwareSettings
) -> list[Estimates]:
    """Return the estimates of a chunk.

    Args:
        raw: The result as the service sent it.
        blocks: The circuits that the job executed and how many points of each; at the end those that
            measured its read-out errors, if any.
        settings: Shots and mitigation.

    Returns:
        One for each block but those, in the order of its points.

    Raises:
        HardwareError: If the text is no complete result of that job.
    """
    try:
        pubs = _read_pubs(raw, settings)
        sent = sum(len(circuit.variants) for circuit, _ in blocks)
        if sent != len(pubs):
            raise ValueError(f"{len(pubs)} circuits came back, but {sent} were sent")
        parts, calibration, place = [], [], 0
        for circuit, points in blocks:
            own = pubs[place : place + len(circuit.variants)]
            place += len(own)
            if circuit.key == READOUT_KEY:
                calibration += own
            else:
                parts.append((circuit, points, own))
        rates = measured_readout(blocks[-1][0], calibration, settings) if calibration else None
        return [estimates_from(circuit, points, own, settings, rates) for circuit, points, own in parts]
    except HardwareError:
        raise
    except Exception as error:  # whatever a damaged text does to a decoder of the client
        raise HardwareError(
            f"A result must decode completely, but does not ({type(error).__name__}: "
            f"{str(error)[:200]}). Fix: "
            "collect again; nothing is executed for that."
        ) from None


def decode_noise(raw: str, work: NoiseWork, settings: HardwareSettings) -> LearnedNoise:
    """Return what a job has learned.

    Args:
        raw: The result as the service sent it.
        work: What it was to learn.
        settings: The plan's settings.

    Raises:
        HardwareError: If the text is no complete result of that job.
    """
    try:
        return checked_noise(work, rules_of(settings).read_noise(raw))
    except HardwareError:
        raise
    except Exception as error:  # whatever a damaged text does to a decoder of the client
        raise HardwareError(
            f"What was learned of the noise must decode completely, but does not ({type(error).__name__}: "
            f"{str(error)[:200]}). Fix: collect again; nothing is executed for that."
        ) from None


def mark_of(raw: str) -> str | None:
    """Return the mark of the request that a raw result says it is of; None if it says nothing, or several."""
    found = set(re.findall(MARK + "[0-9a-f]{32}", raw))
    return found.pop() if len(found) == 1 else None


def observables_from(circuit: PreparedCircuit, means: Array) -> Array:
    """Return observables, shape (B, n_obs), from means of the circuit's strings, shape (B, T)."""
    return np.asarray(means @ circuit.strings.coefficients.T + circuit.strings.offsets)


def observable_errors(circuit: PreparedCircuit, errors: Array) -> Array:
    """Return standard errors of observables from those of their strings.

    Strings of one basis are read in the same shots and may err together: what they add up to is a bound.
    Those of different bases are independent.
    """
    factors = np.abs(circuit.strings.coefficients)
    total = np.zeros((len(errors), len(factors)))
    for group in {variant.group: None for variant in circuit.variants}:
        total += (errors[:, list(group)] @ factors[:, list(group)].T) ** 2
    return np.asarray(np.sqrt(total))


def _read_pubs(raw: str, settings: HardwareSettings) -> list[PubResult]:
    """Return what came back for every measured circuit, in a form that belongs to no service."""
    neutral = read_neutral(raw)
    return rules_of(settings).read(raw) if neutral is None else neutral


def estimates_from(
    circuit: PreparedCircuit,
    points: int,
    pubs: Sequence[PubResult],
    settings: HardwareSettings,
    rates: MeasuredReadout | None = None,
) -> Estimates:
    """Return the estimates of a circuit from what came back for each of its variants.

    Args:
        circuit: The circuit.
        points: Number of points.
        pubs: For every variant bits of shape (B', shots, n), or {"means": one array a copy}.
        settings: Shots and mitigation.
        rates: Read-out errors that the job measured; absent: those of the calibration.
    """
    circuit = circuit if rates is None else rates.applied(circuit)
    size = len(circuit.strings.strings)
    folds = sorted({variant.factor for variant in circuit.variants})
    for pub in pubs:
        _check_shape(circuit, points, pub)
    means = np.zeros((len(folds), points, size))
    variances = np.zeros((len(folds), points, size))
    # Errors of the measured rates are the same at all factors, so they are added up before they are squared.
    shared = np.zeros((len(folds), 0 if rates is None else 2 * len(circuit.copies[0].physical), points, size))
    for index, (variant, pub) in enumerate(zip(circuit.variants, pubs, strict=True)):
        for number, copy in enumerate(circuit.copies):
            rows = np.arange(number, points, len(circuit.copies))
            mean, variance, by_rates = _copy_estimates(circuit, index, number, copy, pub, settings, rates)
            fold = folds.index(variant.factor)
            where = np.ix_(rows, np.asarray(variant.group))
            means[fold][where] = mean[: len(rows)]
            variances[fold][where] = variance[: len(rows)]
            for kind, errors in enumerate(by_rates):
                shared[fold, kind][where] = errors[: len(rows)]
    if settings.mitigation.method is not None:
        repeated = tuple(round(one) for one in folds)
        variances = variances + (shared**2).sum(axis=1)
        return _by_method(settings.mitigation.method, circuit, repeated, means, variances)
    factors = np.ones(1) if len(folds) == 1 else np.asarray(extrapolation_coefficients(folds, "linear"))
    total = np.einsum("f,fbt->bt", factors, means)
    spread = np.einsum("f,fbt->bt", factors**2, variances)
    return Estimates(total, np.sqrt(spread + (np.einsum("f,fkbt->kbt", factors, shared) ** 2).sum(axis=0)))


def _check_shape(circuit: PreparedCircuit, points: int, pub: PubResult) -> None:
    """Check that as many parameter sets and bits came back as were sent: more are those of another job.

    Raises:
        ValueError: If not.
    """
    copies = len(circuit.copies)
    if isinstance(pub, Mapping):
        if len(pub["means"]) != copies:
            raise ValueError(f"means of {len(pub['means'])} copies came back, not of {copies}")
        return
    shape, sets = np.shape(pub), -(-points // copies)
    # A circuit that depends on no angle has no dimension of parameter sets.
    found = (int(np.prod(shape[:-2])) if len(shape) > 2 else sets, shape[-1] if shape else 0)
    sent = (sets, copies * len(circuit.copies[0].physical))
    if len(shape) < 2 or found != sent:
        raise ValueError(f"bits of shape {list(shape)} came back, not {sent[1]} of {sent[0]} parameter sets")


def _by_method(
    name: str, circuit: PreparedCircuit, folds: tuple[int, ...], means: Array, variances: Array
) -> Estimates:
    """Return the estimates of a plugin's mitigation, place by place.

    Args:
        name: The mitigation.
        circuit: The circuit.
        folds: Factors of the two-qubit gates.
        means: Means of the strings, shape (F, B, T).
        variances: Their variances, shape (F, B, T).

    Raises:
        HardwareError: If the mitigation fails, or its values are not finite or of another shape.
    """
    estimate = device_form(name).estimate
    if estimate is None:
        raise HardwareError(
            f"Mitigation `{name}` must have an estimate of its own on hardware, but has none."
        )
    plain = [index for index, variant in enumerate(circuit.variants) if variant.fold == folds[0]]
    groups = tuple(circuit.variants[index].group for index in plain)
    total, spread = np.zeros(means.shape[1:]), np.zeros(means.shape[1:])
    for number, copy in enumerate(circuit.copies):
        rows = np.arange(number, means.shape[1], len(circuit.copies))
        if not len(rows):
            continue
        circuits = tuple(copy.specs[index] for index in plain)
        readings = Readings(folds, means[:, rows], variances[:, rows], circuits, groups, copy.noise)
        try:
            found, variance = (np.asarray(part, dtype=np.float64) for part in estimate(readings))
        except Exception as error:  # anything may go wrong in code of others
            raise HardwareError(f"Mitigation `{name}` fails: {type(error).__name__}: {error}") from error
        wanted = means[0, rows].shape
        if {found.shape, variance.shape} != {wanted} or not np.isfinite([found, variance]).all():
            raise HardwareError(
                f"Mitigation `{name}` must return finite means and variances of shape {wanted}, but returns "
                f"shapes {found.shape} and {variance.shape}."
            )
        total[rows], spread[rows] = found, variance
    return Estimates(total, np.sqrt(spread))


def _copy_estimates(
    circuit: PreparedCircuit,
    index: int,
    number: int,
    copy: Copy,
    pub: PubResult,
    settings: HardwareSettings,
    rates: MeasuredReadout | None,
) -> tuple[Array, Array, Array]:
    """Return mean and variance of the group's strings on one copy, each of shape (B', G).

    The last array, of shape (2 qubits, B', G), holds the errors of means by those of measured rates.
    """
    variant = circuit.variants[index]
    strings = z_strings(circuit.strings, variant, settings.mitigation.readout)
    shots, between = settings.shots, dict[tuple[tuple[int, int], ...], Array]()
    if isinstance(pub, Mapping):
        raw = np.asarray(pub["means"][number], dtype=np.float64)
        if (
            raw.shape[1] != len(strings)
            or not np.isfinite(raw).all()
            or np.abs(raw).max(initial=0) > 1 + 1e-6
        ):
            raise ValueError("means of strings are missing or beyond [-1, 1]")
    else:
        qubits = len(copy.physical)
        bits = np.asarray(pub)[..., number * qubits : (number + 1) * qubits]
        if bits.shape[-2] < shots or bits.shape[-1] != qubits:
            raise ValueError(
                f"{bits.shape[-2]} shots of {bits.shape[-1]} bits came back, not {shots} of {qubits}"
            )
        bits = bits.reshape(-1, *bits.shape[-2:])
        shots = bits.shape[1]
        raw = np.stack([_string_means(bits, [q for q, _ in string]) for string in strings], axis=1)
        if variant.noise != 1 and (divided := settings.mitigation.division(settings.shots)) is not None:
            between = {one: _between(bits, [q for q, _ in one], divided[0]) for one in strings}
    place = {string: position for position, string in enumerate(strings)}
    group = [tuple((q, 3) for q, _ in circuit.strings.strings[t]) for t in variant.group]
    means, variances, by_rates = [], [], []
    for string in group:
        mean, scale = raw[:, place[string]], 1.0
        spread = np.clip(1 - raw[:, place[string]] ** 2, 1 / shots, None) / shots
        spread = np.maximum(spread, between.get(string, 0.0))
        if settings.mitigation.readout and copy.noise is not None:
            mean, scale = _corrected(string, raw, place, copy.noise)
            spread = spread * scale**2
        found = np.zeros((0 if rates is None else 2 * len(copy.physical), len(raw)))
        if settings.mitigation.readout and copy.noise is not None and rates is not None:
            _add_rate_errors(found, string, mean, raw, place, copy.noise, rates)
        means.append(mean)
        variances.append(spread)
        by_rates.append(found)
    return np.stack(means, axis=1), np.stack(variances, axis=1), np.stack(by_rates, axis=2)


def _string_means(bits: NDArray[np.bool_], qubits: list[int]) -> Array:
    parity = np.logical_xor.reduce(bits[..., qubits], axis=-1)
    return np.asarray(1.0 - 2.0 * parity.mean(axis=-1))


def _between(bits: NDArray[np.bool_], qubits: list[int], versions: int) -> Array:
    """Return the variance of a string's mean by how random versions of its circuit differ.

    Errors that are put in are drawn once a version: its shots are not independent of each other. Shots of one
    version follow those of another; a last one that is not whole is left out.
    """
    each = -(-bits.shape[1] // versions)
    whole = bits.shape[1] // each
    if whole < 2:
        return np.zeros(len(bits))
    parity = np.logical_xor.reduce(bits[:, : whole * each, qubits], axis=-1).reshape(len(bits), whole, each)
    return np.asarray((1.0 - 2.0 * parity.mean(axis=-1)).var(axis=1, ddof=1) / whole)


def _add_rate_errors(
    found: Array,
    string: tuple[tuple[int, int], ...],
    mean: Array,
    raw: Array,
    place: dict[tuple[tuple[int, int], ...], int],
    noise: NoiseProfile,
    rates: MeasuredReadout,
) -> None:
    """Enter the errors, signed, that a corrected mean z has by those of each measured rate.

    With z' the mean of the string without a qubit and s = 1 - p01 - p10 of that qubit,
    dz/dp01 = (z - z') / s and dz/dp10 = (z + z') / s.
    """
    for one in string:
        p01, p10 = noise.readout(one[0])
        rest = tuple(other for other in string if other != one)
        without = _corrected(rest, raw, place, noise)[0] if rest else 1.0
        contrast = 1 - p01 - p10
        found[2 * one[0]] = (mean - without) / contrast * np.sqrt(rates.variance(p01))
        found[2 * one[0] + 1] = (mean + without) / contrast * np.sqrt(rates.variance(p10))


def _corrected(
    string: tuple[tuple[int, int], ...],
    raw: Array,
    place: dict[tuple[tuple[int, int], ...], int],
    noise: NoiseProfile,
) -> tuple[Array, float]:
    """Undo read-out errors: z = (m - c) / s on every qubit, with m = s z + c on average.

    Reading gives s = 1 - p01 - p10 and c = p01 - p10.

    Raises:
        HardwareError: If a qubit reads 0 and 1 alike.
    """
    shifts, scale = [], 1.0
    for qubit, _ in string:
        p01, p10 = noise.readout(qubit)
        if abs(1 - p01 - p10) < SMALLEST_SLOPE:
            raise HardwareError(
                f"Qubit {qubit} of noise profile `{noise.name}` must be read with some success for its "
                "read-out errors to be corrected, but reads 0 and 1 alike. Fix: other qubits."
            )
        shifts.append(p01 - p10)
        scale *= 1 - p01 - p10
    total = np.zeros(len(raw))
    for mask in range(2 ** len(string)):
        kept = tuple(one for bit, one in enumerate(string) if mask >> bit & 1)
        factor = np.prod([-shift for bit, shift in enumerate(shifts) if not mask >> bit & 1])
        total += factor * (raw[:, place[kept]] if kept else 1.0)
    return total / scale, 1 / scale
