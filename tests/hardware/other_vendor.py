"""A service of another vendor in this process: gates r and cz, counts as results, a price a shot."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np
from qiskit.circuit import Measure, Parameter
from qiskit.circuit.library import CZGate, RGate
from qiskit.transpiler import InstructionProperties, QubitProperties, Target
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error

from qhybrid.devices import Device
from qhybrid.errors import ServiceError
from qhybrid.hardware import Backend, JobService, ServiceRules
from qhybrid.hardware.services.interface import CANCELLED, DONE, QUEUED, Budget, JobGoneError, Listed, View
from qhybrid.noise import NoiseProfile

EDGES = ((0, 1), (1, 2), (2, 3), (3, 4))
P01, P10 = 0.03, 0.01
SECONDS_A_SHOT = 0.001


class Garnet:
    """What Qiskit calls a BackendV2: a line of five qubits."""

    name = "garnet_5"

    def __init__(self):
        qubits = [(index,) for index in range(5)]
        relaxation = [QubitProperties(t1=40e-6, t2=30e-6)] * 5
        self.target = Target(num_qubits=5, dt=1e-9, qubit_properties=relaxation)
        rotation = RGate(Parameter("angle"), Parameter("axis"))
        self.target.add_instruction(rotation, {q: InstructionProperties(40e-9, 1e-3) for q in qubits})
        self.target.add_instruction(CZGate(), {edge: InstructionProperties(60e-9, 8e-3) for edge in EDGES})
        error = (P01 + P10) / 2
        self.target.add_instruction(Measure(), {q: InstructionProperties(1.5e-6, error) for q in qubits})


def garnet() -> Device:
    return Device.from_backend(Garnet(), "a test's")


def open_garnet(_settings) -> Backend:
    device = garnet()
    return Backend(device, NoiseProfile.from_backend(device), "credits of the test", "team-1")


class GarnetRules(ServiceRules):
    """Counts as results, and a price for every shot."""

    def seconds(self, work, settings):
        return sum(SECONDS_A_SHOT * circuit.executions(points, settings.shots) for circuit, points in work)

    def read(self, raw):
        found = json.loads(raw)
        if found.get("vendor") != "garnet":
            raise ValueError("no result of a garnet")
        return [np.stack([_bits(counts) for counts in histograms]) for histograms in found["histograms"]]


def _bits(counts):
    """Return rows of bits; in a text the first bit is at the right."""
    rows = [[one == "1" for one in reversed(text)] for text, count in counts.items() for _ in range(count)]
    return np.array(rows)


def noise_model() -> NoiseModel:
    model = NoiseModel(basis_gates=["r", "cz"])
    model.add_all_qubit_quantum_error(depolarizing_error(1e-3, 1), ["r"])
    model.add_all_qubit_quantum_error(depolarizing_error(8e-3, 2), ["cz"])
    model.add_all_qubit_readout_error(ReadoutError([[1 - P10, P10], [P01, 1 - P01]]))
    return model


@dataclass
class Vendor:
    """What the vendor's machine room knows; it survives every process of a customer.

    Attributes:
        held: Whether jobs wait in the queue.
        gates: Names of all instructions that were ever sent.
    """

    held: bool = False
    jobs: dict = field(default_factory=dict)
    gates: set = field(default_factory=set)


class GarnetService(JobService):
    """A customer's view of the vendor's machine."""

    paid = True
    marks = True

    def __init__(self, vendor: Vendor) -> None:
        self.vendor = vendor

    def submit(self, package):
        name = f"garnet-{len(self.vendor.jobs)}"
        for pub in package.pubs:
            self.vendor.gates |= set(pub.circuit.measured(pub.variant).count_ops())
        self.vendor.jobs[name] = {"package": package, "state": QUEUED, "result": None}
        return name

    def find(self, tag):
        return [Listed(n, j["package"].tags) for n, j in self.vendor.jobs.items() if tag in j["package"].tags]

    def view(self, job_id):
        job = self._job(job_id)
        if job["state"] == QUEUED and not self.vendor.held:
            job["result"], job["state"] = _execute(job["package"]), DONE
        return View(job["state"])

    def result_text(self, job_id):
        if self._job(job_id)["result"] is None:
            raise ServiceError(f"{job_id} has no result")
        return self._job(job_id)["result"]

    def cancel(self, job_id):
        job = self._job(job_id)
        if job["state"] != QUEUED:
            return False
        job["state"] = CANCELLED
        return True

    def usage(self, job_id):
        job = self._job(job_id)
        if job["state"] != DONE:
            return 0.0
        package = job["package"]
        return SECONDS_A_SHOT * package.shots * sum(len(pub.values) for pub in package.pubs)

    def budget(self):
        return Budget(remaining_seconds=1e4)

    def today(self):
        return garnet(), ""

    def _job(self, job_id):
        if job_id not in self.vendor.jobs:
            raise JobGoneError(f"no job {job_id}")
        return self.vendor.jobs[job_id]


def _execute(package) -> str:
    simulator = AerSimulator(noise_model=noise_model(), seed_simulator=7)
    histograms = []
    for pub in package.pubs:
        circuit = pub.circuit.measured(pub.variant)
        names = [p for copy in range(len(pub.circuit.copies)) for p in pub.circuit.parameters(copy)]
        bound = [
            circuit.assign_parameters({p: v for p, v in zip(names, row) if p in circuit.parameters})
            for row in pub.values
        ]
        result = simulator.run(bound, shots=package.shots, optimization_level=0).result()
        histograms.append([dict(result.get_counts(index)) for index in range(len(bound))])
    return json.dumps({"vendor": "garnet", "mark": package.mark, "histograms": histograms})
