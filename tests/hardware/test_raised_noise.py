"""Errors that are put in raise the noise by the factor that is asked for: against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from ibm_service_learning import rms
from plan_cases import map_workload, quick
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import CZGate
from qiskit.transpiler import Target
from qiskit_aer import AerSimulator
from qiskit_ibm_runtime.exceptions import IBMInputValueError
from qiskit_ibm_runtime.fake_provider.executor.run_quantum_program import run_quantum_program
from qiskit_ibm_runtime.options_models import SamplerOptions
from qiskit_ibm_runtime.options_models.simulator import SimulatorOptions

from qhybrid.engines import make_engine
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.amplification import amplified, lindblad_probabilities, twirled_rates
from qhybrid.hardware.circuits.decoding import _between
from qhybrid.hardware.circuits.noise_layers import (
    LayerNoise,
    LearnedNoise,
    NoiseLayer,
    NoiseWork,
    checked_noise,
)
from qhybrid.hardware.circuits.prepared import Pub
from qhybrid.hardware.circuits.simulation import NO_WEIGHTS, Simulation
from qhybrid.hardware.plan.planning import draft_plan
from qhybrid.hardware.plan.prediction import expected_answer, spread_by_versions
from qhybrid.hardware.services.ibm.learning import injecting_program, learning_instructions
from qhybrid.hardware.settings import LEVELS
from qhybrid.noise import NoiseProfile

FACTORS = [1.5, 2.0, 3.0]


@pytest.fixture(scope="module")
def drafted():
    return draft_plan(map_workload(2), quick(mitigation=LEVELS["pea"]))


@pytest.fixture(scope="module")
def prepared(drafted):
    return next(iter(drafted.circuits.values()))


def values(noise, spec, inputs):
    return make_engine("exact", noise=noise).expectations(spec, torch.as_tensor(inputs), NO_WEIGHTS).numpy()


@pytest.mark.parametrize("factor", FACTORS)
def test_depolarizing_gates_at_a_factor_are_more_depolarizing_ones(factor, prepared):
    """What is left of every string is 1 - p, so (1 - p)^factor at the factor."""
    spec = prepared.copies[0].specs[0]
    inputs = np.random.default_rng(0).normal(size=(3, spec.num_inputs))
    found = values(amplified(NoiseProfile.depolarizing(p_2q=0.04), spec.circuit, factor), spec, inputs)
    expected = values(NoiseProfile.depolarizing(p_2q=1 - 0.96**factor), spec, inputs)
    assert np.abs(found - expected).max() < 1e-9
    assert np.abs(found - values(NoiseProfile.depolarizing(p_2q=0.04), spec, inputs)).max() > 1e-3


@pytest.mark.parametrize("factor", FACTORS)
def test_dephasing_gates_at_a_factor_dephase_faster(factor, prepared):
    """With exp(-t / T2) left of X and Y the factor divides T2."""
    spec = prepared.copies[0].specs[0]
    inputs = np.random.default_rng(1).normal(size=(3, spec.num_inputs))
    one, other = (NoiseProfile(t1_us=1e9, t2_us=20.0 / by, gate_2q_ns=400) for by in (1.0, factor))
    found = values(amplified(one, spec.circuit, factor), spec, inputs)
    assert np.abs(found - values(other, spec, inputs)).max() < 1e-6


def test_rates_of_relaxation_are_those_of_its_twirled_channel():
    """t / 4 T1 for X and Y and t / 2 T2 - t / 4 T1 for Z on each qubit (E. van den Berg et al. 2023)."""
    error = NoiseProfile(t1_us=100.0, t2_us=80.0, gate_2q_ns=400).gate_error("cx", (0, 1))
    rates = dict(
        zip(
            ["IX", "IY", "IZ", "XI", "XX", "XY", "XZ", "YI", "YX", "YY", "YZ", "ZI", "ZX", "ZY", "ZZ"],
            twirled_rates(error),
        )
    )
    flip, phase = 0.4 / 400, 0.4 / 160 - 0.4 / 400
    for label, rate in rates.items():
        single = "I" in label
        expected = 0.0 if not single else phase if "Z" in label else flip
        assert rate == pytest.approx(expected, abs=1e-9), label


def test_probabilities_are_those_of_independent_errors():
    rates = np.zeros(15)
    rates[2], rates[11] = 0.1, 0.3  # IZ and ZI
    first, second = ((1 - np.exp(-2 * rate)) / 2 for rate in (0.1, 0.3))
    found = lindblad_probabilities(rates)
    assert found[2] == pytest.approx(first * (1 - second))
    assert found[11] == pytest.approx(second * (1 - first))
    assert found[14] == pytest.approx(first * second)
    assert found.sum() == pytest.approx(1 - (1 - first) * (1 - second))


def test_extrapolation_over_raised_noise_comes_nearer_than_folded_gates(drafted):
    """On exact values of strong noise: folding by 3 leaves more of second order than a factor of 2."""
    ((key, bound),) = drafted.bound.items()
    angles = np.random.default_rng(2).normal(size=(8, bound.num_inputs))
    exact = values(None, bound, angles)
    left = {}
    for level in ("none", "strong", "pea"):
        raised = {"pea": (1.0, 2.0)} if level == "pea" else {}
        settings = quick(mitigation=LEVELS[level].model_copy(update=raised))
        circuit = draft_plan(map_workload(2), settings).circuits[key]
        noise = NoiseProfile.depolarizing(p_2q=0.05)
        circuit = replace(circuit, copies=tuple(replace(copy, noise=noise) for copy in circuit.copies))
        answer = expected_answer({key: circuit}, settings, None, Simulation())
        left[level] = rms(answer(key, angles) - exact)
    assert left["pea"] < 0.75 * left["strong"] < 0.3 * left["none"]


def layered():
    """A circuit of two layers: cz 0 1, then cz 2 1, in which all strings of Z stay what they are."""
    circuit = QuantumCircuit(5, 3, name="layered")
    angle = Parameter("a")
    circuit.rz(angle, 0)
    circuit.cz(0, 1)
    circuit.cz(2, 1)
    circuit.barrier()
    circuit.measure([0, 1, 2], [0, 1, 2])
    return circuit


@pytest.mark.parametrize("factor", FACTORS)
def test_the_clients_program_puts_in_what_was_learned(factor):
    """<Z> = exp(-2 (factor - 1) r) where X errors of rate r are put in after a layer, and 1 elsewhere."""
    first, second = NoiseLayer((0, 1), (("cz", (0, 1)),)), NoiseLayer((0, 1, 2), (("cz", (1, 2)),))
    noise = LearnedNoise(
        [
            LayerNoise(first, (("Y", (0,)),), (0.1,)),
            LayerNoise(second, (("X", (2,)), ("ZZ", (0, 1))), (0.15, 0.4)),
        ]
    )
    versions = 4000
    mitigation = LEVELS["pea"].model_copy(update={"randomizations": versions})
    pubs = [(layered(), np.array([[0.3]]), factor)]
    program, _ = injecting_program(pubs, noise, SamplerOptions(), mitigation, versions)
    assert program.items[0].shape == (versions, 1)
    (found,) = run_quantum_program(AerSimulator(), program, SimulatorOptions(seed_simulator=1))
    register = next(name for name in found if not name.startswith(("measurement_flips", "pauli_signs")))
    bits = found[register] ^ found[f"measurement_flips.{register}"]
    means = 1 - 2 * bits.reshape(-1, 3).mean(axis=0)
    expected = np.exp(-2 * (factor - 1) * np.array([0.1, 0.0, 0.15]))
    assert means == pytest.approx(expected, abs=4 / np.sqrt(versions))
    assert not found["pauli_signs"].any()


def test_layers_whose_noise_is_not_known_are_not_executed():
    first = NoiseLayer((0, 1), (("cz", (0, 1)),))
    noise = LearnedNoise([LayerNoise(first, (), ())])
    pubs = [(layered(), np.array([[0.3]]), 2.0)]
    with pytest.raises(HardwareError, match="noise of all layers of circuit `layered` must be known"):
        injecting_program(pubs, noise, SamplerOptions(), LEVELS["pea"], 16)
    injecting_program([(*pubs[0][:2], 1.0)], LearnedNoise([]), SamplerOptions(), LEVELS["pea"], 16)


LAYER = NoiseLayer((3, 5, 8), (("cz", (3, 5)),), ((3, 5), (5, 8)))
WRONG = [
    ([], "0 layers came back"),
    ([(2, [("X", (0,))], [0.1])], "2 qubits came back for a layer of 3"),
    ([(3, [("X", (0,))], [0.1, 0.2])], "2 qubits|3 qubits"),
    ([(3, [("X", (0,))], [-0.1])], "negative"),
    ([(3, [("X", (0,))], [float("nan")])], "no numbers"),
    ([(3, [("X", (0,))], [4.0])], "4 errors in a layer of 3 qubits"),
    ([(3, [("X", (3,))], [0.1])], r"X on places \[3\]"),
    ([(3, [("XZ", (0, 2))], [0.1])], r"qubits \[3, 8\] together .* no neighbours"),
    ([(3, [("XXX", (0, 1, 2))], [0.1])], "together"),
]


@pytest.mark.parametrize(("found", "message"), WRONG)
def test_noise_that_cannot_be_that_of_the_layers_is_refused(found, message):
    with pytest.raises(ValueError, match=message):
        checked_noise(NoiseWork((LAYER,), 1, 1.0), found)


def test_noise_of_the_layers_is_taken():
    good = [(3, [("X", (2,)), ("ZY", (1, 2))], [0.01, 0.0])]
    learned = checked_noise(NoiseWork((LAYER,), 1, 1.0), good)
    assert learned.of(NoiseLayer((3, 5, 8), (("cz", (3, 5)),))).rates == (0.01, 0.0)
    assert learned.of(NoiseLayer((3, 5), (("cz", (3, 5)),))) is None


def test_both_simulators_raise_the_noise_alike(drafted, prepared):
    """Aer's trajectories and exact values, at the factors 1 and 3."""
    shots, (bound,) = 5_000, drafted.bound.values()
    for variant in (0, 1):
        pub = Pub(prepared, variant, np.random.default_rng(3).normal(size=(2, bound.num_inputs)))
        (exact,), (drawn,) = Simulation().means(pub, None), Simulation("aer").means(pub, shots, 1)
        assert np.abs(exact - drawn).max() < 5 / np.sqrt(shots)


def test_versions_that_share_their_errors_spread_more(prepared):
    """Half of the versions flip a bit: of 64 versions the mean has 1 / 8, whatever the shots of each."""
    mitigation = LEVELS["pea"].model_copy(update={"randomizations": 64})
    settings = quick(backend="ibm_manila", mitigation=mitigation, shots=64 * 100)
    random = np.random.default_rng(0)
    flips = random.integers(0, 2, (2000, 64, 1, 1)).astype(bool)
    bits = np.broadcast_to(flips, (2000, 64, 100, 1)).reshape(2000, 6400, 1)
    found = _between(bits, [0], 64)
    assert np.sqrt(found.mean()) == pytest.approx(1 / 8, rel=0.02)
    assert (1 - 2 * bits.mean(axis=1)).std() == pytest.approx(1 / 8, rel=0.05)
    cut = _between(bits[:, :6350], [0], 64)  # the last version is not whole
    assert np.sqrt(cut.mean()) == pytest.approx(1 / np.sqrt(63), rel=0.02)
    size = len(prepared.copies[0].specs[0].observables)
    pubs = [
        {"means": [np.full((2000, size), 1.0 if variant.noise == 1 else 0.0)]}
        for variant in prepared.variants
    ]
    spread_by_versions(prepared, pubs, settings, random)
    spreads = [pub["means"][0].std() for pub in pubs]
    assert spreads == pytest.approx([0.0 if v.noise == 1 else 1 / 8 for v in prepared.variants], rel=0.03)


def test_gates_that_are_listed_from_one_side_alone_can_be_learned():
    """The layer is told apart by ascending qubits, and sent as the device has its gate."""
    target = Target(num_qubits=3)
    target.add_instruction(CZGate(), {(2, 1): None})
    (found,) = learning_instructions([NoiseLayer((0, 1, 2), (("cz", (1, 2)),))], target)
    (gate,) = found.operation.body.data
    assert [found.operation.body.find_bit(qubit).index for qubit in gate.qubits] == [2, 1]
    with pytest.raises(IBMInputValueError, match="not supported"):
        learning_instructions([NoiseLayer((0, 1, 2), (("cz", (0, 1)),))], target)
