"""Variances of gradients and their slopes against closed forms and averages over groups."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from analysis_cases import dense, product, turn
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import Operator

from qhybrid.analysis.estimates import FEWEST, Estimate, NotComputed, variance_of
from qhybrid.analysis.parameters import Settings
from qhybrid.analysis.trainability import MEAN, SUM, growth_of, slope_of, trainability_of
from qhybrid.analysis.values import ExactValues
from qhybrid.circuits import CircuitSpec, build_circuit


def found(spec, samples=2000, dead=(), **ranges):
    own = Settings(spec, **ranges)
    return trainability_of(own, ExactValues(own), dead, samples)


def haar(qubits):
    size = 2**qubits
    return size**2 / (2 * (size**2 - 1) * (size + 1))


def test_haar_values_of_the_spec():
    assert [round(haar(n), 3) for n in (1, 2, 3)] == [0.222, 0.107, 0.056]


def sandwiched(before, after, qubits):
    """A rotation about Z on qubit 0 between two constant unitaries; Z of qubit 0."""
    w = Parameter("w")
    circuit = QuantumCircuit(qubits)
    circuit.unitary(before, range(qubits))
    circuit.rz(w, 0)
    circuit.unitary(after, range(qubits))
    return CircuitSpec.from_circuit(circuit, [], [w], "I" * (qubits - 1) + "Z")


def gradient(spec):
    own = Settings(spec)
    return float(ExactValues(own).gradients(own.draw(1, "test"))[0, 0, 0])


def test_one_qubit_between_all_cliffords_has_haars_variance_exactly():
    """The Clifford group is a 3-design: its average of a gradient's square is Haar's.

    Its 24 elements in front give six states, four times each, and those behind six observables +-X, +-Y, +-Z.
    """
    words = ("", "x", "h", "xh", "hs", "xhs")
    turns = []
    for word in words:
        circuit = QuantumCircuit(1)
        for letter in word:
            getattr(circuit, letter)(0)
        turns.append(Operator(circuit).data)
    squares = [gradient(sandwiched(a, b.conj().T, 1)) ** 2 for a in turns for b in turns]
    assert np.mean(squares) == pytest.approx(2 / 9, abs=1e-12)


@pytest.mark.parametrize("qubits", [1, 2, 3])
def test_the_middle_of_a_deep_circuit_has_haars_variance(qubits):
    spec = dense(qubits, 9)
    result = found(spec, 4000)
    middle = result.angles[3 * qubits * 4 + 1]
    assert abs(middle.of_sum.value - haar(qubits)) < 5 * middle.of_sum.error + 0.02 * haar(qubits)
    assert middle.of_sum.samples == 4000


@pytest.mark.parametrize("qubits", [1, 2, 4])
def test_a_product_of_rotations_has_two_to_the_minus_n_or_a_half(qubits):
    every = found(product(qubits))
    for one in every.angles:
        assert abs(one.of_sum.value - 2.0**-qubits) < 4 * one.of_sum.error
    single = found(product(qubits, "first"))
    assert abs(single.angles[0].of_sum.value - 0.5) < 4 * single.angles[0].of_sum.error
    assert all(one.of_sum.value == 0 for one in single.angles[1:])


def test_gradients_are_finite_differences():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    own = Settings(spec)
    values = ExactValues(own)
    rows = own.draw(2, "test")
    found_gradients = values.gradients(rows)
    for place in (0, 5, 12, 19):
        step = np.zeros(own.count)
        step[place] = 1e-5
        numeric = (values.values(rows + step) - values.values(rows - step)) / 2e-5
        np.testing.assert_allclose(found_gradients[:, :, place], numeric, atol=1e-8)


def test_sum_and_mean_over_observables():
    spec = build_circuit("hq_unet_qcnn", grid=2)
    own = Settings(spec)
    result = found(spec, 300)
    gradients = ExactValues(own).gradients(own.draw(300, "gradients")).numpy()
    np.testing.assert_allclose([one.of_sum.value for one in result.angles], gradients.sum(1).var(0, ddof=1))
    np.testing.assert_allclose([one.of_mean.value for one in result.angles], gradients.var(0, ddof=1).mean(0))
    each = np.array([[value for value, _ in one.of_each] for one in result.angles]).T
    np.testing.assert_allclose(each, gradients.var(0, ddof=1))
    weights = gradients[:, :, 12:]
    assert dict(result.series)[SUM].value == pytest.approx(weights.sum(1).var(0, ddof=1).mean())
    assert dict(result.series)[MEAN].value == pytest.approx(weights.var(0, ddof=1).mean())
    assert [name for name, _ in result.series[2:]] == ["Z0", "Z1", "Z2", "Z3", "X0", "X1", "X2", "X3"]


def test_dead_weights_do_not_dilute_the_mean():
    spec = build_circuit("qcq_classifier")
    with_, without = found(spec, 200), found(spec, 200, dead=("w[5]",))
    assert dict(without.series)[SUM].value == pytest.approx(dict(with_.series)[SUM].value * 6 / 5)


def test_the_error_of_a_variance_is_its_scatter():
    values = [found(product(2), 200, weight_range=(0.0, 1.0 + 1e-6 * i)).angles[0].of_sum for i in range(2)]
    assert values[0].error > 0
    random = np.random.default_rng(0).random((300, 400)) ** 2
    variances, errors = variance_of(random.T)
    assert variances.std() == pytest.approx(errors.mean(), rel=0.15)


def test_product_circuits_fall_by_one_half_a_qubit_or_not_at_all():
    sizes = (2, 3, 4, 5, 6)
    every = growth_of("num_qubits", sizes, [found(product(n)) for n in sizes])
    slope = next(one for one in every.slopes if one.series == SUM and one.angle == "mean")
    assert slope.low < -1 < slope.high
    assert slope.high < 0
    assert slope.verdict.startswith("falls exponentially: by a factor of")
    angle = next(one for one in every.slopes if one.series == SUM and one.angle == "w[0]")
    assert angle.low < -1 < angle.high
    dead = [[f"w[{i}]" for i in range(1, n)] for n in sizes]
    first = growth_of(
        "num_qubits", sizes, [found(product(n, "first"), 2000, names) for n, names in zip(sizes, dead)]
    )
    slope = next(one for one in first.slopes if one.series == SUM and one.angle == "mean")
    assert slope.low < 0 < slope.high
    assert slope.verdict == "not shown to fall exponentially: the interval of the slope holds 0"


def test_sizes_that_cannot_be_compared_do_not_enter_a_slope():
    """A mean over the observables that fit is not that of all of them; others are there none the less."""
    every = [found(product(n)) for n in (2, 3, 4)]
    cut = replace(found(product(5)), left_out=2)
    dead = found(product(6), dead=[f"w[{i}]" for i in range(6)])
    empty = NotComputed("needs 3 TiB")
    growth = growth_of("num_qubits", range(2, 8), [*every, cut, dead, empty])
    assert growth.sizes == growth.qubits == (2, 3, 4)
    assert growth.slopes == growth_of("num_qubits", (2, 3, 4), every).slopes
    assert {size: one.reason for size, one in growth.left_out} == {
        5: f"2 of {len(cut.observables) + 2} observables do not fit the memory",
        6: "no observable depends on any angle",
        7: "needs 3 TiB",
    }
    assert growth_of("num_qubits", [7], [empty]) == NotComputed("num_qubits 7: needs 3 TiB")


def exact(values, error=1e-9):
    return [Estimate(value, error, 100) for value in values]


def test_slopes_of_exact_laws():
    qubits = [2, 4, 6, 8, 10]
    falling = slope_of("a", "b", qubits, exact([2.0**-n for n in qubits], 1e-6))
    assert falling.slope == pytest.approx(-1)
    power = slope_of("a", "b", qubits, exact([1 / n for n in qubits]))
    assert power.high < 0
    assert power.verdict == "falls, but by a power law (qubits^-1.0) rather than exponentially"
    assert slope_of("a", "b", qubits, exact([2.0**n for n in qubits])).verdict == "grows with size"
    for sizes, there in (([2, 4], "2, 4"), ([2, 2, 2], "2")):  # another argument than the size has grown
        verdict = slope_of("a", "b", sizes, exact([0.5, 0.25, 0.5][: len(sizes)])).verdict
        assert verdict.endswith(f"needs three numbers of qubits, but there are {there} alone")
    zero = slope_of("a", "b", [2, 4, 6], exact([0.5, 0.0, 0.25]))
    assert (zero.slope, zero.verdict) == (None, "no slope: the gradient is zero at 4 qubits")


def test_the_interval_of_a_slope_is_no_narrower_than_its_points_allow():
    """Three points on a line by luck, each with a large error of its own."""
    qubits = [2, 4, 6]
    lucky = slope_of("a", "b", qubits, [Estimate(2.0**-n, 0.3 * 2.0**-n, 10) for n in qubits])
    error = 0.3 / math.log(2) / math.sqrt(8)
    assert lucky.high - lucky.slope == pytest.approx(12.706 * error, rel=1e-3)
    assert lucky.verdict.startswith("not shown")


def test_circuits_without_parameters_have_no_gradients():
    circuit = QuantumCircuit(1)
    circuit.h(0)
    assert isinstance(found(CircuitSpec.from_circuit(circuit, [], [], "Z")), NotComputed)
    # Without weights the inputs are compared.
    assert found(turn(math.pi), 50).angles[0].kind == "input"


def test_a_variance_of_two_settings_is_refused(monkeypatch):
    """Its standard error would always be 0: both squares are the same."""
    own = Settings(product(3))
    values = ExactValues(own)
    monkeypatch.setattr("qhybrid.analysis.values.BUDGET", 1e6)  # two settings of gradients
    assert values.affordable(1000, gradients=True) == 2
    found = trainability_of(own, values, (), 1000)
    assert found.samples == FEWEST
    assert all(value.error > 0 for _, value in found.series)
    monkeypatch.setattr("qhybrid.analysis.values.BUDGET", 1e5)
    assert "multiply-adds for 10 settings" in trainability_of(own, values, (), 1000).reason
