"""Plan a circuit: lower, fuse, choose how to contract each light cone, or choose statevectors instead."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.cost import Cost, compiled_cost, network_cost, state_cost
from qhybrid.engines.exact.fusion import FusedGate, fuse
from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.exact.light_cone import PauliTerm, pauli_terms
from qhybrid.engines.exact.native.library import kernels
from qhybrid.engines.exact.program import Program, compile_program
from qhybrid.engines.exact.rates import RateLayout
from qhybrid.engines.exact.readout import Output
from qhybrid.engines.exact.search import Finals, FinalState, search_cones
from qhybrid.engines.exact.statevector.plan import StatePlan, plan_states
from qhybrid.engines.exact.sweep import ForwardSweep, sweep_order
from qhybrid.engines.lowering import Lowered, lower
from qhybrid.engines.noise.readout import noisy_observable
from qhybrid.noise import NoiseProfile

NOMINAL_BATCH = 64
"""Samples that plans are made for."""
WIDEST_SWEEP = 14
"""Qubits of a cluster above which a forward sweep is not considered."""
WIDEST_STATE = 40
"""Qubits above which a statevector is not considered."""
LARGEST_RIVAL = 26
"""Qubits up to which a statevector surely fits, so that no network needs to be found that is slower."""
Support = tuple[int, ...]


@dataclass(frozen=True)
class NetworkPlan:
    """A circuit as Pauli-transfer network.

    Attributes:
        program: What to execute.
        outputs: How the results are read from the program's roots.
        cost: For the nominal batch.
        searched: Number of light cones that follow a searched path instead of a sweep.
    """

    program: Program
    outputs: tuple[Output, ...]
    cost: Cost
    searched: int


@dataclass(frozen=True)
class CircuitPlan:
    """Both ways to execute a circuit; None where a way is out of the question.

    Attributes:
        network: The network plan.
        states: The statevector plan.
        state_cost: Cost of the statevector plan for the nominal batch.
        compiled_cost: The same in the compiled library, where it is installed and knows all gates.
        abandoned: Where the search for a network was given up: the cost of its hardest light cone.
    """

    network: NetworkPlan | None
    states: StatePlan | None
    state_cost: Cost | None
    abandoned: Cost | None = None
    compiled_cost: Cost | None = None

    @property
    def method(self) -> str:
        """The cheaper way: "network" or "statevector"; "refused" if there is none."""
        if self.network is None:
            return "refused" if self.states is None else "statevector"
        if self.states is None or self.state_cost is None:
            return "network"
        cost = self.compiled_cost or self.state_cost
        return "network" if self.network.cost.seconds <= cost.seconds else "statevector"


def plan_circuit(
    spec: CircuitSpec, noise: NoiseProfile | None = None, rates: RateLayout | None = None
) -> CircuitPlan:
    """Plan a circuit; searched paths are kept on disk by the circuit's fingerprint.

    Args:
        spec: The circuit and its observables.
        noise: Error rates of gates and read-outs; with noise on gates no statevector is considered.
        rates: Where some of them are given as tensors: receives the circuit's distinct channels. Then the
            only method is the network.

    Raises:
        CircuitError: If the circuit is of an unsupported kind.
        EngineError: If an observable is not Hermitian.
    """
    if rates is not None:
        lowered = lower(spec, rates.probe)
        terms = pauli_terms(spec.observables, lowered.wire_of)
        network, abandoned = _plan_network(spec, lowered, terms, float("inf"), rates)
        return CircuitPlan(network, None, None, abandoned)
    lowered = lower(spec, noise)
    observables = spec.observables
    if noise is not None:
        observables = tuple(noisy_observable(observable, noise) for observable in observables)
    terms = pauli_terms(observables, lowered.wire_of)
    states = plan_states(lowered, terms)
    cost = state_cost(states.work, states.num_steps, states.widest, NOMINAL_BATCH)
    compiled = _compiled_cost(states)
    usable = states.widest <= WIDEST_STATE and not lowered.noisy
    fastest = min(cost.seconds, compiled.seconds) if compiled else cost.seconds
    rival = fastest if usable and states.widest <= LARGEST_RIVAL else float("inf")
    network, abandoned = _plan_network(spec, lowered, terms, rival)
    if not usable:
        return CircuitPlan(network, None, None, abandoned)
    return CircuitPlan(network, states, cost, abandoned, compiled)


def _compiled_cost(states: StatePlan) -> Cost | None:
    rotations = states.rotations
    if rotations is None or kernels().library is None:
        return None
    work, operations = sum(run.work for run in rotations), sum(len(run.operations) for run in rotations)
    return compiled_cost(work, operations, states.widest, len(rotations), NOMINAL_BATCH)


def _plan_network(
    spec: CircuitSpec,
    lowered: Lowered,
    terms: Sequence[PauliTerm],
    rival_seconds: float,
    rates: RateLayout | None = None,
) -> tuple[NetworkPlan | None, Cost | None]:
    """Return the plan, or the cost of the light cone for which the search was given up."""
    graph = Graph()
    wires = sorted({wire for term in terms for wire in term.support})
    gates = fuse(lowered, graph, rates, [lowered.wire_of.index(wire) for wire in wires])
    finals = _sweeps(graph, gates, sorted({term.support for term in terms}))
    kind = "-rates" if rates is not None else "-noisy" if lowered.noisy else ""
    searched, abandoned = search_cones(
        spec.fingerprint + kind, graph, gates, finals, rival_seconds, NOMINAL_BATCH
    )
    ready = {support: cones for support, cones in finals.items() if cones is not None}
    if abandoned is not None or len(ready) < len(finals):
        return None, abandoned
    outputs = [_output(term, ready[term.support]) for term in terms]
    roots = list(dict.fromkeys(node for output in outputs for node, _ in output.factors))
    number = {root: index for index, root in enumerate(roots)}
    numbered = tuple(
        replace(output, factors=tuple((number[node], component) for node, component in output.factors))
        for output in outputs
    )
    program = compile_program(graph, roots)
    cost = network_cost(graph, roots, NOMINAL_BATCH, len(program.instructions))
    return NetworkPlan(program, numbered, cost, searched), None


def _sweeps(graph: Graph, gates: Sequence[FusedGate], supports: Sequence[Support]) -> Finals:
    """Return the read-outs' states by forward sweeps; None where a cluster would be too wide."""
    builder = ForwardSweep(graph, gates)
    result: Finals = {}
    for support in supports:
        order = sweep_order(gates, support, WIDEST_SWEEP)
        if order is None:
            result[support] = None
            continue
        result[support] = [FinalState(c.qubits, c.node) for c in builder.run(support, order)]
    return result


def _output(term: PauliTerm, states: Sequence[FinalState]) -> Output:
    """Return the term as a product of components; a qubit that no gate touches is still |0>."""
    letter_of = dict(term.letters)
    coefficient, factors = term.coefficient, []
    touched: set[int] = set()
    for state in states:
        component = 0
        for qubit in state.qubits:
            component = 4 * component + letter_of.get(qubit, 0)
        factors.append((state.node, component))
        touched.update(state.qubits)
    if any(letter != 3 for qubit, letter in term.letters if qubit not in touched):
        coefficient = 0.0
    return Output(term.observable, coefficient, tuple(factors))


def simulation_cost(spec: CircuitSpec) -> float:
    """Return the multiply-adds a sample of forward sweeps, as a cost for `CircuitSpec.transpile`.

    It bounds what the exact engine plans, and takes a fraction of the time: no contraction is searched.

    Args:
        spec: A circuit, for example a routed one.

    Returns:
        Multiply-adds of the value; infinity where a sweep would carry too many qubits.
    """
    lowered, graph = lower(spec), Graph()
    gates = fuse(lowered, graph)
    builder = ForwardSweep(graph, gates)
    roots: list[int] = []
    for support in sorted({term.support for term in pauli_terms(spec.observables, lowered.wire_of)}):
        order = sweep_order(gates, support, WIDEST_SWEEP)
        if order is None:
            return math.inf
        roots += [cluster.node for cluster in builder.run(support, order)]
    return network_cost(graph, roots, NOMINAL_BATCH).flops
