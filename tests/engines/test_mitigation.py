"""Corrected values against closed forms, and against Aer."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import build_circuit
from qhybrid.circuits.spec import CircuitSpec
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.engines.mapped import DeviceMapping, MappedEngine
from qhybrid.engines.mitigation import (
    ReadoutCorrection,
    ZeroNoiseExtrapolation,
    corrected_observable,
    extrapolation_coefficients,
    mitigated_engine,
)
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

ANGLES = torch.tensor([[0.3], [1.2], [2.5]], dtype=torch.float64)
NONE = torch.zeros(0, dtype=torch.float64)


def rotations(count, observable="Z"):
    """RX(x / count) repeated: <Z> = cos(x), with depolarizing p on each gate (1 - p)^count cos(x)."""
    x = Parameter("x")
    circuit = QuantumCircuit(1)
    for _ in range(count):
        circuit.rx(x / count, 0)
    return CircuitSpec.from_circuit(circuit, [x], [], [SparsePauliOp(observable)])


def exact(profile, _number=0):
    return make_engine("exact", noise=profile)


def test_coefficients_are_those_of_the_books():
    assert extrapolation_coefficients((1, 2, 3), "richardson") == pytest.approx((3, -3, 1))
    assert extrapolation_coefficients((1, 2, 3), "linear") == pytest.approx((4 / 3, 1 / 3, -2 / 3))
    assert extrapolation_coefficients((1, 3), "linear") == pytest.approx((1.5, -0.5))


@pytest.mark.parametrize("gates", [1, 2])
def test_extrapolation_is_exact_where_noise_is_a_polynomial(gates):
    profile = NoiseProfile.depolarizing(p_1q=0.04)
    spec = rotations(gates)
    noisy = exact(profile).expectations(spec, ANGLES, NONE)
    torch.testing.assert_close(noisy, 0.96**gates * ANGLES.cos())
    engine = ZeroNoiseExtrapolation(exact, profile)
    torch.testing.assert_close(engine.expectations(spec, ANGLES, NONE), ANGLES.cos())


def test_what_is_left_of_three_gates_is_the_cubic_term():
    p = 0.05
    engine = ZeroNoiseExtrapolation(exact, NoiseProfile.depolarizing(p_1q=p))
    # (1 - s p)^3 = ... - s^3 p^3, and 3 * 1 - 3 * 8 + 27 = 6.
    expected = (1 - 6 * p**3) * ANGLES.cos()
    torch.testing.assert_close(engine.expectations(rotations(3), ANGLES, NONE), expected)


def test_linear_extrapolation_of_two_gates():
    p = 0.05
    engine = ZeroNoiseExtrapolation(exact, NoiseProfile.depolarizing(p_1q=p), extrapolation="linear")
    # (1 - s p)^2 = 1 - 2 s p + s^2 p^2, and (4 * 1 + 1 * 4 - 2 * 9) / 3 = -10 / 3.
    expected = (1 - 10 / 3 * p**2) * ANGLES.cos()
    torch.testing.assert_close(engine.expectations(rotations(2), ANGLES, NONE), expected)


@pytest.mark.parametrize("letter", ["Z", "X", "Y"])
def test_readout_correction_undoes_the_readout(letter):
    profile = NoiseProfile(readout_p01=0.08, readout_p10=0.03)
    spec = rotations(1, letter)
    ideal = make_engine("exact").expectations(spec, ANGLES, NONE)
    read = exact(profile).expectations(spec, ANGLES, NONE)
    torch.testing.assert_close(read, 0.89 * ideal + 0.05)
    corrected = ReadoutCorrection(exact(profile), profile).expectations(spec, ANGLES, NONE)
    torch.testing.assert_close(corrected, ideal)


def two_qubit_profile():
    return NoiseProfile(
        p_2q=0.02,
        qubits={
            0: {"readout_p01": 0.1, "readout_p10": 0.02},
            1: {"readout_p01": 0.03, "readout_p10": 0.07},
        },
    )


def test_products_are_corrected_with_their_parts_against_aer():
    circuit = QuantumCircuit(2)
    circuit.ry(0.7, 0)
    circuit.cx(0, 1)
    circuit.rx(0.4, 1)
    observables = [SparsePauliOp(["ZZ", "IZ"], [0.5, 2.0]), SparsePauliOp("XY")]
    spec = CircuitSpec.from_circuit(circuit, [], [], observables)
    gates_only = NoiseProfile(p_2q=0.02)
    reference = make_engine("aer", method="density_matrix", noise=gates_only)
    wanted = reference.expectations(spec, torch.zeros((1, 0)).double(), NONE)
    for engine in (
        exact(two_qubit_profile()),
        make_engine("aer", method="density_matrix", noise=two_qubit_profile()),
    ):
        corrected = ReadoutCorrection(engine, two_qubit_profile())
        found = corrected.expectations(spec, torch.zeros((1, 0)).double(), NONE)
        torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", [{"kind": "exact"}, {"kind": "aer", "method": "density_matrix"}])
def test_corrected_shots_scatter_around_the_ideal_value(kind):
    profile = NoiseProfile(readout_p01=0.1, readout_p10=0.02)
    engine = ReadoutCorrection(make_engine(noise=profile, shots=400, seed=1, **kind), profile)
    rows = torch.full((400, 1), 1.2, dtype=torch.float64)
    values = engine.expectations(rotations(1), rows, NONE)
    read = 0.88 * math.cos(1.2) + 0.08
    error = math.sqrt((1 - read**2) / 400) / 0.88
    assert abs(float(values.mean()) - math.cos(1.2)) < 4 * error / 20
    assert float(values.std()) == pytest.approx(error, rel=0.15)


def test_extrapolated_shots_have_the_predicted_variance():
    profile = NoiseProfile.depolarizing(p_1q=0.02)

    def make(noise, number):
        return make_engine("exact", noise=noise, shots=500, seed=number)

    engine = ZeroNoiseExtrapolation(make, profile)
    assert (engine.shots_factor, engine.variance_factor) == (3, pytest.approx(19))
    rows = torch.full((500, 1), math.pi / 2, dtype=torch.float64)
    values = engine.expectations(rotations(1), rows, NONE)
    assert float(values.std()) == pytest.approx(math.sqrt(19 / 500), rel=0.12)
    assert abs(float(values.mean())) < 4 * math.sqrt(19 / 500 / 500)


def test_extrapolation_leaves_readout_errors_and_the_correction_takes_them():
    profile = NoiseProfile(p_1q=0.04, readout_p01=0.06, readout_p10=0.02)
    found = {
        name: mitigated_engine(name, exact, profile).expectations(rotations(1), ANGLES, NONE)
        for name in ("none", "readout", "zne", "readout_zne")
    }
    ideal = ANGLES.cos()
    torch.testing.assert_close(found["none"], 0.92 * 0.96 * ideal + 0.04)
    torch.testing.assert_close(found["readout"], 0.96 * ideal)
    torch.testing.assert_close(found["zne"], 0.92 * ideal + 0.04)
    torch.testing.assert_close(found["readout_zne"], ideal)


def test_gradients_are_those_of_the_corrected_value():
    profile = NoiseProfile(p_1q=0.04, readout_p01=0.06, readout_p10=0.02)
    rows = ANGLES.clone().requires_grad_()
    mitigated_engine("readout_zne", exact, profile).expectations(rotations(1), rows, NONE).sum().backward()
    torch.testing.assert_close(rows.grad, -ANGLES.sin())


def test_descriptions_tell_mitigated_engines_apart():
    profile = NoiseProfile.depolarizing(p_1q=0.01)
    texts = {
        str(mitigated_engine(name, exact, profile).describe())
        for name in ("none", "readout", "zne", "readout_zne")
    }
    assert len(texts) == 4


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mitigated_engine("magic", exact, NoiseProfile()), "none, readout, readout_zne, zne"),
        (lambda: ZeroNoiseExtrapolation(exact, NoiseProfile(), scales=(1,)), "at least two"),
        (lambda: ZeroNoiseExtrapolation(exact, NoiseProfile(), scales=(0.5, 2)), "at least 1"),
        (lambda: ZeroNoiseExtrapolation(exact, NoiseProfile(), extrapolation="cubic"), "richardson, linear"),
        (
            lambda: corrected_observable(SparsePauliOp("Z"), NoiseProfile(readout_p01=0.5, readout_p10=0.5)),
            "smaller read-out errors",
        ),
        (lambda: corrected_observable(SparsePauliOp("Z" * 17), NoiseProfile(readout_p01=0.1)), "at most 16"),
    ],
)
def test_errors(call, message):
    with pytest.raises(EngineError, match=message):
        call()


def test_mapped_circuits_give_the_same_values_and_suffer_the_device():
    spec = build_circuit("qcq_classifier", num_qubits=2, reps=1, feature_map_reps=1)
    device = load_device("fake_torino")
    profile = NoiseProfile.from_backend(device)
    torch.manual_seed(0)
    rows, weights = torch.rand((4, spec.num_inputs)).double(), torch.rand(spec.num_weights).double()
    ideal = make_engine("exact").expectations(spec, rows, weights)
    mapping = DeviceMapping(device)
    routed = MappedEngine(lambda noise: make_engine("exact", noise=noise), mapping, None)
    torch.testing.assert_close(routed.expectations(spec, rows, weights), ideal)
    found = [
        MappedEngine(lambda noise, o=options: make_engine(noise=noise, **o), mapping, profile).expectations(
            spec, rows, weights
        )
        for options in ({"kind": "exact"}, {"kind": "aer", "method": "density_matrix"})
    ]
    torch.testing.assert_close(found[0], found[1], atol=1e-9, rtol=0)
    assert 1e-4 < float((found[0] - ideal).abs().max()) < 0.2
    assert set(mapping.route(spec).gate_counts) <= {"sx", "x", "rz", "cz", "rzz", "rx"}
    assert (
        MappedEngine(lambda noise: make_engine("exact", noise=noise), mapping, profile).describe()["device"]
        == "fake_torino"
    )


@pytest.mark.parametrize(
    ("content", "warned"),
    [
        ({"p_1q": 0.3}, False),
        ({"p_1q": 0.4}, True),
        ({"p_1q": 0.01, "gates": {"cz 3 4": {"p": 0.9}}}, False),  # a pair that the circuit does not use
        ({"channels": [{"kind": "bit_flip", "p": 0.2}]}, True),
        ({"channels": [{"kind": "pauli", "probabilities": {"x": 0.1, "z": 0.1}}]}, False),
        ({"channels": [{"kind": "pauli", "probabilities": {"x": 0.2, "z": 0.1}}]}, True),
        ({"channels": [{"kind": "coherent_rotation", "axis": "x", "angle_rad": 2.0}]}, False),
    ],
)
def test_noise_that_cannot_be_that_strong_is_warned_of(content, warned):
    engine = ZeroNoiseExtrapolation(exact, NoiseProfile(**content))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            engine.expectations(rotations(2), ANGLES, NONE)
    assert ["saturates before" in str(one.message) for one in caught] == [True] * warned
