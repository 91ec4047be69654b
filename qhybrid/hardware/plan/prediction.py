"""The dry run: what a plan asks for, round by round, and the values expected from the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.hardware.circuits.decoding import estimates_from, observables_from
from qhybrid.hardware.circuits.prepared import PreparedCircuit, Pub
from qhybrid.hardware.circuits.readout_calibration import READOUT_KEY, calibration_pubs, measured_readout
from qhybrid.hardware.circuits.simulation import NO_WEIGHTS, Simulation
from qhybrid.hardware.ledger import Request
from qhybrid.hardware.model.recording import run_pass
from qhybrid.hardware.model.requests import LayerCircuit, RequestLog
from qhybrid.hardware.model.workload import Workload, stacked
from qhybrid.hardware.pub_results import PubResult
from qhybrid.hardware.service_kinds import rules_of
from qhybrid.hardware.settings import HardwareSettings

Array = NDArray[np.float64]
Prepare = Callable[[LayerCircuit, Array], PreparedCircuit]
Answer = Callable[[str, Array], Array]
"""Returns observables, shape (B, n_obs), of a circuit for distinct points."""


@dataclass(frozen=True, eq=False)
class DryRun:
    """What a dry run found.

    Attributes:
        outputs: The model's outputs.
        rounds: The requests of every round.
    """

    outputs: Tensor
    rounds: tuple[tuple[Request, ...], ...]


def dry_run(
    workload: Workload,
    layers: Sequence[str],
    answer: Answer,
    meet: Callable[[LayerCircuit, Array], None],
    written: Mapping[str, CircuitSpec] | None = None,
) -> DryRun:
    """Re-execute the model until no request is left.

    Args:
        workload: Model and samples.
        layers: Layers that would run on the device.
        answer: What stands in for the device.
        meet: Called with every circuit and points of it, before its first answer.
        written: Circuits of a plan by key, where one of an earlier version is re-executed.
    """
    log = RequestLog(written=written or {})
    rounds: list[tuple[Request, ...]] = []
    met: set[str] = set()
    while True:
        log.new = {}
        samples = workload.samples
        outputs = run_pass(workload.model, samples.images, layers, log, token_maps=samples.token_maps)
        if not log.new:
            return DryRun(stacked(outputs), tuple(rounds))
        requests = tuple(log.new.values())
        rounds.append(requests)
        for key in dict.fromkeys(request.circuit for request in requests):
            mine = [request for request in requests if request.circuit == key]
            rows, back = np.unique(
                np.concatenate([request.angles for request in mine]), axis=0, return_inverse=True
            )
            if key not in met:
                met.add(key)
                meet(log.circuits[key], rows)
            values = answer(key, rows)[back.reshape(-1)]
            sizes = np.cumsum([len(request.angles) for request in mine])[:-1]
            for request, part in zip(mine, np.split(values, sizes)):
                log.requests[request.key] = request
                log.results[request.key] = part


def expected_answer(
    circuits: dict[str, PreparedCircuit],
    settings: HardwareSettings,
    shots: int | None,
    simulation: Simulation,
    seed: int = 0,
) -> Answer:
    """Return the values expected from the device, mitigation included.

    Args:
        circuits: Prepared circuits by key.
        settings: Mitigation and seed.
        shots: Shots to draw; None for averages.
        simulation: The device's stand-in.
        seed: Of the draw.
    """

    def answer(key: str, points: Array) -> Array:
        circuit = circuits[key]
        rates = None
        if shots is not None and (calibration := calibration_pubs(circuits, settings)):
            drawn: list[PubResult] = [
                {"means": simulation.means(pub, shots, settings.seed, "read-out", key, seed, number)}
                for number, pub in enumerate(calibration)
            ]
            rates = measured_readout(circuits[READOUT_KEY], drawn, settings)
        pubs: list[dict[str, Any]] = []
        for index in range(len(circuit.variants)):
            found = simulation.means(
                Pub(circuit, index, points), shots, settings.seed, "prediction", seed, index
            )
            pubs.append({"means": found})
        if shots is not None and rules_of(settings).learns:
            spread_by_versions(circuit, pubs, settings, np.random.default_rng([seed, len(points)]))
        return observables_from(circuit, estimates_from(circuit, len(points), pubs, settings, rates).means)

    return answer


def spread_by_versions(
    circuit: PreparedCircuit,
    pubs: Sequence[dict[str, Any]],
    settings: HardwareSettings,
    random: np.random.Generator,
) -> None:
    """Add what drawn means vary more where errors are put in once a random version, for several shots.

    A version turns the mean m of the plain circuit to +m or -m, or near that: of its variance
    m^2 - m'^2, with m' the mean over versions, 1 / versions is left, where single shots leave 1 / shots.

    Args:
        circuit: The circuit.
        pubs: For every variant {"means": one array a copy}, as drawn shot by shot; they are changed.
        settings: Shots and mitigation.
        random: Where it comes from.
    """
    divided = settings.mitigation.division(settings.shots)
    if divided is None or divided[1] == 1:
        return
    plain = {one.group: index for index, one in enumerate(circuit.variants) if one.noise == 1}
    for variant, pub in zip(circuit.variants, pubs, strict=True):
        if variant.noise == 1:
            continue
        pairs = zip(pubs[plain[variant.group]]["means"], pub["means"], strict=True)
        pub["means"] = [
            np.clip(
                raised
                + random.normal(size=raised.shape)
                * np.sqrt(
                    np.clip(np.square(one) - np.square(raised), 0, None)
                    * (1 / divided[0] - 1 / (divided[0] * divided[1]))
                ),
                -1,
                1,
            )
            for one, raised in pairs
        ]


def exact_answer(circuits: dict[str, CircuitSpec]) -> Answer:
    """Return the values of a device without noise, from circuits with their weights bound."""
    engine = make_engine("exact")

    def answer(key: str, points: Array) -> Array:
        values = engine.expectations(circuits[key], torch.as_tensor(points.copy()), NO_WEIGHTS)
        return np.asarray(values.numpy())

    return answer
