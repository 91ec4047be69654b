from __future__ import annotations

from dataclasses import replace

import engine_cases as cases
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.circuit.library import efficient_su2, zz_feature_map
from qiskit.quantum_info import SparsePauliOp

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import make_engine
from qhybrid.engines.exact import engine as engine_module
from qhybrid.engines.exact import explain as explain_module
from qhybrid.engines.exact import network as network_module
from qhybrid.engines.exact import plan as plan_module
from qhybrid.engines.exact import search as search_module
from qhybrid.engines.exact.contraction import _searched
from qhybrid.engines.exact.native.library import kernels
from qhybrid.engines.exact.plan import plan_circuit
from qhybrid.engines.exact.search import load_paths, plan_file
from qhybrid.engines.exact.statevector import execute
from qhybrid.errors import EngineError
from qhybrid.noise import NoiseProfile

F64 = torch.float64


def random_arguments(spec, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(batch, spec.num_inputs, dtype=F64, generator=generator)
    return inputs, torch.randn(spec.num_weights, dtype=F64, generator=generator)


def entangled(num_qubits, reps=1):
    features, ansatz = zz_feature_map(num_qubits, reps=reps), efficient_su2(num_qubits, reps=reps)
    letters = ["Z" * num_qubits, "XY" + "I" * (num_qubits - 2)]
    observables = [SparsePauliOp(letters[0]), SparsePauliOp(letters, [0.5, -1.5])]
    circuit = features.compose(ansatz)
    return CircuitSpec.from_circuit(circuit, list(features.parameters), list(ansatz.parameters), observables)


@settings(deadline=None, max_examples=25)
@given(spec=cases.specs(), seed=st.integers(0, 99))
def test_statevector_agrees_with_qiskit_and_with_the_network(spec, seed):
    inputs, weights = random_arguments(spec, seed=seed)
    leaves = [inputs.requires_grad_(), weights.requires_grad_()]
    values = make_engine("exact", method="statevector").expectations(spec, *leaves)
    reference = cases.statevector_values(spec, inputs.detach().numpy(), weights.detach().numpy())
    np.testing.assert_allclose(values.detach().numpy(), reference, atol=1e-10)
    other = make_engine("exact", method="network").expectations(spec, *leaves)
    direction = torch.linspace(1, 2, values.numel(), dtype=F64).reshape(values.shape)
    for a, b in zip(
        torch.autograd.grad((values * direction).sum(), leaves, materialize_grads=True, allow_unused=True),
        torch.autograd.grad((other * direction).sum(), leaves, materialize_grads=True, allow_unused=True),
    ):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_statevector_in_parts_of_the_batch(monkeypatch):
    spec = entangled(3)
    inputs, weights = random_arguments(spec, batch=5)
    whole = make_engine("exact", method="statevector")
    monkeypatch.setattr(execute, "CHUNK_AMPLITUDES", 16)
    parts = make_engine("exact", method="statevector")
    results = []
    for engine in (whole, parts):
        leaves = [inputs.clone().requires_grad_(), weights.clone().requires_grad_()]
        values = engine.expectations(spec, *leaves)
        results.append((values, *torch.autograd.grad(values.square().sum(), leaves)))
    for a, b in zip(*results):
        torch.testing.assert_close(a, b)


def test_statevector_second_derivatives_and_functional_transforms():
    spec = entangled(2)
    inputs, weights = random_arguments(spec, batch=2)
    engine = make_engine("exact", method="statevector")
    assert torch.autograd.gradgradcheck(
        lambda a, b: engine.expectations(spec, a, b),
        (inputs.clone().requires_grad_(), weights.clone().requires_grad_()),
    )
    backward = torch.func.jacrev(lambda b: engine.expectations(spec, inputs, b))(weights)
    forward = torch.func.jacfwd(lambda b: engine.expectations(spec, inputs, b))(weights)
    torch.testing.assert_close(backward, forward)
    many = torch.stack([weights, weights + 1])
    mapped = torch.func.vmap(lambda b: engine.expectations(spec, inputs, b))(many)
    torch.testing.assert_close(mapped[1], engine.expectations(spec, inputs, weights + 1))


def test_single_precision_statevector():
    spec = entangled(4)
    inputs, weights = random_arguments(spec)
    engine = make_engine("exact", method="statevector")
    single = engine.expectations(spec, inputs.float(), weights.float())
    torch.testing.assert_close(single.double(), engine.expectations(spec, inputs, weights), atol=1e-5, rtol=0)


def test_shallow_circuits_take_the_network_and_entangled_ones_the_statevector():
    engine = make_engine("exact")
    assert engine.explain(build_circuit("hq_unet_qcnn")).method == "network"
    found = engine.explain(entangled(8))
    assert found.method == "statevector"
    assert {name for name, _, _ in found.alternatives} == {"network", "statevector"}
    assert found.seconds == min(seconds for _, seconds, _ in found.alternatives)
    assert "times faster" in found.reason


def test_separate_statevectors_for_separate_light_cones():
    """Forty qubits in ten independent blocks: no common state, but ten small ones."""
    circuit = QuantumCircuit(40)
    angles = ParameterVector("x", 40)
    for qubit in range(40):
        circuit.ry(angles[qubit], qubit)
    for qubit in range(40):
        if qubit % 4 < 3:
            circuit.cx(qubit, qubit + 1)
    observables = [SparsePauliOp.from_sparse_list([("Z", [q], 1.0)], num_qubits=40) for q in (3, 7, 39)]
    spec = CircuitSpec.from_circuit(circuit, list(angles), [], observables)
    inputs, weights = random_arguments(spec)
    values = make_engine("exact", method="statevector").expectations(spec, inputs, weights)
    expected = torch.stack([inputs[:, q - 3 : q + 1].cos().prod(dim=1) for q in (3, 7, 39)], dim=1)
    torch.testing.assert_close(values, expected)


@pytest.fixture
def eager_search(monkeypatch):
    """Search paths even where a sweep is fast, and only briefly."""
    monkeypatch.setattr(search_module, "SEARCH_ABOVE_SECONDS", 0.0)
    monkeypatch.setattr(search_module, "SEARCH_SECONDS", 0.5)
    monkeypatch.setattr(plan_module, "WIDEST_SWEEP", 3)


def test_searched_paths_give_the_same_values_and_are_kept(eager_search):
    spec = build_circuit("hq_unet_qcnn", grid=3, reps=2)
    inputs, weights = random_arguments(spec, batch=2)
    engine = make_engine("exact", method="network")
    values = engine.expectations(spec, inputs, weights)
    assert plan_circuit(spec, only=True).network.searched > 0
    reference = make_engine("exact", method="statevector").expectations(spec, inputs, weights)
    torch.testing.assert_close(values, reference, atol=1e-10, rtol=0)
    paths = load_paths(spec.fingerprint)
    assert paths
    again = make_engine("exact", method="network").expectations(spec, inputs, weights)
    assert torch.equal(values, again)
    assert load_paths(spec.fingerprint) == paths


def test_searched_paths_of_wide_read_outs(eager_search, monkeypatch):
    """The path may leave the read-out's wires in any order; they are put right at the end."""
    monkeypatch.setattr(plan_module, "WIDEST_SWEEP", 1)
    spec = replace(entangled(4), observables=(SparsePauliOp("XYZX"), SparsePauliOp("ZIXX")))
    inputs, weights = random_arguments(spec)
    engine = make_engine("exact", method="network")
    values = engine.expectations(spec, inputs, weights)
    assert plan_circuit(spec, only=True).network.searched == 2
    reference = cases.statevector_values(spec, inputs.numpy(), weights.numpy())
    np.testing.assert_allclose(values.numpy(), reference, atol=1e-10)


@pytest.mark.skipif(kernels().library is None, reason="no compiled kernels")
def test_a_search_ends_where_statevectors_are_faster(eager_search, monkeypatch):
    """After one cone it is plain that all of them take longer; who asks for the network still gets it."""
    monkeypatch.setattr(plan_module, "WIDEST_SWEEP", 1)
    letters = tuple(SparsePauliOp.from_sparse_list([("Z", [q], 1.0)], 5) for q in range(5))
    spec = replace(entangled(5), observables=letters)
    searched = []
    contract = search_module._Search.contract
    monkeypatch.setattr(
        search_module._Search,
        "contract",
        lambda search, read_out, *rest: (searched.append(read_out), contract(search, read_out, *rest))[1],
    )
    plan = plan_circuit(spec)
    assert len(searched) == 1
    assert plan.network is None
    assert plan.abandoned.seconds > 2 * plan.compiled_cost.seconds
    assert plan.method == "statevector"
    searched.clear()
    whole = plan_circuit(spec, only=True)
    assert len(set(searched)) == 5
    # An estimate by the largest cone; later cones are searched for less long.
    assert 0.05 < plan.abandoned.seconds / whole.network.cost.seconds < 10
    inputs, weights = random_arguments(spec)
    found = [
        make_engine("exact", method=name).expectations(spec, inputs, weights) for name in ("network", "auto")
    ]
    torch.testing.assert_close(*found, atol=1e-10, rtol=0)


def test_a_search_that_loses_what_cones_share_is_undone(monkeypatch, tmp_path):
    """Each cone gets a cheaper path than its own sweep, but sweeps share what cones have in common."""
    spec = build_circuit("hq_unet_qcnn", grid=3)
    swept = make_engine("exact").explain(spec)
    # As long as it takes, and without what other tests have found before: the search is the same each time.
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path))
    monkeypatch.setattr(search_module, "SEARCH_ABOVE_SECONDS", 0.0)
    monkeypatch.setattr(search_module, "LEAST_SECONDS", 1e9)
    monkeypatch.setattr(search_module, "SEARCH_SECONDS", 1e9)
    improve, totals = search_module._improve, []

    def watched(search, finals, *rest):
        totals.append(search_module._seconds(search._graph, finals.values(), search.batch))
        found = improve(search, finals, *rest)
        totals.append(search_module._seconds(search._graph, finals.values(), search.batch))
        return found

    monkeypatch.setattr(search_module, "_improve", watched)
    assert make_engine("exact").explain(spec).seconds == swept.seconds
    assert len(totals) == 2
    assert totals[0] < totals[1]
    assert plan_circuit(spec).network.searched == 0


def test_a_hopeless_search_is_given_up_with_the_predicted_cost(monkeypatch):
    """36 qubits, eight repetitions: no statevector, and no contraction that would end."""
    monkeypatch.setattr(search_module, "search_path", counted := Counted(search_module.search_path))
    spec = build_circuit("hq_unet_qcnn", grid=6, reps=8)
    found = make_engine("exact").explain(spec)
    assert found.method == "refused"
    assert found.seconds > search_module.HOPELESS_SECONDS
    assert (
        make_engine("exact", method="network").explain(spec).reason
        == "no contraction is known that would end"
    )
    assert {name for name, _, _ in found.alternatives} == {"network", "statevector"}
    assert counted.calls <= 4


def ring(qubits, layers, order=None):
    """RY(x), then layers of RY and a ring of CX, with qubit q in the place of `order[q]`."""
    order = order or list(range(qubits))
    x, w = ParameterVector("x", qubits), ParameterVector("w", qubits * layers)
    circuit, angles = QuantumCircuit(qubits), iter(w)
    for qubit in order:
        circuit.ry(x[qubit], qubit)
    for _ in range(layers):
        for qubit in order:
            circuit.ry(next(angles), qubit)
        for place, qubit in enumerate(order):
            circuit.cx(qubit, order[(place + 1) % qubits])
    return circuit, list(x), list(w)


def test_networks_of_one_form_are_searched_once(eager_search):
    """The same circuit on qubits in another order has cones of the same form: nothing is searched again."""
    _searched.cache_clear()
    results = []
    for order in ([0, 1, 2, 3, 4], [3, 0, 4, 2, 1]):
        spec = CircuitSpec.from_circuit(
            *ring(5, 2, order), [SparsePauliOp.from_sparse_list([("Z", [order[2]], 1.0)], 5)]
        )
        inputs = torch.linspace(0.1, 1.3, 5, dtype=torch.float64)[None]
        placed = inputs.clone()
        placed[0, order] = inputs[0]
        weights = torch.linspace(-1.0, 2.0, 10, dtype=torch.float64)
        values = make_engine("exact", method="network").expectations(spec, placed, weights)
        reference = cases.statevector_values(spec, placed.numpy(), weights.numpy())
        np.testing.assert_allclose(values.numpy(), reference, atol=1e-12)
        results.append(values)
        searches = _searched.cache_info().misses
    torch.testing.assert_close(results[0], results[1])
    assert searches
    assert _searched.cache_info().hits >= searches
    assert _searched.cache_info().misses == searches


def test_no_network_is_searched_for_that_density_matrices_surely_beat(monkeypatch):
    """Sweeps that are ten thousand times slower stay as they are: a network is there, but not searched."""
    monkeypatch.setattr(plan_module, "_density_seconds", lambda density: 1e-9)
    monkeypatch.setattr(search_module, "search_path", counted := Counted(search_module.search_path))
    spec = CircuitSpec.from_circuit(
        *ring(6, 4), [SparsePauliOp.from_sparse_list([("Z", [q], 1.0)], 6) for q in range(6)]
    )
    noise = NoiseProfile.depolarizing(p_1q=1e-3, p_2q=1e-2)
    found = plan_circuit(spec, noise)
    assert counted.calls == 0
    assert found.network is not None


class Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arguments, **options):
        self.calls += 1
        return self.function(*arguments, **options)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"paths": {"0": [[0, 7]]}}', '{"paths": {"a": 1}}', '{"paths": 3}']
)
def test_a_damaged_plan_cache_is_replaced(eager_search, content):
    spec = build_circuit("hq_unet_qcnn", grid=2, reps=2)
    file = plan_file(spec.fingerprint)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    inputs, weights = random_arguments(spec, batch=2)
    values = make_engine("exact", method="network").expectations(spec, inputs, weights)
    reference = make_engine("exact", method="statevector").expectations(spec, inputs, weights)
    torch.testing.assert_close(values, reference, atol=1e-10, rtol=0)


def test_refusal_carries_the_numbers(monkeypatch):
    spec = entangled(6)
    monkeypatch.setattr(engine_module, "memory_limit", lambda device: 10_000)
    engine = make_engine("exact")
    assert engine.explain(spec).method == "refused"
    inputs, weights = random_arguments(spec)
    with pytest.raises(
        EngineError, match=r"6 qubits.*MiB usable.*3 samples.*network: .* MiB.*statevector: .* MiB.*Fix"
    ):
        engine.expectations(spec, inputs, weights)


def test_memory_decides_against_the_faster_method(monkeypatch):
    spec = build_circuit("hq_unet_qcnn", grid=3, reps=2)
    engine = make_engine("exact")
    before = engine.explain(spec)
    memory = {name: amount for name, _, amount in before.alternatives}
    monkeypatch.setattr(engine_module, "memory_limit", lambda device: memory[before.method] - 1)
    after = engine.explain(spec)
    assert after.method != before.method


def test_what_fits_nothing_is_refused_without_trying(monkeypatch):
    """36 fully entangled qubits: neither method is possible on this machine."""
    monkeypatch.setattr(search_module, "SEARCH_SECONDS", 0.0)
    engine = make_engine("exact")
    circuit = QuantumCircuit(36)
    angles = ParameterVector("x", 36)
    for repetition in range(4):
        for qubit in range(36):
            circuit.ry(angles[qubit], qubit)
        for qubit in range(36):
            circuit.cx(
                qubit,
                (7 * qubit + 3 + repetition) % 36 if (6 * qubit + 3 + repetition) % 36 else (qubit + 1) % 36,
            )
    observable = SparsePauliOp("Z" * 36)
    spec = CircuitSpec.from_circuit(circuit, list(angles), [], observable)
    with pytest.raises(EngineError, match="must fit the memory"):
        engine.expectations(spec, torch.zeros(1, 36), torch.zeros(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "guess"}, "`method` must be one of auto, network, statevector"),
        ({"dtype": torch.int32}, "float32 or float64"),
        ({"device": "nowhere"}, "usable torch device"),
        ({"shots": 3, "flavour": 1}, "flavour"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(EngineError, match=message):
        make_engine("exact", **options)


def test_unknown_kind_lists_what_exists():
    with pytest.raises(EngineError, match="Known engines: aer, .*exact, .*Did you mean `exact`"):
        make_engine("exakt")


def test_large_batches_are_taken_in_parts(monkeypatch):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    inputs, weights = random_arguments(spec, batch=7)
    results = []
    for module in (explain_module, network_module):
        monkeypatch.setattr(module, "LARGEST_IDLE", 0)  # no tape, which is never taken in parts
    for bound in (2**30, 2**13):
        monkeypatch.setattr(explain_module, "PART_BYTES", bound)
        engine = make_engine("exact", method="network")
        leaves = [inputs.clone().requires_grad_(), weights.clone().requires_grad_()]
        values = engine.expectations(spec, *leaves)
        slopes = torch.autograd.grad(values.square().sum(), leaves)
        results.append((engine.explain(spec, 7).memory_bytes, values, *slopes))
    assert results[1][0] < results[0][0]
    for a, b in zip(results[0][1:], results[1][1:]):
        torch.testing.assert_close(a, b)


def test_qufex_takes_a_searched_network_with_all_derivatives():
    """Its read-outs' light cones are too wide to be swept cheaply, and shallow enough for a searched path."""
    spec = build_circuit("qufex_filter1", num_qubits=8)
    engine = make_engine("exact", method="network")
    assert engine.explain(spec, 576).method == "network"
    inputs, weights = (tensor.requires_grad_() for tensor in random_arguments(spec, batch=2))
    found = []
    for each in (engine, make_engine("exact", method="statevector")):
        values = each.expectations(spec, inputs, weights)
        slopes = torch.autograd.grad(values.square().sum(), [inputs, weights], create_graph=True)
        second = torch.autograd.grad(slopes[1].square().sum(), [inputs, weights])
        found.append((values, *slopes, *second))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)
    forward = torch.func.jacfwd(lambda w: engine.expectations(spec, inputs.detach(), w))(weights.detach())
    backward = torch.func.jacrev(lambda w: engine.expectations(spec, inputs.detach(), w))(weights.detach())
    torch.testing.assert_close(forward, backward)
