"""The tape against its twin, the same program by torch operations."""

from __future__ import annotations

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

from qhybrid.circuits import CircuitSpec, build_circuit, list_circuits
from qhybrid.engines import make_engine
from qhybrid.engines.exact import network as network_module
from qhybrid.engines.exact import plan as plan_module
from qhybrid.engines.exact import search as search_module
from qhybrid.engines.exact.execute import NetworkExecutor
from qhybrid.engines.exact.plan import plan_circuit
from qhybrid.engines.exact.rate_channels import RateTable
from qhybrid.engines.exact.rates import RateLayout
from qhybrid.engines.exact.tape import bound as bound_module
from qhybrid.engines.exact.tape import contractions as contractions_module
from qhybrid.engines.exact.tape.function import TapedNetwork
from qhybrid.engines.exact.tape.rows import affine, grouped, runs
from qhybrid.noise import NoiseProfile

F64 = torch.float64
NOISE = NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.03)


def random_arguments(spec, batch=3, seed=0, dtype=F64):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(spec.num_inputs, batch, dtype=F64, generator=generator)
    return inputs.to(dtype), torch.randn(spec.num_weights, dtype=F64, generator=generator).to(dtype)


def arguments_of(spec, plan, dtype):
    sizes = spec.num_inputs, spec.num_weights, spec.num_observables
    return plan.program, plan.outputs, sizes, torch.empty(0, dtype=dtype)


def network_of(spec, noise=None, dtype=F64):
    plan = plan_circuit(spec, noise).network
    return network_module.Network(*arguments_of(spec, plan, dtype), part=2**30)


def twins_of(spec, plan, dtype=F64):
    """The tape and the same program by torch operations; None for programs that compute nothing."""
    if not plan.program.instructions:
        return None
    plain = NetworkExecutor(*arguments_of(spec, plan, dtype))
    return TapedNetwork(*arguments_of(spec, plan, dtype), plain), plain


def value_and_slopes(run, tensors, direction=None):
    """The value, and the gradients of those tensors that ask for one."""
    values = run(*tensors)
    leaves = [tensor for tensor in tensors if tensor.requires_grad]
    if not leaves or not values.requires_grad:
        return [values, *map(torch.zeros_like, leaves)]
    above = torch.linspace(-1, 2, values.numel(), dtype=values.dtype).reshape(values.shape)
    return [values, *torch.autograd.grad(values, leaves, above, allow_unused=True, materialize_grads=True)]


def assert_twins_agree(twins, inputs, weights, tolerance=1e-11):
    taped, plain = twins
    for wanted in ((True, True), (True, False), (False, True), (False, False)):
        tensors = [tensor.clone().requires_grad_(want) for tensor, want in zip((inputs, weights), wanted)]
        found = value_and_slopes(taped, tensors)
        for a, b in zip(found, value_and_slopes(plain, tensors), strict=True):
            torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@settings(deadline=None, max_examples=25)
@given(spec=cases.specs(), seed=st.integers(0, 99), batch=st.sampled_from([1, 2, 5]))
def test_random_circuits(spec, seed, batch):
    twins = twins_of(spec, plan_circuit(spec).network)
    if twins is not None:
        assert_twins_agree(twins, *random_arguments(spec, batch, seed))


@settings(deadline=None, max_examples=15)
@given(spec=cases.specs(max_qubits=4, max_gates=10, flat=True), seed=st.integers(0, 99))
def test_random_circuits_with_noise(spec, seed):
    twins = twins_of(spec, plan_circuit(spec, NOISE).network)
    if twins is not None:
        assert_twins_agree(twins, *random_arguments(spec, 3, seed))


@settings(deadline=None, max_examples=14)
@given(
    spec=cases.specs(max_qubits=6, max_gates=24), seed=st.integers(0, 99), largest=st.sampled_from([0, 2, 99])
)
def test_random_circuits_along_searched_paths(spec, seed, largest):
    """Searched paths contract tensors with samples; both ways to do that are taken."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_module, "SEARCH_ABOVE_SECONDS", 0.0)
        patch.setattr(search_module, "SEARCH_SECONDS", 0.1)
        patch.setattr(plan_module, "WIDEST_SWEEP", 2)
        patch.setattr(contractions_module, "LARGEST_ELEMENTWISE", largest)
        plan = plan_circuit(spec)
        twins = twins_of(spec, plan.network) if plan.network is not None else None
    if twins is not None:
        assert_twins_agree(twins, *random_arguments(spec, 3, seed))


@pytest.mark.parametrize("noise", [None, NOISE], ids=["noiseless", "noisy"])
@pytest.mark.parametrize("name", list_circuits())
def test_circuits_of_the_library(name, noise):
    if noise is not None and name.startswith("qufex"):
        spec = build_circuit(name, num_qubits=4)
    else:
        spec = build_circuit(name)
    twins = twins_of(spec, plan_circuit(spec, noise).network)
    for batch in (1, 7):
        assert_twins_agree(twins, *random_arguments(spec, batch))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_precision_is_kept(dtype):
    spec = build_circuit("hq_unet_qcnn", grid=3)
    inputs, weights = random_arguments(spec, 5, dtype=dtype)
    assert network_of(spec, dtype=dtype)(inputs, weights).dtype == dtype
    twins = twins_of(spec, plan_circuit(spec).network, dtype)
    assert_twins_agree(twins, inputs, weights, 1e-4 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("wanted", [(True, True, True), (False, False, True), (True, False, False)])
def test_noise_rates(wanted):
    spec = build_circuit("hq_unet_qcnn", grid=2)
    names = ("p_1q", "p_2q")
    rates = RateLayout(NOISE, names)
    plan = plan_circuit(spec, NOISE, rates).network
    inputs, weights = random_arguments(spec)
    table = RateTable(rates, plan.program.channels, torch.empty(0, dtype=F64))
    channels = table({name: torch.tensor(0.02, dtype=F64) for name in names})
    flags = (*wanted, wanted[2])
    tensors = [t.clone().requires_grad_(want) for t, want in zip((inputs, weights, *channels), flags)]
    found = [value_and_slopes(run, tensors) for run in twins_of(spec, plan)]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def entangled(num_qubits):
    features, ansatz = zz_feature_map(num_qubits, reps=1), efficient_su2(num_qubits, reps=1)
    circuit = features.compose(ansatz)
    observables = [SparsePauliOp(["Z" * num_qubits, "X" * num_qubits], [0.5, -1.5]), SparsePauliOp("ZIY")]
    return CircuitSpec.from_circuit(circuit, list(features.parameters), list(ansatz.parameters), observables)


SPECS = {"hq_unet": build_circuit("hq_unet_qcnn", grid=2), "zz": entangled(3)}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_first_and_second_derivatives(spec):
    engine = make_engine("exact", method="network")
    inputs, weights = (tensor.t().requires_grad_() for tensor in random_arguments(spec, 2))
    some = [inputs.detach().contiguous().requires_grad_(), weights.detach().contiguous().requires_grad_()]
    assert torch.autograd.gradcheck(lambda a, b: engine.expectations(spec, a, b)[:, :2], some)
    assert torch.autograd.gradgradcheck(lambda a, b: engine.expectations(spec, a, b)[:, :2], some)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_transforms_and_batched_gradients(spec):
    engine = make_engine("exact", method="network")
    rows, weights = random_arguments(spec)
    inputs = rows.t().contiguous()

    def run(b):
        return engine.expectations(spec, inputs, b)

    backward = torch.func.jacrev(run)(weights)
    torch.testing.assert_close(backward, torch.func.jacfwd(run)(weights))
    for vectorize in (False, True):
        plain = torch.autograd.functional.jacobian(run, weights, vectorize=vectorize)
        torch.testing.assert_close(plain, backward)
    many = torch.stack([weights, weights + 1])
    torch.testing.assert_close(torch.func.vmap(run)(many)[1], run(weights + 1))
    hessian = torch.func.hessian(lambda b: run(b).square().sum())(weights)
    torch.testing.assert_close(hessian, hessian.t())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(weights, torch.ones_like(weights))
        tangent = torch.autograd.forward_ad.unpack_dual(run(dual)).tangent
    torch.testing.assert_close(tangent, backward.sum(-1))


def test_interleaved_calls_do_not_share_memory():
    """Two values before either gradient, a gradient taken twice, and another batch size in between."""
    spec = SPECS["hq_unet"]
    network = network_of(spec)
    leaves = [tensor.requires_grad_() for tensor in random_arguments(spec, 3)]
    others = [tensor.requires_grad_() for tensor in random_arguments(spec, 3, seed=1)]
    plain = NetworkExecutor(*arguments_of(spec, plan_circuit(spec).network, F64))
    expected = [value_and_slopes(plain, some)[1:] for some in (leaves, others)]
    first, second = network(*leaves), network(*others)
    above = torch.linspace(-1, 2, first.numel(), dtype=F64).reshape(first.shape)
    found = torch.autograd.grad(first, leaves, above, retain_graph=True)
    network(*random_arguments(spec, 2, seed=2))
    network(*random_arguments(spec, 3, seed=3))
    again = torch.autograd.grad(first, leaves, above)
    for a, b, c in zip(found, again, expected[0], strict=True):
        torch.testing.assert_close(a, c)
        assert torch.equal(a, b)
    for a, c in zip(torch.autograd.grad(second, others, above), expected[1], strict=True):
        torch.testing.assert_close(a, c)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(second, others, above)


def test_stale_memory_is_never_read(monkeypatch):
    """New memory is full of NaN: neither values nor gradients may depend on it."""

    def spoilt(create):
        def created(*arguments, **options):
            tensor = create(*arguments, **options)
            return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor

        return created

    plans = [(spec, plan_circuit(spec, noise).network) for spec in SPECS.values() for noise in (None, NOISE)]
    monkeypatch.setattr(torch.Tensor, "new_empty", spoilt(torch.Tensor.new_empty))
    monkeypatch.setattr(torch, "empty_like", spoilt(torch.empty_like))
    assert torch.empty_like(torch.zeros(1)).isnan()
    for spec, plan in plans:
        assert_twins_agree(twins_of(spec, plan), *random_arguments(spec))


@pytest.mark.parametrize(("limit", "made"), [(0, 6), (2**26, 1)])
def test_workspaces_are_kept_up_to_a_bound(monkeypatch, limit, made):
    """Six calls of one batch size share a workspace where it may be kept."""
    sizes = []

    class Counted(bound_module.Workspace):
        def __init__(self, tape, batch, like):
            sizes.append(batch)
            super().__init__(tape, batch, like)

    monkeypatch.setattr("qhybrid.engines.exact.tape.function.Workspace", Counted)
    monkeypatch.setattr("qhybrid.engines.exact.tape.function.LARGEST_IDLE", limit)
    spec = SPECS["hq_unet"]
    network = network_of(spec)
    inputs, weights = (tensor.requires_grad_() for tensor in random_arguments(spec))
    for _ in range(3):
        network(inputs, weights).sum().backward()
        network(inputs.detach(), weights)
    assert sizes == [3] * made


@pytest.mark.parametrize("bound", ["LARGEST_TAPE", "LARGEST_IDLE"])
def test_large_programs_and_batches_take_the_twin(monkeypatch, bound):
    spec = SPECS["hq_unet"]
    inputs, weights = (tensor.requires_grad_() for tensor in random_arguments(spec, 2))
    by_tape = network_of(spec)(inputs, weights)
    assert by_tape.grad_fn.name() == "_TapedBackward"
    monkeypatch.setattr(network_module, bound, 10)
    by_operations = network_of(spec)(inputs, weights)
    assert by_operations.grad_fn.name() != "_TapedBackward"
    torch.testing.assert_close(by_operations, by_tape)


def test_products_of_separate_clusters():
    """A string over three clusters is a product of three results, one of them data-free, one 0."""
    x, w = ParameterVector("x", 2), ParameterVector("w", 1)
    circuit = QuantumCircuit(3)
    circuit.ry(x[0], 0)
    circuit.ry(x[1], 1)
    circuit.ry(w[0], 2)
    observables = [SparsePauliOp("ZZZ"), SparsePauliOp(["IIZ", "ZII"], [2.0, -1.0]), SparsePauliOp("IZZ")]
    spec = CircuitSpec.from_circuit(circuit, list(x), list(w), observables)
    twins = twins_of(spec, plan_circuit(spec).network)
    inputs, weights = random_arguments(spec)
    assert_twins_agree(twins, inputs, weights)
    zero = torch.full_like(inputs, np.pi / 2)
    assert_twins_agree(twins, zero, weights)


def test_tables_of_rows():
    block = np.arange(24).reshape(2, 3, 4)
    assert affine(block) == (0, (12, 4, 1))
    assert affine(block.transpose(2, 0, 1)[1:3]) == (1, (1, 12, 4))
    assert affine(block[:1, ::2]) == (0, (0, 8, 1))
    assert affine(np.array([0, 1, 3])) is None
    assert affine(np.array([2, 1, 0])) is None
    assert affine(np.zeros(0, dtype=int)) is None
    assert grouped(np.array([4, 5, 6, 7, 0, 1, 2, 3]))[0] == 4
    assert grouped(np.array([1, 2, 3, 4]))[0] == 1
    assert grouped(np.array([4, 5, 7, 6]))[0] == 1
    assert runs(np.array([True, False, True, False, False, True]), gap=1) == [(0, 3), (5, 6)]


def test_small_networks_take_one_thread_and_large_ones_all(monkeypatch):
    spec, threads, seen = build_circuit("hq_unet_qcnn", grid=2), torch.get_num_threads(), []
    for name in ("run_forward", "run_backward"):
        original = getattr(bound_module.Workspace, name)

        def watched(self, *arguments, original=original):
            seen.append(torch.get_num_threads())
            return original(self, *arguments)

        monkeypatch.setattr(bound_module.Workspace, name, watched)
    engine = make_engine("exact", method="network")
    inputs, weights = (torch.randn(4, 12, requires_grad=True), torch.randn(8, requires_grad=True))
    torch.set_num_threads(2)
    try:
        for limit, expected in ((2**60, 1), (0, 2)):
            monkeypatch.setattr("qhybrid.engines.exact.tape.function.THREADED_NUMBERS", limit)
            engine.expectations(spec, inputs, weights).sum().backward()
            assert seen == [expected, expected]
            assert torch.get_num_threads() == 2
            seen.clear()
    finally:
        torch.set_num_threads(threads)
