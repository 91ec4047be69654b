"""Making a plan: dry run, mapping, checks, prices; nothing is sent."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.checks import check_circuit, check_executable
from qhybrid.hardware.circuits.fractional import without_fractional_gates
from qhybrid.hardware.circuits.noise_layers import NoiseWork
from qhybrid.hardware.circuits.preparation import bound_circuit, prepare_circuit
from qhybrid.hardware.circuits.prepared import PreparedCircuit
from qhybrid.hardware.circuits.readout_calibration import READOUT_KEY, calibration_circuit
from qhybrid.hardware.circuits.simulation import Simulation
from qhybrid.hardware.ledger import LEDGER_FILE, Chunk, Ledger, Request
from qhybrid.hardware.ledger.mending import save_requests
from qhybrid.hardware.model.kept_files import FILES, hashes_of
from qhybrid.hardware.model.recording import fixed_layers
from qhybrid.hardware.model.requests import LayerCircuit
from qhybrid.hardware.model.runs import save_model
from qhybrid.hardware.model.workload import Workload, agreement, plain, score
from qhybrid.hardware.plan.learning import learning_chunk, learning_facts, noise_work_of, save_noise_work
from qhybrid.hardware.plan.plan_files import CALIBRATION_FILE, FORMAT, home_of, save_circuit, write_plan
from qhybrid.hardware.plan.prediction import DryRun, dry_run, exact_answer, expected_answer
from qhybrid.hardware.plan.pricing import calibration_facts, circuit_facts, filter_price, round_facts
from qhybrid.hardware.plan.rounds import JobSizes, Round, pilot_sizes, plan_round
from qhybrid.hardware.service_kinds import rules_of, with_service
from qhybrid.hardware.services.backends import is_paid, open_backend
from qhybrid.hardware.services.interface import Backend
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.layers import quantum_layers
from qhybrid.noise import NoiseProfile
from qhybrid.noise.transforms import renumbered_names
from qhybrid.plugins import loaded_plugins
from qhybrid.workspace import atomic_folder

Array = NDArray[np.float64]
Say = Callable[[str], None]


def make_plan(
    workload: Workload, settings: HardwareSettings, folder: str | Path, say: Say = lambda _text: None
) -> Path:
    """Plan a workload on a backend.

    Args:
        workload: Model and samples.
        settings: Everything else.
        folder: Where plans go; the plan becomes a folder in it.
        say: Called with a sentence at every step.

    Returns:
        The plan's folder.

    Raises:
        HardwareError: If a check fails, or the plan is beyond the cap; nothing is written then.
        ConfigError: If a layer or the backend is unknown.
    """
    drafted = draft_plan(workload, settings, say)
    _check_cap(drafted, settings)
    name = f"{settings.backend}-{time.strftime('%Y%m%d-%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"
    target = Path(folder) / name
    with atomic_folder(target) as temporary:
        workload.samples.save(temporary)
        save_model(workload.origin, temporary)
        for key, circuit in drafted.circuits.items():
            save_circuit(temporary, drafted.bound[key], circuit)
        if drafted.learning is not None:
            save_noise_work(temporary, drafted.learning)
        if drafted.backend.noise is not None:
            drafted.backend.noise.save(temporary / CALIBRATION_FILE)
        content = {"format": FORMAT, "plan": name, "home": home_of(target), **drafted.content}
        write_plan(temporary, {**content, FILES: hashes_of(temporary)})
        with Ledger(temporary / LEDGER_FILE, name) as ledger:
            ledger.begin()
            first = drafted.rounds[0]
            ledger.add_round(first.requests, first.points, first.chunks)
            save_requests(ledger, temporary)
    return target


@dataclass(frozen=True, eq=False)
class Draft:
    """A plan that is not on disk.

    Attributes:
        content: What plan.json holds.
        circuits: Prepared circuits by key.
        bound: Circuits as the layers have them, by key.
        rounds: What each round adds to the ledger.
        backend: Target and calibration.
        learning: What is learned of the noise before anything else; None for nothing.
    """

    content: dict[str, Any]
    circuits: dict[str, PreparedCircuit]
    bound: dict[str, CircuitSpec]
    rounds: list[Round]
    backend: Backend
    learning: NoiseWork | None = None


def draft_plan(workload: Workload, settings: HardwareSettings, say: Say = lambda _text: None) -> Draft:
    """Do all the work of `make_plan` but writing.

    Raises:
        HardwareError: If a check fails.
        ConfigError: If a layer or the backend is unknown.
    """
    layers, filters = chosen_layers(workload, settings)
    settings = with_service(settings)
    backend = open_backend(settings)
    settings = _with_delay(settings, backend)
    settings = settings.model_copy(update={"instance": backend.instance})
    planner = _Planner(workload, settings, layers, backend, say)
    content = planner.run()
    content["fixed_filters"] = filter_price(workload, filters, settings, planner.prepare)
    learning = planner.learning if rules_of(settings).learns else None
    return Draft(content, planner.circuits, planner.bound, planner.rounds, backend, learning)


def _with_delay(settings: HardwareSettings, backend: Backend) -> HardwareSettings:
    """Return settings that price the device's own delay between executions; check one that is given.

    Raises:
        HardwareError: If the device does not allow it.
    """
    known, wanted = backend.rep_delays_us, settings.rep_delay_us
    is_device = backend.instance is not None
    if wanted is not None and is_device and (known is None or not known[1] <= wanted <= known[2]):
        allowed = "cannot be chosen on this device" if known is None else f"is {known[1]:g} to {known[2]:g}"
        raise HardwareError(
            f"Setting `rep_delay_us` must be one that {settings.backend} allows, but is {wanted:g}: it "
            f"{allowed}. Fix: another value, or none for the device's default."
        )
    own = None if known is None or known[0] == settings.price.rep_delay_us else known[0]
    if "rep_delay_us" in settings.price.model_fields_set:
        own = None
    return settings.model_copy(update={"device_rep_delay_us": own})


def chosen_layers(workload: Workload, settings: HardwareSettings) -> tuple[list[str], list[str]]:
    """Return the layers for the device, and those of fixed filters that stay on the simulator."""
    filters = fixed_layers(workload.model, workload.samples.images[0])
    every = list(quantum_layers(workload.model))
    layers = list(settings.layers) if settings.layers is not None else [n for n in every if n not in filters]
    if not layers:
        raise HardwareError(
            f"A plan needs a layer for the device, but all quantum layers ({', '.join(every)}) are "
            "fixed filters, which the simulator computes. Fix: name them with `layers` to pay for them."
        )
    random = [n for n, one in quantum_layers(workload.model).items() if n not in layers and one.engine.random]
    if random:
        raise HardwareError(
            "Layers that do not go to the device must have the same values whenever a plan is opened, but "
            f"{', '.join(random)} draw(s) at random. Fix: use_engine(model, make_engine('exact')), or send "
            "them too (`layers`)."
        )
    return layers, [name for name in filters if name not in layers]


class _Planner:
    def __init__(
        self,
        workload: Workload,
        settings: HardwareSettings,
        layers: Sequence[str],
        backend: Backend,
        say: Say,
    ) -> None:
        self.circuits: dict[str, PreparedCircuit] = {}
        self.bound: dict[str, CircuitSpec] = {}
        self._layers_of: dict[str, dict[str, None]] = {}
        self.rounds: list[Round] = []
        self.learning: NoiseWork | None = None
        self._guards: dict[str, Any] = {}
        self._workload, self._settings = workload, settings
        self._layers, self._backend, self._say = list(layers), backend, say

    def run(self) -> dict[str, Any]:
        """Return the plan's content."""
        settings, samples = self._settings, self._workload.samples
        simulation = Simulation()
        average = dry_run(
            self._workload,
            self._layers,
            expected_answer(self.circuits, settings, None, simulation),
            self._map_new_circuit,
        )
        self._check_used(average)
        self._calibrate()
        self.learning = noise_work_of(self.circuits, self._backend, settings)
        pilot = self._add_rounds(average.rounds)
        for requests in average.rounds:
            for request in requests:
                self._layers_of.setdefault(request.circuit, {})[request.layer] = None
        self._say("drawing shots for the predicted accuracy")
        drawn = dry_run(
            self._workload,
            self._layers,
            expected_answer(self.circuits, settings, settings.shots, simulation),
            lambda *_: None,
        )
        exact = dry_run(self._workload, self._layers, exact_answer(self.bound), lambda *_: None)
        rounds = [round_facts(one, self.circuits, settings, self.learning) for one in self.rounds]
        calibration = calibration_facts(self.circuits, settings)
        plugins = loaded_plugins()
        return {
            "marked": True,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "origin": self._workload.origin,
            "settings": settings.model_dump(mode="json"),
            "account": self._backend.account,
            "samples": list(samples.names),
            "class_names": list(samples.class_names),
            "layers": self._layers,
            "circuits": {
                key: {
                    **circuit_facts(circuit),
                    **self._guards[key],
                    "layers": list(self._layers_of.get(key, {})),
                }
                for key, circuit in self.circuits.items()
                if key != READOUT_KEY
            },
            "rounds": rounds,
            "qpu_seconds": round(sum(one["qpu_seconds"] for one in rounds), 2),
            "predicted": {
                "exact": plain(score(exact.outputs, samples)),
                "device": plain(score(average.outputs, samples)),
                "device_and_shots": plain(score(drawn.outputs, samples)),
                "same_class_as_exact": round(agreement(drawn.outputs, exact.outputs), 6),
            },
            **({"plugins": plugins} if plugins else {}),
            **({"readout_calibration": calibration} if calibration else {}),
            **({"noise_learning": learning_facts(self.learning, settings)} if self.learning else {}),
            **({"pilot": pilot} if pilot else {}),
            **self._holes(),
        }

    def _check_used(self, found: DryRun) -> None:
        """Refuse a plan of layers that no sample passes through, as experts that a router never chooses."""
        if not found.rounds:
            raise HardwareError(
                "A plan needs a layer that is executed, but no sample passes through "
                f"{', '.join(self._layers)}: a router chooses other experts for all of them. Fix: other "
                "`layers` (--layer), or more samples (--limit)."
            )

    def _holes(self) -> dict[str, Any]:
        """Return what the device's calibration does not say; nothing where it says all."""
        device, noise = self._backend.device, self._backend.noise
        avoided, silent = ([], []) if device is None else (list(device.holes), list(device.silent))
        used = {q for circuit in self.circuits.values() for copy in circuit.copies for q in copy.physical}
        names = () if noise is None else noise.assumed
        assumed = [name for name in names if renumbered_names([name], sorted(used))]
        found = {"avoided": avoided, "assumed": assumed, "missing": silent}
        kept = {key: names for key, names in found.items() if names}
        return {"calibration": kept} if kept else {}

    def _map_new_circuit(self, layer: LayerCircuit, points: Array) -> None:
        """Map a circuit that is seen for the first time, and check what would be sent."""
        self._say(f"mapping circuit `{layer.spec.name}` to {self._settings.backend}")
        bound, prepared = bound_circuit(layer), self.prepare(layer)
        self._guards[layer.key] = check_circuit(
            bound, prepared, points, self._backend.device, rules_of(self._settings)
        )
        if self._settings.use_fractional_gates and self._backend.device is not None:
            self._guards[layer.key] |= self._without_fractional(layer)
        self.bound[layer.key], self.circuits[layer.key] = bound, prepared

    def _without_fractional(self, layer: LayerCircuit) -> dict[str, Any]:
        """Return what a circuit would be without fractional gates, for comparison."""
        backend = self._backend
        plain = None if backend.device is None else without_fractional_gates(backend.device)
        noise = None if plain is None else NoiseProfile.from_backend(plain)
        found = prepare_circuit(layer.key, bound_circuit(layer), plain, noise, self._settings)
        facts, keys = circuit_facts(found), ("two_qubit_gates", "two_qubit_depth", "microseconds")
        return {"without_fractional": {key: facts[key] for key in keys}}

    def _calibrate(self) -> None:
        """Add the circuits that measure read-out errors in every job, where that is wanted."""
        backend, settings = self._backend, self._settings
        if settings.mitigation.readout_shots is None or backend.noise is None or not self.circuits:
            return
        found = calibration_circuit(self.circuits.values(), backend.device, backend.noise, settings)
        check_executable(found[1], backend.device, rules_of(settings))
        self.bound[READOUT_KEY], self.circuits[READOUT_KEY] = found

    def prepare(self, layer: LayerCircuit) -> PreparedCircuit:
        """Map a circuit to the device."""
        backend = self._backend
        return prepare_circuit(layer.key, bound_circuit(layer), backend.device, backend.noise, self._settings)

    def _add_rounds(self, asked: Sequence[Sequence[Request]]) -> dict[str, int]:
        """Divide all rounds into jobs; return the sizes of those of a plan with a pilot, if it has one."""
        settings = self._settings
        self.rounds = self._divided(asked, None)
        if not is_paid(settings.backend, settings.service):
            return {}
        chunks = [chunk for one in self.rounds for chunk in one.chunks if not chunk.learns]
        sizes = pilot_sizes(chunks, self.circuits, settings)
        if sizes is None:
            return {}
        rounds = self._divided(asked, sizes)
        limit = sum(chunk.limit for one in rounds for chunk in one.chunks)
        if settings.max_qpu_seconds is not None and limit > settings.max_qpu_seconds:
            return {}
        self.rounds = rounds
        return {"executions": sizes.first or 0, "job_executions": sizes.others or 0}

    def _divided(self, asked: Sequence[Sequence[Request]], sizes: JobSizes | None) -> list[Round]:
        rounds: list[Round] = []
        first = self._first_chunks()
        for number, requests in enumerate(asked):
            known = {index: (key, angles) for one in rounds for index, key, angles in one.points}
            count = sum(len(one.chunks) for one in rounds) or len(first)
            own = sizes if sizes is None or not number else replace(sizes, first=None)
            found = plan_round(number, requests, known, count, self.circuits, self._settings, own)
            rounds.append(found if rounds else replace(found, chunks=(*first, *found.chunks)))
        return rounds

    def _first_chunks(self) -> tuple[Chunk, ...]:
        """Return the chunk that learns the noise of layers before all others, if there is one."""
        if self.learning is None or not self.learning.layers or not rules_of(self._settings).learns:
            return ()
        return (learning_chunk(0, 0, self.learning),)


def _check_cap(drafted: Draft, settings: HardwareSettings) -> None:
    """Check that all jobs of all rounds can run to their end within the limits that the user set."""
    cap, longest = settings.max_qpu_seconds, settings.max_execution_seconds
    chunks = [chunk for one in drafted.rounds for chunk in one.chunks]
    needed = sum(chunk.limit for chunk in chunks)
    if cap is not None and needed > cap:
        raise HardwareError(
            f"Setting `max_qpu_seconds` must cover the plan, but is {cap:g} s and the plan takes about "
            f"{drafted.content['qpu_seconds']:g} s in {len(drafted.rounds)} round(s): {needed} s with every "
            "job rounded up to whole seconds. Fix: fewer samples or shots, or a higher cap; nothing was sent."
        )
    worst = max((chunk.seconds for chunk in chunks), default=0.0)
    if longest is not None and worst > longest:
        raise HardwareError(
            f"Setting `max_execution_seconds` must let every job end, but is {longest} s and one takes about "
            f"{worst:.1f} s. Fix: a higher one, or smaller jobs (limits.executions); nothing was sent."
        )
