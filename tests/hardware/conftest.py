"""A prepared circuit on a fake device, a plan with a few requests, and the local service."""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from ibm_service_server import IbmServiceServer
from ibm_service_state import ServiceState
from outcome_checks import TOKEN
from plan_cases import settings_of

from qhybrid.circuits import build_circuit
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.hardware.circuits.preparation import bound_circuit, prepare_circuit
from qhybrid.hardware.jobs import turns
from qhybrid.hardware.jobs.context import Clock, JobContext
from qhybrid.hardware.ledger import Ledger, Request
from qhybrid.hardware.model.requests import LayerCircuit
from qhybrid.hardware.plan.rounds import plan_round
from qhybrid.hardware.services.ibm import IbmService, connection
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.noise import NoiseProfile


@pytest.fixture(scope="session")
def small_device():
    """Five qubits: everything about the service is faster than with a hundred."""
    return load_device("fake_manila")


@pytest.fixture(scope="session")
def small_layer():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    weights = np.random.default_rng(1).normal(size=spec.num_weights)
    return LayerCircuit.of(spec, torch.tensor(weights))


@pytest.fixture(scope="session")
def small_prepared(small_device, small_layer):
    noise = NoiseProfile.from_backend(small_device)
    return prepare_circuit(small_layer.key, bound_circuit(small_layer), small_device, noise, settings_of())


@pytest.fixture(scope="session")
def samples(small_layer):
    """Input angles of 6 samples, the last of which repeats the first; and the exact observables."""
    angles = np.random.default_rng(2).normal(size=(6, small_layer.spec.num_inputs))
    angles[5] = angles[0]
    exact = make_engine("exact").expectations(
        small_layer.spec, torch.tensor(angles), torch.tensor(small_layer.weights)
    )
    return angles, exact.numpy()


@dataclass
class Plan:
    """A plan of one round in a ledger, and how to open it."""

    path: object
    name: str
    circuit: object
    angles: np.ndarray
    settings: HardwareSettings
    said: list

    def context(self, service=None, clock=None) -> JobContext:
        ledger = Ledger(self.path, self.name)
        circuits = {self.circuit.key: self.circuit}
        return JobContext(
            ledger,
            service or IbmService(self.settings),
            circuits,
            self.settings,
            0.0,
            clock or Clock(),
            self.said.append,
        )


@pytest.fixture
def make_plan(tmp_path, small_prepared, samples):
    """Function that enters a plan: its 5 distinct points go out in chunks of 2."""

    def make(name="plan", **changes) -> Plan:
        limits = {"executions": 2 * 2 * 256, "jobs_per_minute": 1000.0}
        settings = settings_of(**{"limits": limits, **changes})
        path = tmp_path / "ledger.sqlite"
        with Ledger(path, name) as ledger:
            ledger.begin()
            requests = [
                Request(index, "layer", 0, small_prepared.key, row[None])
                for index, row in enumerate(samples[0])
            ]
            found = plan_round(0, requests, {}, 0, {small_prepared.key: small_prepared}, settings)
            ledger.add_round(found.requests, found.points, found.chunks)
        return Plan(path, name, small_prepared, samples[0], settings, [])

    return make


@pytest.fixture(autouse=True)
def _own_turns(tmp_path_factory, monkeypatch):
    """Tests that run side by side have plans of equal names, which must not wait for each other."""
    folder = tmp_path_factory.getbasetemp()
    monkeypatch.setattr(turns, "common_folder", lambda: folder)


@pytest.fixture
def service_state():
    return ServiceState(devices={"ibm_manila": "fake_manila"})


@pytest.fixture
def repeating_client(monkeypatch):
    """The client with its own rules: it repeats a submission after an answer of 500."""
    monkeypatch.setattr(connection, "bound_requests", lambda *_: None)


@pytest.fixture
def server(service_state, monkeypatch):
    logging.getLogger("qiskit_ibm_runtime").setLevel(logging.CRITICAL)
    with IbmServiceServer(service_state) as running:
        for name, value in running.environment(TOKEN).items():
            monkeypatch.setenv(name, value)
        # The client looks through the whole call stack at every request unless told not to.
        monkeypatch.setenv("USAGE_DATA_OPT_OUT", "True")
        # It reads all certificates of the machine for every sign-in, and this server has none.
        monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
        yield running
