"""Plan a circuit: lower, fuse, choose how to contract each light cone, or choose statevectors instead."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.contraction import (
    ConeNetwork,
    SsaPath,
    cone_network,
    contract_along,
    is_complete,
    search_path,
)
from qhybrid.engines.exact.cost import Cost, network_cost, state_cost
from qhybrid.engines.exact.fusion import FusedGate, fuse
from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.exact.light_cone import PauliTerm, pauli_terms
from qhybrid.engines.exact.plan_cache import load_paths, save_paths
from qhybrid.engines.exact.program import Program, compile_program
from qhybrid.engines.exact.readout import Output
from qhybrid.engines.exact.sweep import ForwardSweep, sweep_order
from qhybrid.engines.lowering import Lowered, lower
from qhybrid.engines.noise.readout import noisy_observable
from qhybrid.engines.statevector.plan import StatePlan, plan_states
from qhybrid.noise import NoiseProfile

NOMINAL_BATCH = 64
"""Samples that plans are made for."""
WIDEST_SWEEP = 14
"""Qubits of a cluster above which a forward sweep is not considered."""
WIDEST_STATE = 40
"""Qubits above which a statevector is not considered."""
SEARCH_ABOVE_SECONDS = 0.25
"""A path search is worth its time only if nothing known does the nominal batch in less than this."""
SEARCH_SECONDS = 60.0
"""Time for thorough searches, largest light cones first; the rest are searched greedily."""
Support = tuple[int, ...]
Paths = Mapping[Support, SsaPath]


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
    """

    network: NetworkPlan | None
    states: StatePlan | None
    state_cost: Cost | None

    @property
    def method(self) -> str:
        """The cheaper way: "network" or "statevector"; "refused" if there is none."""
        if self.network is None:
            return "refused" if self.states is None else "statevector"
        if self.states is None or self.state_cost is None:
            return "network"
        return "network" if self.network.cost.seconds <= self.state_cost.seconds else "statevector"


def plan_circuit(spec: CircuitSpec, noise: NoiseProfile | None = None) -> CircuitPlan:
    """Plan a circuit; searched paths are kept on disk by the circuit's fingerprint.

    Args:
        spec: The circuit and its observables.
        noise: Error rates of gates and read-outs; with noise on gates no statevector is considered.

    Raises:
        CircuitError: If the circuit is of an unsupported kind.
        EngineError: If an observable is not Hermitian.
    """
    lowered = lower(spec, noise)
    observables = spec.observables
    if noise is not None:
        observables = tuple(noisy_observable(observable, noise) for observable in observables)
    terms = pauli_terms(observables, lowered.wire_of)
    states = plan_states(lowered, terms)
    cost = state_cost(states.work, states.num_steps, states.widest, NOMINAL_BATCH)
    usable = states.widest <= WIDEST_STATE and not lowered.noisy
    network = _plan_network(spec, lowered, terms, cost.seconds if usable else float("inf"))
    return CircuitPlan(network, states if usable else None, cost if usable else None)


def _plan_network(
    spec: CircuitSpec, lowered: Lowered, terms: Sequence[PauliTerm], other_seconds: float
) -> NetworkPlan | None:
    graph = Graph()
    gates = fuse(lowered, graph)
    supports = sorted({term.support for term in terms})
    finals = _sweeps(graph, gates, supports)
    known = [cone.node for cones in finals.values() if cones is not None for cone in cones]
    seconds = network_cost(graph, known, NOMINAL_BATCH).seconds
    seconds = float("inf") if any(cones is None for cones in finals.values()) else seconds
    searched = 0
    if min(seconds, other_seconds) > SEARCH_ABOVE_SECONDS:
        key = spec.fingerprint + ("-noisy" if lowered.noisy else "")
        searched = _search(key, graph, gates, finals)
    ready = {support: cones for support, cones in finals.items() if cones is not None}
    if len(ready) < len(finals):
        return None
    outputs = [_output(term, ready[term.support]) for term in terms]
    roots = list(dict.fromkeys(node for output in outputs for node, _ in output.factors))
    number = {root: index for index, root in enumerate(roots)}
    numbered = tuple(
        replace(output, factors=tuple((number[node], component) for node, component in output.factors))
        for output in outputs
    )
    program = compile_program(graph, roots)
    cost = network_cost(graph, roots, NOMINAL_BATCH, len(program.instructions))
    return NetworkPlan(program, numbered, cost, searched)


@dataclass(frozen=True)
class FinalState:
    """The reduced state of read-out wires: axes of `node` belong to `qubits`."""

    qubits: tuple[int, ...]
    node: int


Finals = dict[Support, list[FinalState] | None]


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


def _search(key: str, graph: Graph, gates: Sequence[FusedGate], finals: Finals) -> int:
    """Replace sweeps by searched paths where those are cheaper; return how many were replaced."""
    paths = dict(load_paths(key))
    networks = {support: cone_network(graph, gates, support) for support in finals}
    networks = {support: network for support, network in networks.items() if network.nodes}
    missing = [s for s, network in networks.items() if not is_complete(paths.get(s, ()), len(network.nodes))]
    end = time.monotonic() + SEARCH_SECONDS
    for support in sorted(missing, key=lambda s: -len(networks[s].nodes)):
        paths[support] = search_path(graph, networks[support], thorough=time.monotonic() < end)
    if missing:
        save_paths(key, paths)
    return sum(_take_cheaper(graph, networks[s], paths[s], finals, s) for s in networks)


def _take_cheaper(
    graph: Graph, network: ConeNetwork, path: SsaPath, finals: Finals, support: Support
) -> bool:
    node = contract_along(graph, network, path)
    swept = finals[support]
    if swept is not None:
        before = network_cost(graph, [final.node for final in swept], NOMINAL_BATCH).seconds
        if before <= network_cost(graph, [node], NOMINAL_BATCH).seconds:
            return False
    finals[support] = [FinalState(network.qubits, node)]
    return True


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
