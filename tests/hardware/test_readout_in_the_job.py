"""Read-out errors that the job measures: right where the calibration has drifted, priced, with errors."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from ibm_service_simulation import executions_of, simulate_coin_tosses, simulate_ideally
from ibm_service_state import Fault
from plan_cases import map_workload, quick
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.errors import ConfigError, HardwareError
from qhybrid.hardware.circuits.decoding import decode_chunk, estimates_from, observables_from
from qhybrid.hardware.circuits.preparation import prepare_circuit
from qhybrid.hardware.circuits.prepared import Pub
from qhybrid.hardware.circuits.readout_calibration import (
    READOUT_KEY,
    calibration_circuit,
    calibration_pubs,
    calibration_work,
    measured_readout,
)
from qhybrid.hardware.circuits.simulation import NO_WEIGHTS, Simulation
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.pub_results import bits_text
from qhybrid.hardware.services.local import LocalService
from qhybrid.hardware.settings import LEVELS, HardwareSettings, Mitigation
from qhybrid.noise import NoiseProfile, QubitNoise

MEASURED = Mitigation(readout_shots=1000)


def drifted(circuit, factor=2.0):
    """A circuit on qubits whose read-out errors are other ones than the calibration says."""

    def moved(copy):
        rates = {}
        for index in range(len(copy.physical)):
            p01, p10 = (factor * rate for rate in copy.noise.readout(index))
            own = copy.noise.qubits.get(index, QubitNoise())
            rates[index] = own.model_copy(update={"readout_p01": p01, "readout_p10": p10})
        return replace(copy, noise=copy.noise.model_copy(update={"qubits": rates}))

    return replace(circuit, copies=tuple(moved(copy) for copy in circuit.copies))


class DriftedService(LocalService):
    """A fake device whose read-out errors have doubled since its calibration."""

    def submit(self, package):
        pubs = tuple(replace(pub, circuit=drifted(pub.circuit)) for pub in package.pubs)
        return super().submit(replace(package, pubs=pubs))


@pytest.fixture(scope="module")
def entangled():
    circuit = QuantumCircuit(3)
    circuit.ry(Parameter("x"), 0)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    names = [SparsePauliOp("ZZZ"), SparsePauliOp("IIZ"), SparsePauliOp("XXX")]
    return CircuitSpec.from_circuit(circuit, list(circuit.parameters), [], names)


@pytest.fixture(scope="module")
def prepared(entangled, small_device):
    return prepared_with(MEASURED, entangled, small_device)


def prepared_with(mitigation, entangled, small_device):
    noise = NoiseProfile(readout_p01=0.05, readout_p10=0.02)
    settings = HardwareSettings(backend="fake_manila", layouts=1, shots=400, mitigation=mitigation)
    circuit = prepare_circuit("key", entangled, small_device, noise, settings)
    calibration = calibration_circuit([circuit], small_device, noise, settings)[1]
    return circuit, calibration, settings


def simulated(circuit, points, shots=None, *seed):
    simulation = Simulation()
    return [
        {"means": simulation.means(Pub(circuit, v, points), shots, *seed, v)}
        for v in range(len(circuit.variants))
    ]


def test_values_are_right_where_the_calibration_is_not(prepared, entangled):
    circuit, calibration, settings = prepared
    points = np.array([[0.4], [1.9]])
    exact = make_engine("exact").expectations(entangled, _tensor(points), NO_WEIGHTS).numpy()
    pubs = simulated(drifted(circuit), points)
    rates = measured_readout(calibration, simulated(drifted(calibration), np.zeros((3, 0))), settings)
    assert rates.rates == {q: pytest.approx((0.1, 0.04)) for q in sorted(circuit.copies[0].physical)}
    old = observables_from(circuit, estimates_from(circuit, 2, pubs, settings).means)
    new = observables_from(circuit, estimates_from(circuit, 2, pubs, settings, rates).means)
    assert np.abs(old - exact).max() > 0.05
    assert np.abs(new - exact).max() < 1e-6


def _tensor(points):
    import torch

    return torch.tensor(points)


@pytest.mark.parametrize("zne", [(), (1, 3)])
def test_errors_of_the_measured_rates_are_counted(zne, entangled, small_device):
    """Few shots for the rates, many for the values: nearly all spread is that of the rates.

    The same rates correct the values at all factors of an extrapolation.
    """
    mitigation = MEASURED.model_copy(update={"zne": zne})
    circuit, calibration, settings = prepared_with(mitigation, entangled, small_device)
    points = np.array([[0.4]])
    many = settings.model_copy(update={"shots": 10**7})
    pubs = simulated(circuit, points)
    few = settings.model_copy(update={"shots": 300})
    values, errors, random = [], [], np.random.default_rng(3)
    for _ in range(300):
        ones = (random.binomial(300, rate, 3) / 300 for rate in (0.02, 0.95))
        drawn = [{"means": [np.array([[1 - 2 * share]]) for share in shares]} for shares in ones]
        found = estimates_from(circuit, 1, pubs, many, measured_readout(calibration, drawn, few))
        values.append(found.means[0])
        errors.append(found.errors[0])
    ratio = np.std(values, axis=0) / np.sqrt(np.mean(np.square(errors), axis=0))
    assert (ratio > 0.85).all()
    assert (ratio < 1.15).all()


def test_rates_are_counted_in_bits(prepared):
    circuit, calibration, settings = prepared
    places = [copy.physical[0] for copy in calibration.copies]
    zero, one = np.zeros((1, 400, 3), bool), np.ones((1, 400, 3), bool)
    zero[0, :8, 0], one[0, :20, 2] = True, False
    found = measured_readout(calibration, [zero, one, np.zeros_like(zero), np.ones_like(one)], settings)
    expected = {places[0]: (0, 8 / 800), places[1]: (0, 0), places[2]: (20 / 800, 0)}
    assert found.rates == {place: pytest.approx(rates) for place, rates in expected.items()}
    assert found.shots == 800
    with pytest.raises(HardwareError, match=f"Qubit {places[0]} must read 0 and 1 differently"):
        measured_readout(calibration, [zero, zero], settings)
    circuits = {"key": circuit, READOUT_KEY: calibration}
    blocks = [(circuit, 1), *calibration_work(circuits, settings)]
    assert len(blocks) == 1 + 3
    assert len(calibration_pubs(circuits, settings)) == 6
    with pytest.raises(HardwareError, match="2 circuits came back, but 8 were sent"):
        decode_chunk(bits_text([zero, one]), blocks, settings)


@pytest.fixture(scope="module")
def workload():
    return map_workload(3)


def test_a_plan_measures_its_read_outs(workload, tmp_path):
    """Every job has its own: 3 points in jobs of one point each."""
    shots, repeats = 4000, 2
    limits = {"executions": 2 * shots + 2 * repeats * shots}
    deviations, executions = {}, {}
    for name, mitigation in {"plan": LEVELS["cheap"], "job": Mitigation(readout_shots=8000)}.items():
        settings = quick(shots=shots, mitigation=mitigation, limits=limits)
        folder = make_plan(workload, settings, tmp_path / name)
        content = json.loads((folder / "plan.json").read_text())
        (one,) = content["rounds"]
        executions[name] = one["executions"], one["jobs"], one["pubs"]
        assert set(content["circuits"]) == {file.stem for file in folder.glob("circuits/*.json")} - {
            READOUT_KEY
        }
        service = DriftedService(folder / "jobs")
        with open_plan(folder, lambda *_: workload, service) as execution:
            found = write_outcome(execution, execution.run())
        deviations[name] = found["observable_deviation_rms"]
    assert executions["plan"] == (3 * 2 * shots, 1, 2)
    assert executions["job"] == (3 * 2 * shots + 3 * 2 * repeats * shots, 3, 3 * (2 + 2 * repeats))
    assert content["readout_calibration"]["executions"] == 2 * repeats * shots
    assert len(content["readout_calibration"]["qubits"]) == 4
    assert deviations["job"] < 0.75 * deviations["plan"]


def test_the_service_executes_what_the_plan_counts(workload, server, service_state, tmp_path):
    mitigation = LEVELS["standard"].model_copy(update={"readout_shots": 100})
    settings = quick(backend="ibm_manila", shots=65, mode="job", mitigation=mitigation)
    folder = make_plan(workload, settings, tmp_path)
    (one,) = json.loads((folder / "plan.json").read_text())["rounds"]
    with open_plan(folder, lambda *_: workload) as execution:
        assert execution.submit() == 1
        (job,) = service_state.jobs.values()
        assert executions_of(job.params) == one["executions"] == 3 * 2 * 65 + 2 * 2 * 65
        assert execution.collect() is not None


def test_the_engine_measures_them_too(entangled):
    """Its values are as near as shots allow: the noise of the gates is less than that of the read-outs."""
    settings = HardwareSettings(backend="fake_manila", layouts=1, mitigation=MEASURED)
    engine = make_engine("runtime", backend="fake_manila", shots=4000, settings=settings)
    points = _tensor(np.array([[0.4], [1.9]]))
    found = engine.expectations(entangled, points, NO_WEIGHTS)
    exact = make_engine("exact").expectations(entangled, points, NO_WEIGHTS)
    assert (found - exact).abs().max() < 0.15


def test_the_key_needs_a_correction():
    with pytest.raises((ConfigError, ValueError), match="readout_shots must go with the correction"):
        Mitigation(readout=False, readout_shots=100)
    assert "readout_shots" not in Mitigation().model_dump()
    assert Mitigation(readout_shots=100).model_dump()["readout_shots"] == 100


def test_a_job_that_measured_nothing_needs_a_decision(workload, server, service_state, tmp_path):
    """A qubit reads 0 and 1 alike in one job: others are kept, and its result is not asked for for ever."""
    service_state.simulate = simulate_coin_tosses
    limits = {"executions": 2 * 400 + 2 * 400, "jobs_per_minute": 1e6}
    mitigation = Mitigation(readout_shots=400)
    folder = make_plan(
        workload, quick(backend="ibm_manila", mode="job", mitigation=mitigation, limits=limits), tmp_path
    )
    with open_plan(folder, lambda *_: workload) as execution:
        service_state.faults = [Fault("submit", "400", skip=1)]
        with pytest.raises(HardwareError, match="refused a job"):
            execution.submit(pilot=False)
        assert execution.collect() is None
        assert [chunk.state for chunk in execution.ledger.chunks()] == ["failed", "open", "open"]
        with pytest.raises(HardwareError, match=r"must read 0 and 1 differently.*submit --again"):
            execution.check_decisions()
        service_state.simulate = simulate_ideally
        execution.submit(pilot=False)
        assert execution.collect() is None
        assert execution.submit(again=True) == 1
        assert execution.collect() is not None
    assert len(service_state.jobs) == 4
