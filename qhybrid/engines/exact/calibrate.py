"""Measure the seconds of units of work on the machine at hand, so that predictions hold there.

Small circuits of several shapes are run by every method; the constants are those with the smallest relative
errors. It takes some seconds, once a machine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import SparsePauliOp
from scipy.optimize import nnls

from qhybrid.circuits import CircuitSpec
from qhybrid.engines.exact.constants import SHIPPED, Counts, is_credible, keep_constants
from qhybrid.engines.exact.engine import ExactEngine
from qhybrid.engines.exact.native.library import kernels
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

PROBE_SECONDS = 0.1
"""Time that is spent on one circuit and method."""
LONGEST_STEP = 0.15
"""Predicted seconds of a step above which a circuit is left out."""
FEWEST_STEPS = 3
HIDDEN_PART = 0.5
"""Part of a shipped constant, scaled as the others, where measurements do not show it."""
NOISE = NoiseProfile.depolarizing(0.001, 0.01)
"""What density matrices are measured with."""
WIDEST_NOISY = 8
"""Qubits up to which they are: wider noisy circuits take long to plan."""


@dataclass(frozen=True)
class Probe:
    """A measured step.

    Attributes:
        name: Circuit, method and batch.
        counts: Its units of work.
        seconds: Shortest time of value and gradient.
    """

    name: str
    counts: Counts
    seconds: float


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Attributes:
        seconds: The constants.
        probes: The steps.
        file: Where the constants are kept.
    """

    seconds: dict[str, float]
    probes: tuple[Probe, ...]
    file: Path

    def predicted(self, probe: Probe) -> float:
        """Return what the constants say about a probe, in seconds."""
        return sum(self.seconds[name] * number for name, number in probe.counts)


def calibrate() -> Calibration:
    """Measure the constants with torch's present number of threads, and keep them in the cache folder.

    Raises:
        EngineError: If what was measured cannot be: a constant off by a factor of 1,000 from the shipped one.
        WorkspaceError: If the cache folder cannot be written.
    """
    probes = tuple(_probes())
    seconds = fitted(probes)
    for name, value in seconds.items():
        if not is_credible(name, value):
            raise EngineError(
                f"Constant `{name}` must be near {SHIPPED[name]:.1e} s, but was measured as {value:.1e} s. "
                "Fix: calibrate again when the machine has less else to do."
            )
    return Calibration(seconds, probes, keep_constants(torch.get_num_threads(), seconds))


def fitted(probes: tuple[Probe, ...]) -> dict[str, float]:
    """Return the constants with the smallest relative errors.

    Constants that no probe shows apart from others are the shipped ones, scaled as those that were found.
    """
    names = [name for name in SHIPPED if any(dict(probe.counts).get(name) for probe in probes)]
    rows = []
    for probe in probes:
        total = dict.fromkeys(names, 0.0)
        for name, number in probe.counts:
            total[name] += number
        rows.append([total[name] / probe.seconds for name in names])
    found = dict(zip(names, nnls(np.array(rows), np.ones(len(rows)))[0])) if rows else {}
    ratios = [value / SHIPPED[name] for name, value in found.items() if value > 0]
    typical = float(np.median(ratios)) if ratios else 1.0
    # A constant that came out as zero hides behind others: a part of the shipped one keeps order.
    return {name: float(found.get(name) or typical * SHIPPED[name] * HIDDEN_PART) for name in SHIPPED}


def _probes() -> Iterator[Probe]:
    for name, spec, batches, noise in _circuits():
        for method, kernel in _ways():
            if method == "density":
                if spec.num_qubits > WIDEST_NOISY:
                    continue
                engine = ExactEngine(noise or NOISE, method=method, kernel=kernel)
            elif noise is not None and method != "network":
                continue
            else:
                engine = ExactEngine(noise, method=method, kernel=kernel)
            words = method if kernel is None else f"{method} ({kernel})"
            for batch in batches:
                found = engine.explain(spec, batch)
                if found.method == method and found.seconds <= LONGEST_STEP:
                    yield Probe(f"{name}, {words}, {batch}", found.counts, _measured(engine, spec, batch))


def _ways() -> list[tuple[str, str | None]]:
    """Return every method and what executes it; compiled kernels only where they are installed."""
    ways: list[tuple[str, str | None]] = [("network", None), ("mps", None), ("statevector", "torch")]
    more: list[tuple[str, str | None]] = [("statevector", "compiled"), ("density", None)]
    return ways if kernels().library is None else [*ways, *more]


def _measured(engine: ExactEngine, spec: CircuitSpec, batch: int) -> float:
    """Return the shortest time of value and gradient, in processor time where there is one thread."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, spec.num_inputs, generator=generator).requires_grad_()
    weights = torch.randn(spec.num_weights, generator=generator).requires_grad_()
    times: list[float] = []
    while len(times) <= FEWEST_STEPS or sum(times[1:]) < PROBE_SECONDS:
        start = clock()
        value = engine.expectations(spec, inputs, weights).square().sum()
        torch.autograd.grad(value, (inputs, weights))
        times.append(max(clock() - start, 1e-9))
    return min(times[1:])


def _circuits() -> Iterator[tuple[str, CircuitSpec, tuple[int, ...], NoiseProfile | None]]:
    """Yield circuits that differ in width, depth and range, the batches they are measured for, and noise."""
    for qubits, layers, ring, wide, batches in (
        (4, 2, True, False, (1, 64, 1024)),
        (4, 20, True, False, (64, 256)),
        (6, 2, True, False, (16, 256)),
        (8, 2, True, False, (32, 256)),
        (10, 4, True, False, (1, 32)),
        (14, 2, True, False, (1,)),
        (16, 1, False, False, (1, 16)),
        (24, 2, False, True, (1, 32)),
        (40, 3, False, True, (1, 8)),
    ):
        name = f"{qubits} qubits, {layers} layers, {'ring' if ring else 'chain'}"
        yield name, _layered(qubits, layers, ring, wide), batches, None
    yield "20 qubits, 2 layers, ring", _layered(20, 2, True, False), (1,), None
    yield "6 qubits, products of inputs", _products(6), (1, 1024), None
    noise = NoiseProfile.depolarizing(0.001, 0.01)
    yield "7 qubits, 2 layers, noise", _layered(7, 2, True, False), (4, 64, 1024), noise


def _products(qubits: int) -> CircuitSpec:
    """Return a circuit whose angles are products of inputs."""
    inputs, weights = ParameterVector("x", qubits), ParameterVector("w", qubits)
    circuit = QuantumCircuit(qubits)
    for a in range(qubits):
        circuit.h(a)
        for b in range(a):
            circuit.rzz((np.pi - inputs[a]) * (np.pi - inputs[b]), a, b)
    for qubit in range(qubits):
        circuit.ry(weights[qubit], qubit)
    circuit.name = f"{qubits} qubits, products of inputs"
    observables = [SparsePauliOp("I" * q + "Z" + "I" * (qubits - 1 - q)) for q in range(qubits)]
    return CircuitSpec.from_circuit(circuit, list(inputs), list(weights), observables)


def _layered(qubits: int, layers: int, ring: bool, wide: bool) -> CircuitSpec:
    inputs, weights = ParameterVector("x", qubits), ParameterVector("w", 2 * qubits * layers)
    circuit = QuantumCircuit(qubits)
    free = iter(weights)
    for qubit in range(qubits):
        circuit.ry(inputs[qubit], qubit)
    for _ in range(layers):
        for qubit in range(qubits):
            circuit.ry(next(free), qubit)
            circuit.rz(next(free), qubit)
        for qubit in range(qubits if ring else qubits - 1):
            circuit.cx(qubit, (qubit + 1) % qubits)
    letters = ["Z" * qubits] if wide else ["I" * q + "Z" + "I" * (qubits - 1 - q) for q in range(qubits)]
    observables = [SparsePauliOp(text) for text in letters]
    circuit.name = f"{qubits} qubits, {layers} layers"
    return CircuitSpec.from_circuit(circuit, list(inputs), list(weights), observables)
