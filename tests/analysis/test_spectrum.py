"""Spectra, periods and kernels against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from analysis_cases import product, turn
from hypothesis import given
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector

from qhybrid.analysis import analyze_circuit
from qhybrid.analysis.estimates import Estimate, NotComputed
from qhybrid.analysis.kernels import GeometricDifference, difference, geometric_differences
from qhybrid.analysis.parameters import Settings, common_base
from qhybrid.analysis.spectrum import spectra_of
from qhybrid.analysis.states import StateVectors
from qhybrid.analysis.text import kernel_text, sections_of
from qhybrid.analysis.values import ExactValues
from qhybrid.circuits import CircuitSpec, build_circuit


def spectra(spec, **ranges):
    own = Settings(spec, **ranges)
    return spectra_of(own, ExactValues(own))


def test_one_rotation_reaches_its_own_frequency():
    (found,) = spectra(turn(math.pi))
    assert [wave.value for wave in found.frequencies] == pytest.approx([math.pi])
    assert found.frequencies[0].amplitude == pytest.approx(1.0)
    assert found.frequencies[0].error == pytest.approx(0.0, abs=1e-9)
    assert found.possible == pytest.approx(math.pi)
    # cos(pi x) has no mean: 0 is possible, as behind another rotation, and here it is absent.
    assert found.merged


@pytest.mark.parametrize(("uploads", "reached"), [(2, [0, 2]), (3, [0, 1, 2, 3]), (4, [0, 1, 2, 3, 4])])
def test_uploads_reach_up_to_their_number(uploads, reached):
    """Two uploads with RX between: (1 - cos w) / 2 + (1 + cos w) / 2 cos 2 pi x has no single frequency."""
    (found,) = spectra(turn(math.pi, uploads, "rx"))
    assert [round(wave.value / math.pi, 9) for wave in found.frequencies] == reached
    assert found.possible == pytest.approx(uploads * math.pi)
    assert found.merged == (uploads == 2)


@pytest.mark.parametrize("uploads", [2, 3, 4])
def test_uploads_that_commute_with_what_is_between_merge(uploads):
    (found,) = spectra(turn(math.pi, uploads, "ry"))
    assert [round(wave.value / math.pi, 9) for wave in found.frequencies] == [uploads]
    assert found.frequencies[0].amplitude == pytest.approx(1.0)
    assert found.merged


def test_amplitudes_are_the_root_mean_square_of_fourier_coefficients():
    """RY(x) RX(w) RY(x), Z: cos^2 x - sin^2 x cos w = (1 - cos w) / 2 + (1 + cos w) / 2 cos 2 x."""
    (found,) = spectra(turn(1.0, 2, "rx"))
    own = Settings(turn(1.0, 2, "rx"))
    turned = np.cos(own.draw(found.draws, "spectrum", 0)[:, 1].numpy())
    waves = {round(wave.value): wave for wave in found.frequencies}
    assert waves[0].amplitude == pytest.approx(math.sqrt(((1 - turned) ** 2 / 4).mean()))
    assert waves[2].amplitude == pytest.approx(math.sqrt(((1 + turned) ** 2 / 4).mean()))
    squares = (1 + turned) ** 2 / 4
    assert waves[2].error == pytest.approx(
        squares.std(ddof=1) / math.sqrt(found.draws) / 2 / waves[2].amplitude
    )


def test_factors_and_controlled_rotations_have_their_own_periods():
    x = ParameterVector("x", 3)
    circuit = QuantumCircuit(2)
    circuit.h([0, 1])
    circuit.crx(x[0], 0, 1)
    circuit.ry(2 * x[1], 0)
    circuit.ry(3 * x[1], 1)
    circuit.rx(x[2], 0)
    circuit.rx(math.sqrt(2) * x[2], 1)
    own = Settings(CircuitSpec.from_circuit(circuit, list(x), [], ["ZI", "IZ", "XX"]))
    assert own.facts[0].period == pytest.approx(4 * math.pi)
    assert own.facts[1].period == pytest.approx(2 * math.pi)
    assert own.facts[2].period is None
    assert (own.facts[2].low, own.facts[2].high) == (-math.pi, math.pi)
    found = spectra_of(own, ExactValues(own))
    assert set(np.round([wave.value for wave in found[0].frequencies], 9)) <= {0, 0.5, 1.0}
    assert max(wave.value for wave in found[1].frequencies) == pytest.approx(5)
    assert "no common base" in found[2].note
    assert found[2].possible == pytest.approx(1 + math.sqrt(2))


def test_products_of_inputs_have_no_fixed_frequencies():
    first, _ = spectra(build_circuit("qcq_classifier"))
    assert first.note == "no fixed frequencies: it enters expressions together with x[1]"
    # 2 x twice, and 2 (pi - x)(pi - y) twice, y in [-pi, pi]: at most 4 + 4 * 2 pi.
    assert 4 < first.possible <= 4 + 8 * math.pi


def test_no_inputs_no_spectrum():
    assert isinstance(spectra(product(2)), NotComputed)
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.ry(w, 0)
    (found,) = spectra(CircuitSpec.from_circuit(circuit, [x], [w], "Z"))
    assert found.note == "no gate depends on it"


def test_every_input_of_hq_unets_circuit_enters_once():
    found = spectra(build_circuit("hq_unet_qcnn"))
    assert len(found) == 48
    assert all(max(wave.value for wave in one.frequencies) == 1.0 for one in found)
    assert all(one.possible == 1.0 for one in found)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.sampled_from([1.0, math.pi, 0.3, 1e-3]))
def test_common_base_is_the_greatest_common_divisor(numbers, unit):
    assert common_base([unit * number for number in numbers]) == pytest.approx(unit * math.gcd(*numbers))


def test_factors_without_a_common_base():
    assert common_base([1.0, math.pi]) is None
    assert common_base([]) is None
    assert common_base([0.5, -1.5]) == pytest.approx(0.5)


def test_equal_kernels_have_no_difference():
    points = np.random.default_rng(0).normal(size=(20, 5))
    kernel = np.exp(-np.square(points[:, None] - points[None]).sum(2))
    assert difference(kernel, kernel) == pytest.approx(1.0)
    assert difference(5 * kernel, kernel) == pytest.approx(1.0)  # both have trace N


def test_the_difference_of_diagonal_kernels_is_the_root_of_their_largest_ratio():
    quantum, classical = np.diag([1.0, 2.0, 3.0]), np.diag([3.0, 2.0, 1.0])
    assert difference(quantum, classical) == pytest.approx(math.sqrt(3))
    assert difference(quantum, np.diag([1.0, 1.0, 0.0])) is None


def test_the_difference_by_its_definition():
    random = np.random.default_rng(1)
    one, other = (a @ a.T + np.eye(6) for a in random.normal(size=(2, 6, 6)))
    one, other = 6 * one / np.trace(one), 6 * other / np.trace(other)
    values, vectors = np.linalg.eigh(one)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    expected = math.sqrt(np.linalg.norm(root @ np.linalg.inv(other) @ root, 2))
    assert difference(one, other) == pytest.approx(expected)


def test_a_rotations_kernel_is_a_classical_one():
    """RY(x) on one qubit: (1 + cos(x - y)) / 2 is the linear kernel on cosine and sine with a constant."""
    own = Settings(turn())
    fidelity, projected = geometric_differences(own, StateVectors(own.lowered, own.count))
    assert (fidelity.kernel, projected.kernel) == ("fidelity", "projected")
    assert fidelity.nearest == "linear on cosines and sines"
    # The ridge is no part of it: 1 + cos(x - y) over 0.99 of the same is a little above 1.
    assert fidelity.value.value == pytest.approx(math.sqrt(1 / 0.99), abs=2e-3)
    assert fidelity.largest == 8


def test_kernels_need_inputs():
    (found,) = geometric_differences(Settings(product(2)), None)
    assert str(found) == "not computed: no gate depends on an input"


@pytest.mark.parametrize("work", [1.0, 4.0, 40.0])
def test_kernels_of_too_few_inputs_are_refused(monkeypatch, work):
    """Four inputs differ from no kernel, and none cannot be computed."""
    own = Settings(turn())
    states = StateVectors(own.lowered, own.count)
    monkeypatch.setattr("qhybrid.analysis.expressibility.STATE_WORK", work * states.work)
    monkeypatch.setattr("qhybrid.analysis.values.BUDGET", 1.0)
    found = geometric_differences(own, states)
    assert [one.reason.partition(",")[0] for one in found] == ["needs 5 times 16 inputs"] * 2


def test_no_difference_of_few_inputs_promises_nothing():
    """g = 1 is none, however small sqrt(N) is."""

    def said(g, points):
        estimate = Estimate(g, 0.0, 5)
        return kernel_text(GeometricDifference("fidelity", estimate, "own", points, math.sqrt(points)))

    for points in (16, 25, 64):
        assert said(1.0, points).endswith("no labels on which it is far better")
    assert said(1.99, 64).endswith("no labels on which it is far better")
    assert said(2.01, 64).endswith("labels on which it is better may exist")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (turn(), "; no constant part"),
        (turn(1.0, 3, "rz"), "largest observable)"),
        (turn(1.0, 3, "ry"), "; 0, +-1, +-2 cancel, which its rotations could give"),
    ],
)
def test_frequencies_that_cancel_are_named(spec, said):
    """A single rotation has none: cos(x) just has no mean."""
    (line,) = dict(sections_of(analyze_circuit(spec, samples=10)))["spectrum"]
    assert line.endswith(said)
