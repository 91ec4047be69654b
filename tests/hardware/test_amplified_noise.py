"""Probabilistic error amplification: the noise is learned once, then raised by errors that are put in."""

from __future__ import annotations

import json
from functools import lru_cache

import pytest
import torch
from ibm_service_bill import JOB_SECONDS, bill_of
from ibm_service_learning import is_learning, learn
from ibm_service_simulation import _simulate, neighbours
from plan_cases import map_workload, quick
from pydantic import ValidationError
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, depolarizing_error
from qiskit_ibm_runtime.noise_learner_v3.params_converters import NOISE_LEARNER_V3_PARAMS_CONVERTERS
from qiskit_ibm_runtime.options_models import NoiseLearnerV3Options

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.cli.console import console
from qhybrid.cli.hardware_tables import print_plan
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.noise_layers import checked_noise
from qhybrid.hardware.circuits.prepared import Variant
from qhybrid.hardware.engine import RuntimeEngine
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.model.workload import Samples, Workload
from qhybrid.hardware.plan.planning import draft_plan, make_plan
from qhybrid.hardware.services.ibm.learning import learning_instructions, noise_work
from qhybrid.hardware.services.ibm.rules import RULES
from qhybrid.hardware.settings import LEVELS, Learning, Mitigation
from qhybrid.layers import QuantumLayer

FEW = Learning(randomizations=2, shots=8, depths=(0, 2))
QUICK = LEVELS["pea"].model_copy(update={"learning": FEW, "randomizations": 5})


def pea(**changes):
    return quick(**{"backend": "ibm_manila", "mode": "job", "shots": 100, "mitigation": QUICK, **changes})


@pytest.fixture
def plan(server, tmp_path):
    workload = map_workload(2)

    def make(**changes):
        folder = make_plan(workload, pea(**changes), tmp_path / "plans")
        return folder, lambda *_: workload

    return make


def test_the_noise_is_learned_first_and_then_raised(plan, service_state):
    folder, load = plan()
    content = json.loads((folder / "plan.json").read_text())
    assert content["noise_learning"]["noise"] == "learned"
    with open_plan(folder, load) as execution:
        assert execution.submit() == 1  # what is measured waits
        (learning,) = service_state.jobs.values()
        assert learning.program == "noise-learner"
        assert execution.collect() is None
        assert execution.submit() == 1
        assert execution.collect() is not None
        assert execution.submit() == 0
    _, other = service_state.jobs.values()
    assert other.program == "executor"
    assert [job.executions for job in service_state.jobs.values()] == [1, 1]


@pytest.mark.parametrize("shots", [65, 100, 1024])
@pytest.mark.parametrize("delay", [None, 5.0])
def test_the_price_is_the_bill(shots, delay, plan, service_state):
    service_state.bill = bill_of
    mitigation = QUICK.model_copy(update={"randomizations": None, "learning": Learning(shots=10)})
    folder, load = plan(shots=shots, rep_delay_us=delay, mitigation=mitigation)
    (one,) = json.loads((folder / "plan.json").read_text())["rounds"]
    with open_plan(folder, load) as execution:
        execution.submit()
        execution.collect()
        service_state.queue_seconds = 1e4  # what is sent now is accepted and priced, and not simulated
        execution.submit()
        chunks = execution.ledger.chunks()
    found = [bill_of(job.params, "fake_manila") for job in service_state.jobs.values()]
    assert sum(executions for executions, _ in found) == one["executions"]
    for chunk, (_, seconds) in zip(chunks, found, strict=True):
        assert chunk.seconds - JOB_SECONDS == pytest.approx(seconds - JOB_SECONDS, rel=0.01)
    assert one["qpu_seconds"] == pytest.approx(sum(seconds for _, seconds in found), rel=0.01, abs=0.01)


KEYS = [
    ({"pea": (1.0, 1.0)}, "each once"),
    ({"pea": (1.5, 2.0)}, "1 and other factors"),
    ({"pea": (1.0, 0.5)}, "above 1"),
    ({"pea": (1.0, 2.0), "zne": (1, 3)}, "without zne"),
    ({"pea": (1.0, 2.0), "gate_twirling": False}, "gate_twirling"),
    ({"pea": (1.0, 2.0), "dynamical_decoupling": True}, "without dynamical_decoupling"),
    ({"pea": (1.0, 2.0), "randomizations": 1}, "at least 2 with pea"),
    ({"learning": {"shots": 16}}, "must go with factors"),
    ({"pea": (1.0, 2.0), "learning": {"depths": (4,)}}, "at least two different"),
    ({"pea": (1.0, 2.0), "learning": {"depths": (4, 4, 8)}}, "at least two different"),
]


@pytest.mark.parametrize(("keys", "message"), KEYS)
def test_keys_that_cannot_go_together_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        Mitigation(**{"gate_twirling": True, **keys})


def test_plans_without_it_are_written_as_before():
    assert not {"pea", "learning"} & set(LEVELS["strong"].model_dump(mode="json"))
    assert Mitigation(**LEVELS["pea"].model_dump(mode="json")) == LEVELS["pea"]
    assert Mitigation(**QUICK.model_dump(mode="json")) == QUICK
    assert "noise" not in repr(Variant((0,), 1))


def test_shots_are_divided_among_as_many_versions_as_there_are():
    """Errors that are put in are drawn once a version."""
    for shots, versions in {65: 65, 100: 100, 1024: 1024, 4096: 1024}.items():
        assert LEVELS["pea"].division(shots) == (versions, shots // versions)


def test_an_engine_does_not_learn_at_every_call(server):
    with pytest.raises(HardwareError, match="every call of an engine is a plan"):
        RuntimeEngine("ibm_manila", folder="unused", settings=pea())


def test_a_fake_device_needs_no_learning(tmp_path):
    workload = map_workload(1)
    folder = make_plan(workload, pea(backend="fake_manila"), tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    assert content["noise_learning"]["noise"] == "computed from the calibration, not learned"
    assert content["noise_learning"]["qpu_seconds"] > 2
    assert content["rounds"][0]["jobs"] == 1
    with open_plan(folder, lambda *_: workload) as execution:
        assert execution.submit() == 1
        assert execution.collect() is not None


@lru_cache
def strong_noise():
    """Gates on two qubits depolarize by 5 %; nothing else goes wrong."""
    model = NoiseModel()
    for pair in neighbours("fake_manila"):
        for qubits in (pair, pair[::-1]):
            model.add_quantum_error(depolarizing_error(0.05, 2), ["cx"], qubits)
    return model


def simulate_strong_noise(params, backend):
    if is_learning(params):
        return learn(params, strong_noise(), neighbours(backend))
    return _simulate(params, AerSimulator(noise_model=strong_noise()))


def test_deviations_end_to_end_on_a_device_with_strong_noise(plan, service_state):
    """Learned with few shots, raised, and extrapolated: most of what the gates do is gone."""
    service_state.simulate = simulate_strong_noise
    found = {}
    for name, mitigation in {
        "none": LEVELS["none"],
        "pea": LEVELS["pea"].model_copy(update={"randomizations": 125, "readout": False}),
    }.items():
        folder, load = plan(shots=4000, mitigation=mitigation)
        with open_plan(folder, load) as execution:
            content = write_outcome(execution, execution.run())
        found[name] = content["observable_deviation_rms"], content["observable_error_rms"]
    assert found["none"][0] > 5 * found["none"][1]
    left = max(found["pea"][0] ** 2 - found["pea"][1] ** 2, 0.0) ** 0.5
    assert found["pea"][0] < 0.75 * found["none"][0]
    assert left < 0.5 * found["none"][0]


def test_what_the_local_service_learns_is_what_it_simulates(drafted_layers):
    """Depolarizing by 5 % leaves 0.95 of every string of a gate: its rates sum to the same for each."""
    work, params = drafted_layers
    raw = learn(params, strong_noise(), neighbours("fake_manila"))
    noise = checked_noise(work, RULES.read_noise(raw))
    for layer in work.layers:
        known = noise.of(layer)
        for _, (first, second) in layer.gates:
            places = {layer.qubits.index(first), layer.qubits.index(second)}
            own = sum(rate for (_, at), rate in zip(known.terms, known.rates) if set(at) <= places)
            assert own == pytest.approx(15 * 0.0513 / 16, rel=0.25)  # 15 rates of -ln(0.95) / 16


@pytest.fixture(scope="module")
def drafted_layers():
    mitigation = LEVELS["pea"].model_copy(update={"learning": Learning(shots=1000)})
    settings = quick(mitigation=mitigation)
    drafted = draft_plan(map_workload(1), settings)
    work = noise_work(list(drafted.circuits.values()), drafted.backend.device, settings)
    numbers = {"shots_per_randomization": 1000, "num_randomizations": 16, "layer_pair_depths": [0, 4, 16]}
    instructions = learning_instructions(work.layers, drafted.backend.device.target)
    converter = NOISE_LEARNER_V3_PARAMS_CONVERTERS["v0.3"]
    params = converter.encoder(instructions, NoiseLearnerV3Options(**numbers))
    return work, params.model_dump(mode="json")


class Layers(torch.nn.Module):
    """The sum of circuits on two qubits, with a gate on both or without."""

    def __init__(self, *entangled):
        super().__init__()
        self.layers = torch.nn.ModuleList(QuantumLayer(self.spec(one)) for one in entangled)

    @staticmethod
    def spec(entangled):
        circuit, angles = QuantumCircuit(2), [Parameter("x"), Parameter("y")]
        for qubit, angle in enumerate(angles):
            circuit.ry(angle, qubit)
        if entangled:
            circuit.cz(0, 1)
        return CircuitSpec.from_circuit(circuit, angles, [], [SparsePauliOp("ZI"), SparsePauliOp("IX")])

    def forward(self, images):
        return sum(layer(images.flatten(1)) for layer in self.layers)


def layered_workload(*entangled):
    images = torch.tensor([[0.3, -2.8], [-1.7, 0.4], [2.9, 3.0]]).reshape(3, 1, 1, 2)
    return Workload(Layers(*entangled).eval(), Samples(images, torch.tensor([0, 1, 0]), ("a", "b", "c")))


@pytest.mark.parametrize("backend", ["ibm_manila", "fake_manila"])
@pytest.mark.parametrize("level", ["pea", "strong"])
def test_circuits_without_gates_on_two_qubits_are_executed_once(
    backend, level, server, service_state, tmp_path
):
    """Nothing is raised in them, so nothing is extrapolated: it would cost twice and spread the values."""
    workload, mitigation = layered_workload(False), QUICK if level == "pea" else LEVELS[level]
    folder = make_plan(workload, pea(backend=backend, mitigation=mitigation), tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    assert content["rounds"][0]["executions"] == 3 * 100
    with console.capture() as printed:
        print_plan(folder)
    told = "no circuit has gates on two qubits: nothing is learned, and nothing raised"
    assert (told in printed.get()) == (level == "pea")
    with open_plan(folder, lambda *_: workload) as execution:
        outcome = write_outcome(execution, execution.run())
    assert outcome["observable_error_rms"] < 1.3 / 10
    assert outcome["observable_deviation_rms"] < 0.3
    assert [job.program for job in service_state.jobs.values()] == ["executor"] * (backend == "ibm_manila")


def test_circuits_with_and_without_gates_on_two_qubits_go_out_together(server, service_state, tmp_path):
    workload = layered_workload(True, False)
    folder = make_plan(workload, pea(shots=1000, limits={"jobs_per_minute": 1e6}), tmp_path)
    content = json.loads((folder / "plan.json").read_text())
    assert content["noise_learning"]["layers"] == 1
    assert sorted(len(one["folds"]) for one in content["circuits"].values()) == [1, 2]
    with open_plan(folder, lambda *_: workload) as execution:
        outcome = write_outcome(execution, execution.run())
    assert outcome["observable_deviation_rms"] < 4 * outcome["observable_error_rms"]
    assert [job.program for job in service_state.jobs.values()] == ["noise-learner", "executor"]
