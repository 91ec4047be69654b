"""Laws of joint shots: multinomial up to 12 qubits, binomial counts with exact pairs above."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import DensityMatrix, Kraus, SparsePauliOp, Statevector
from scipy.special import ndtr
from scipy.stats import binom, chi2, multinomial, norm

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.engines.shots import copula, sampler
from qhybrid.engines.shots.outcomes import Measurement, OutcomeTable
from qhybrid.engines.shots.strings import as_observable
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

F64 = torch.float64
SMALLEST_P_VALUE = 1e-4


def entangled(num_qubits):
    """A state with correlations in every basis."""
    circuit = QuantumCircuit(num_qubits)
    for qubit in range(num_qubits):
        circuit.ry(0.4 + 0.5 * qubit, qubit)
        circuit.rz(0.3 * qubit, qubit)
    for qubit in range(num_qubits - 1):
        circuit.crx(1.1, qubit, qubit + 1)
    circuit.rzz(0.7, 0, num_qubits - 1)
    circuit.swap(0, 1)
    return circuit


def strings_of(letters):
    """All strings of a basis given as one letter a qubit, qubit 0 last."""
    size = len(letters)
    return [
        "".join(letter if mask >> (size - 1 - place) & 1 else "I" for place, letter in enumerate(letters))
        for mask in range(1, 2**size)
    ]


def draws(circuit, labels, repeats, **options):
    spec = CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp(label) for label in labels])
    engine = make_engine("exact", **options)
    return engine.expectations(spec, torch.zeros(repeats, 0, dtype=F64), torch.zeros(0)).numpy()


def rotated(circuit, letters):
    """The circuit with its qubits turned so that Z reads the letters (qubit 0 last)."""
    result = circuit.copy()
    for qubit, letter in enumerate(reversed(letters)):
        if letter == "Y":
            result.sdg(qubit)
        if letter in "XY":
            result.h(qubit)
    return result


def check_multinomial(values, probabilities, shots):
    """Chi-squared test of the vectors of outcome counts against their multinomial law."""
    size = len(probabilities)
    signs = np.array([[(-1) ** (a & b).bit_count() for a in range(size)] for b in range(size)])
    means = np.concatenate([np.ones((len(values), 1)), values], axis=1)
    counts = means @ signs * shots / size
    np.testing.assert_allclose(counts, counts.round(), atol=1e-9)
    assert (counts > -0.5).all()
    keys, seen = np.unique(counts.round().astype(int), axis=0, return_counts=True)
    expected = len(values) * multinomial.pmf(keys, shots, probabilities)
    common = expected >= 5
    rest = len(values) - expected[common].sum()
    statistic = ((seen[common] - expected[common]) ** 2 / expected[common]).sum()
    if rest > 5:
        statistic += (seen[~common].sum() - rest) ** 2 / rest
    assert chi2.sf(statistic, max(1, common.sum() - (rest <= 5))) > SMALLEST_P_VALUE


@pytest.mark.parametrize("shots", [1, 3, 40])
@pytest.mark.parametrize("letters", ["ZZZ", "XYZ"])
def test_counts_follow_the_multinomial_law(shots, letters):
    circuit = entangled(3)
    values = draws(circuit, strings_of(letters), 20000, shots=shots, seed=5)
    check_multinomial(values, Statevector(rotated(circuit, letters)).probabilities(), shots)


def depolarizing(rate, num_qubits):
    """rho -> (1 - rate) rho + rate 1/2^k, as Kraus operators."""
    paulis = [SparsePauliOp("".join(p)).to_matrix() for p in product("IXYZ", repeat=num_qubits)]
    weights = np.full(len(paulis), rate / len(paulis))
    weights[0] += 1 - rate
    return Kraus([np.sqrt(w) * p for w, p in zip(weights, paulis)])


@pytest.mark.parametrize("shots", [2, 30])
def test_noise_and_readout_errors_are_in_the_law(shots):
    circuit = QuantumCircuit(2)
    circuit.ry(0.9, 0)
    circuit.cx(0, 1)
    circuit.ry(0.4, 1)
    profile = NoiseProfile.depolarizing(p_1q=0.1, p_2q=0.2).model_copy(
        update={"readout_p01": 0.15, "readout_p10": 0.05}
    )
    state = DensityMatrix.from_label("00")
    for instruction in [*circuit.data, *rotated(circuit, "XZ").data[3:]]:
        places = [circuit.find_bit(q).index if q in circuit.qubits else 1 for q in instruction.qubits]
        state = state.evolve(instruction.operation, places)
        rate = 0.1 if len(places) == 1 else 0.2
        state = state.evolve(depolarizing(rate, len(places)), places)
    read = np.array([[0.95, 0.15], [0.05, 0.85]])
    probabilities = np.kron(read, read) @ state.probabilities()
    values = draws(circuit, strings_of("XZ"), 20000, shots=shots, seed=6, noise=profile)
    check_multinomial(values, probabilities, shots)


@pytest.mark.parametrize("shots", [1, 7, 5000])
def test_values_are_those_that_counts_can_give(shots):
    labels = ["ZII", "IZI", "ZZI", "IXX", "XII"]
    values = draws(entangled(3), labels, 300, shots=shots, seed=1)
    counts = (values + 1) * shots / 2
    np.testing.assert_allclose(counts, counts.round(), atol=1e-8)
    assert np.abs(values).max() <= 1
    if shots == 1:
        assert set(values.reshape(-1)) == {-1.0, 1.0}
        np.testing.assert_array_equal(values[:, 2], values[:, 0] * values[:, 1])


def test_values_in_single_precision_are_counts_too():
    spec = CircuitSpec.from_circuit(entangled(2), [], [], [SparsePauliOp("ZI"), SparsePauliOp("IZ")])
    values = make_engine("exact", shots=3, seed=0).expectations(spec, torch.zeros(200, 0), torch.zeros(0))
    allowed = torch.tensor([-1, -1 / 3, 1 / 3, 1])
    assert (values.unsqueeze(2) == allowed).any(dim=2).all()


@pytest.mark.parametrize("noise", [None, NoiseProfile(readout_p01=0.1, readout_p10=0.2)])
@pytest.mark.parametrize("letters", [((0, 3), (1, 3), (2, 3), (3, 3)), ((1, 1), (3, 2)), ((0, 2), (2, 3))])
def test_tables_agree_with_expectation_values(noise, letters):
    """Probabilities against the transform of the exact engine's values of all strings."""
    x, w = ParameterVector("x", 2), ParameterVector("w", 2)
    circuit = QuantumCircuit(4)
    for qubit in range(4):
        circuit.ry(x[qubit % 2] + w[0], qubit)
    circuit.compose(entangled(4), inplace=True)
    circuit.rxx(x[0] * w[1], 0, 2)
    circuit.cx(2, 3)
    size = len(letters)
    strings = [tuple(letter for bit, letter in enumerate(letters) if m >> bit & 1) for m in range(2**size)]
    observables = [as_observable(string, 4) for string in strings]
    spec = CircuitSpec.from_circuit(circuit, list(x), list(w), observables)
    inputs = torch.tensor([[0.3, -1.2], [2.0, 0.1], [-0.5, 0.7]], dtype=F64)
    weights = torch.tensor([0.4, -0.9], dtype=F64)
    values = make_engine("exact", noise=noise).expectations(spec, inputs, weights).numpy()
    signs = np.array([[(-1) ** (a & b).bit_count() for a in range(2**size)] for b in range(2**size)])
    table = OutcomeTable(Measurement(spec, noise), letters)
    found = np.concatenate([part for _, part in table(inputs, weights)])
    np.testing.assert_allclose(found, values @ signs / 2**size, atol=1e-12)


def test_parts_without_a_common_gate_are_independent():
    circuit = QuantumCircuit(5)
    circuit.h([0, 2])
    circuit.cx(0, 1)
    circuit.cx(2, 3)
    spec = CircuitSpec.from_circuit(circuit, [], [], [SparsePauliOp("IIIIZ")])
    measurement = Measurement(spec, None)
    singles = [((qubit, 3),) for qubit in range(5)]
    assert measurement.parts(singles) == [[0, 1], [2, 3], [4]]
    assert measurement.parts([*singles, ((1, 3), (2, 3))]) == [[0, 1, 2, 3, 5], [4]]
    values = draws(circuit, ["IIIIZ", "IIIZI", "IIZII", "IZIII", "ZIIII"], 4000, shots=1, seed=0)
    np.testing.assert_array_equal(values[:, [0, 2]], values[:, [1, 3]])
    assert abs(np.corrcoef(values[:, 0], values[:, 2])[0, 1]) < 0.08
    assert (values[:, 4] == 1).all()


# Above 12 qubits


def chain(num_qubits):
    circuit = QuantumCircuit(num_qubits)
    for qubit in range(num_qubits):
        circuit.ry(0.25 + 0.2 * qubit, qubit)
    for qubit in range(num_qubits - 1):
        circuit.crx(1.5, qubit, qubit + 1)
    return circuit


def singles(num_qubits):
    return ["I" * (num_qubits - 1 - q) + "Z" + "I" * q for q in range(num_qubits)]


@pytest.mark.parametrize("shots", [1, 7, 64, 65, 1000])
def test_wide_counts_are_binomial_with_exact_pairs(shots, monkeypatch):
    monkeypatch.setattr(sampler, "CHEAP_SECONDS", -1.0)
    size, repeats = 13, 2000
    circuit = chain(size)
    values = draws(circuit, [*singles(size), "Z" * 2 + "I" * (size - 2)], repeats, shots=shots, seed=8)
    probabilities = Statevector(circuit).probabilities()
    bits = (np.arange(2**size)[:, None] >> np.arange(size)) & 1
    signs = np.concatenate([1 - 2 * bits, ((1 - 2 * bits[:, -1]) * (1 - 2 * bits[:, -2]))[:, None]], axis=1)
    means = probabilities @ signs
    covariance = (signs * probabilities[:, None]).T @ signs - np.outer(means, means)
    counts = ((values + 1) * shots / 2).round().astype(int)
    np.testing.assert_allclose(counts, (values + 1) * shots / 2, atol=1e-6)
    for string, mean in enumerate(means):
        expected = repeats * binom.pmf(np.arange(shots + 1), shots, (1 + mean) / 2)
        seen = np.bincount(counts[:, string], minlength=shots + 1)
        common = expected >= 5
        rest = max(repeats - expected[common].sum(), 1e-9)
        statistic = ((seen - expected)[common] ** 2 / expected[common]).sum()
        statistic += (seen[~common].sum() - rest) ** 2 / max(rest, 5)
        assert chi2.sf(statistic, common.sum()) > SMALLEST_P_VALUE
    off = values - means
    found = off.T @ off / repeats
    spread = np.sqrt(np.maximum((off**2).T @ off**2 / repeats - found**2, 1e-12) / repeats)
    assert (np.abs(found - covariance / shots) / spread).max() < 5


@pytest.mark.parametrize(("num_qubits", "shots"), [(13, 1), (20, 10), (24, 500)])
def test_wide_strings_that_decide_each_other_do_so_in_every_shot(num_qubits, shots):
    circuit = QuantumCircuit(num_qubits)
    circuit.h(0)
    for qubit in range(num_qubits - 1):
        circuit.cx(qubit, qubit + 1)
    values = draws(circuit, singles(num_qubits), 500, shots=shots, seed=2)
    np.testing.assert_array_equal(values, np.repeat(values[:, :1], num_qubits, axis=1))
    assert values[:, 0].mean() == pytest.approx(0, abs=5 / (500 * shots) ** 0.5)


def w_state(num_qubits, x):
    """One qubit of all is 1; an input that changes nothing makes every sample a call of its own."""
    circuit = QuantumCircuit(num_qubits)
    circuit.x(0)
    for qubit in range(num_qubits - 1):
        circuit.cry(2 * np.arccos(np.sqrt(1 / (num_qubits - qubit))), qubit, qubit + 1)
        circuit.cx(qubit + 1, qubit)
    circuit.rz(x, 0)
    return circuit


def test_pairs_that_no_normal_law_has_are_drawn_from_the_outcomes(monkeypatch):
    monkeypatch.setattr(sampler, "CHEAP_SECONDS", -1.0)
    x, size = Parameter("x"), 13
    observables = [SparsePauliOp(label) for label in singles(size)]
    spec = CircuitSpec.from_circuit(w_state(size, x), [x], [], observables)
    engine = make_engine("exact", shots=1, seed=0)
    values = engine.expectations(spec, torch.rand(40, 1, dtype=F64), torch.zeros(0)).numpy()
    np.testing.assert_array_equal((values < 0).sum(axis=1), np.ones(40))


# The copula by itself


@pytest.mark.parametrize("shots", [1, 5, 1000, 10**8])
def test_binomial_quantiles(shots):
    random = np.random.default_rng(0)
    up, latent = random.uniform(0, 1, 300) ** 3, random.normal(size=300) * 1.5
    found = copula.binomial_quantile(latent, shots, up)
    np.testing.assert_array_equal(found, binom.ppf(norm.cdf(latent), shots, up))
    fixed = copula.binomial_quantile(np.array([-1.0, 1.0]), shots, np.array([0.0, 1.0]))
    np.testing.assert_array_equal(fixed, [0, shots])


@pytest.mark.parametrize(
    ("first", "second", "correlation"), [(0.5, 0.3, 0.4), (0.8, 0.6, -0.3), (0.04, 0.5, 0.1)]
)
@pytest.mark.parametrize("shots", [1, 70, 300])
def test_latent_correlations_give_the_covariance(first, second, correlation, shots):
    """Against the integral of E[count 1 | z] E[count 2 | z] over the first normal."""
    wanted = correlation * np.sqrt(first * (1 - first) * second * (1 - second))
    factors, error = copula.pair_factors(np.array([[first, second]]), np.array([[wanted]]), shots)
    latent = float(factors[0, 0] @ factors[0, 1])
    assert error[0] < 1e-12
    z = np.linspace(-8, 8, 40001)
    steps = [norm.ppf(binom.cdf(np.arange(shots), shots, up)) for up in (first, second)]
    if shots == 1:
        steps = [np.array([norm.ppf(1 - up)]) for up in (first, second)]
    own = np.searchsorted(steps[0], z)
    other = ndtr((latent * z[:, None] - steps[1]) / np.sqrt(1 - latent**2)).sum(axis=1)
    found = np.trapezoid(own * other * norm.pdf(z), z) - shots**2 * first * second
    assert found / shots == pytest.approx(wanted, abs=2e-4)


# Seeds


def layers():
    x, w = ParameterVector("x", 2), ParameterVector("w", 1)
    circuit = QuantumCircuit(2)
    circuit.ry(x[0], 0)
    circuit.ry(x[1] + w[0], 1)
    circuit.cx(0, 1)
    observables = [SparsePauliOp(label) for label in ("ZI", "IZ", "XX")]
    one = CircuitSpec.from_circuit(circuit, list(x), list(w), observables)
    return one, CircuitSpec.from_circuit(circuit, list(x), list(w), observables[:2])


@pytest.mark.parametrize("law", ["joint", "independent"])
@pytest.mark.parametrize("split", [[12], [1] * 12, [5, 7], [4, 4, 4]])
def test_draws_do_not_depend_on_the_split_of_the_batch(law, split):
    """Three layers on one engine: two share their circuit, and differ in their weights."""
    one, other = layers()
    inputs = torch.linspace(-2, 2, 24, dtype=F64).reshape(12, 2)
    calls = [(one, torch.tensor([0.3])), (one, torch.tensor([0.7])), (other, torch.tensor([0.3]))]

    def run(parts):
        engine = make_engine("exact", shots=20, seed=3, shots_law=law)
        found = [[engine.expectations(spec, rows, w) for spec, w in calls] for rows in parts]
        return [torch.cat(values) for values in zip(*found)]

    whole = run([inputs])
    for expected, found in zip(whole, run(inputs.split(split))):
        assert torch.equal(expected, found)
    assert not torch.equal(whole[0][:, :2], whole[2])


def test_wide_draws_do_not_depend_on_the_split_either(monkeypatch):
    monkeypatch.setattr(sampler, "CHEAP_SECONDS", -1.0)
    x = Parameter("x")
    circuit = chain(13)
    circuit.ry(x, 3)
    spec = CircuitSpec.from_circuit(circuit, [x], [], [SparsePauliOp(label) for label in singles(13)])
    inputs = torch.linspace(-1, 1, 6, dtype=F64).unsqueeze(1)
    for shots in (5, 200):
        whole = make_engine("exact", shots=shots, seed=1).expectations(spec, inputs, torch.zeros(0))
        engine = make_engine("exact", shots=shots, seed=1)
        parts = [engine.expectations(spec, rows, torch.zeros(0)) for rows in inputs.split([1, 3, 2])]
        assert torch.equal(whole, torch.cat(parts))


def test_samples_and_calls_draw_anew():
    one, _ = layers()
    inputs, weights = torch.ones(50, 2, dtype=F64), torch.zeros(1)
    engine = make_engine("exact", shots=50, seed=0)
    first, second = (engine.expectations(one, inputs, weights) for _ in range(2))
    assert len(torch.unique(first, dim=0)) > 10
    assert not torch.equal(first, second)
    assert not torch.equal(first, engine.expectations(one, inputs, weights + 1e-9))
    engine.reseed(0)
    assert torch.equal(first, engine.expectations(one, inputs, weights))


def test_a_wide_part_of_too_many_strings_is_refused_at_once():
    size = 20
    strings = [as_observable(tuple((q, 3) for q in some), size) for some in combinations(range(size), 3)]
    spec = CircuitSpec.from_circuit(chain(size), [], [], strings)
    with pytest.raises(EngineError, match="shots_law='independent'"):
        make_engine("exact", shots=10).expectations(spec, torch.zeros(1, 0), torch.zeros(0))
    assert "shots_scheme" in make_engine("exact", shots=10).describe()
    assert "shots_scheme" not in make_engine("exact").describe()


def test_many_strings_on_few_qubits_are_counted_in_outcomes():
    """All strings of 13 qubits of one read-out correction, as it multiplies them out."""
    size = 13
    labels = [one for one in strings_of("Z" * size) if one.count("Z") <= 2]
    values = draws(chain(size), labels, 3, shots=1, seed=0)
    place = {label: index for index, label in enumerate(labels)}
    for first, second in combinations(singles(size)[:4], 2):
        both = "".join("Z" if "Z" in pair else "I" for pair in zip(first, second))
        expected = values[:, place[first]] * values[:, place[second]]
        np.testing.assert_array_equal(values[:, place[both]], expected)


@pytest.mark.parametrize("noise", [None, NoiseProfile(readout_p01=0.02, readout_p10=0.05)])
def test_outcomes_of_twelve_qubits(noise):
    """Single shots show their outcome; chi-squared over outcomes that are expected often enough."""
    size, repeats = 12, 20000
    values = draws(chain(size), singles(size), repeats, shots=1, seed=4, noise=noise)
    outcomes = ((1 - values) / 2).astype(int) @ (1 << np.arange(size))
    probabilities = Statevector(chain(size)).probabilities().reshape((2,) * size)
    for axis in range(size if noise else 0):
        read = np.array([[0.95, 0.02], [0.05, 0.98]])
        probabilities = np.moveaxis(np.tensordot(read, probabilities, (1, axis)), 0, axis)
    expected = repeats * probabilities.reshape(-1)
    seen = np.bincount(outcomes, minlength=2**size)
    common = expected >= 5
    rest = repeats - expected[common].sum()
    statistic = ((seen - expected)[common] ** 2 / expected[common]).sum()
    statistic += (seen[~common].sum() - rest) ** 2 / rest
    assert chi2.sf(statistic, common.sum()) > SMALLEST_P_VALUE
