"""Plan a circuit: lower, fuse, choose how to contract each light cone, or choose statevectors instead."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.constants import Counts
from qhybrid.engines.exact.cost import (
    Cost,
    angle_counts,
    compiled_angles,
    compiled_cost,
    network_cost,
    state_cost,
)
from qhybrid.engines.exact.density.estimate import density_cost
from qhybrid.engines.exact.density.plan import DensityPlan, plan_density
from qhybrid.engines.exact.fusion import FusedGate, fuse
from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.exact.light_cone import LARGEST_EXPANSION, PauliTerm, ReadOut, pauli_terms
from qhybrid.engines.exact.native.library import kernels
from qhybrid.engines.exact.order import STRATEGIES, SweepOrder, closed_order, sweep_order
from qhybrid.engines.exact.program import Program, Wanted
from qhybrid.engines.exact.rates import RateLayout
from qhybrid.engines.exact.readout import Output
from qhybrid.engines.exact.schedule import count_levels
from qhybrid.engines.exact.search import Finals, FinalState, search_cones
from qhybrid.engines.exact.statevector.plan import StatePlan, plan_states
from qhybrid.engines.exact.sweep import Sweep
from qhybrid.engines.gates.expression import Tree
from qhybrid.engines.lowering import Lowered, lower
from qhybrid.engines.noise.readout import readout_map, split_noisy
from qhybrid.noise import NoiseProfile

NOMINAL_BATCH = 64
"""Samples that plans are made for."""
WIDEST_SWEEP = 14
"""Qubits of a cluster above which a forward sweep is not considered."""
WIDEST_STATE = 40
"""Qubits above which a statevector is not considered."""
LARGEST_RIVAL = 26
"""Qubits up to which a statevector surely fits, so that no network needs to be found that is slower."""
DENSITY_MARGIN = 4.0
"""Factor by which a network must be slower than density matrices for its search to end."""
LARGEST_COMPILED = 4000
"""Nodes of a graph up to which its program is compiled before it is known whether it is used."""
Support = tuple[int, ...]
NARROW_SUPPORT = 4
"""Qubits up to which a read-out's state is computed as it is: it serves every string on these qubits."""
COMPARED_SUPPORTS = 6
"""Wide supports that all kinds of sweeps are tried for; the best kind of these is taken for the others."""


@dataclass(frozen=True)
class NetworkPlan:
    """A circuit as Pauli-transfer network.

    Attributes:
        wanted: The nodes to compute.
        outputs: How the results are read from the program's roots.
        cost: For the nominal batch.
        searched: Number of light cones that follow a searched path instead of a sweep.
    """

    wanted: Wanted
    outputs: tuple[Output, ...]
    cost: Cost
    searched: int

    @property
    def program(self) -> Program:
        """What to execute."""
        return self.wanted.program


@dataclass(frozen=True)
class CircuitPlan:
    """The ways to execute a circuit; None where a way is out of the question.

    Attributes:
        network: The network plan.
        states: The statevector plan.
        state_cost: Cost of the statevector plan for the nominal batch.
        compiled_cost: The same in the compiled library, where it is installed and knows all gates.
        density: Under noise on gates, the density matrix, beside a network.
        abandoned: Where the search for a network was given up: the cost of its hardest light cone.
    """

    network: NetworkPlan | None
    states: StatePlan | None
    state_cost: Cost | None
    abandoned: Cost | None = None
    compiled_cost: Cost | None = None
    density: DensityPlan | None = None

    @property
    def method(self) -> str:
        """The cheaper of network and statevector: "network" or "statevector"; "refused" if there is none."""
        if self.network is None:
            return "refused" if self.states is None else "statevector"
        if self.states is None or self.state_cost is None:
            return "network"
        cost = self.compiled_cost or self.state_cost
        return "network" if self.network.cost.seconds <= cost.seconds else "statevector"


def plan_circuit(
    spec: CircuitSpec,
    noise: NoiseProfile | None = None,
    rates: RateLayout | None = None,
    only: bool = False,
) -> CircuitPlan:
    """Plan a circuit; searched paths are kept on disk by the circuit's fingerprint.

    Args:
        spec: The circuit and its observables.
        noise: Error rates of gates and read-outs; with noise on gates no statevector is considered.
        rates: Where some of them are given as tensors: receives the circuit's distinct channels. Then the
            only method is the network.
        only: Whether a network is wanted also where compiled statevectors are faster; else the search for one
            ends when it seems to be slower than these.

    Raises:
        CircuitError: If the circuit is of an unsupported kind.
        EngineError: If an observable is not Hermitian.
    """
    if rates is not None:
        lowered = lower(spec, rates.probe)
        terms = pauli_terms(spec.observables, lowered.wire_of)
        network, abandoned = _plan_network(spec, lowered, terms, float("inf"), rates)
        return CircuitPlan(_with_angles(network, _angles(lowered)), None, None, abandoned)
    lowered = lower(spec, noise)
    terms = _terms(spec, lowered, noise)
    if lowered.noisy:
        density = plan_density(lowered, terms)
        network, abandoned = _plan_network(spec, lowered, terms, _density_seconds(density), swept=True)
        density = density if network is not None else None
        return CircuitPlan(_with_angles(network, _angles(lowered)), None, None, abandoned, density=density)
    states = plan_states(lowered, terms)
    cost = state_cost(states.work, states.num_steps, states.widest, NOMINAL_BATCH)
    compiled = _compiled_cost(states)
    usable = states.widest <= WIDEST_STATE
    fastest = min(cost.seconds, compiled.seconds) if compiled else cost.seconds
    rival = fastest if usable and states.widest <= LARGEST_RIVAL else float("inf")
    only = only or compiled is None
    network, abandoned = _plan_network(spec, lowered, terms, rival, only=only)
    angles = _angles(lowered)
    network = _with_angles(network, angles)
    if not usable:
        return CircuitPlan(network, None, None, abandoned)
    cost = cost.plus(NOMINAL_BATCH, *angles)
    if compiled is not None:
        compiled = compiled.plus(NOMINAL_BATCH, sample=compiled_angles(_trees(lowered)))
    return CircuitPlan(network, states, cost, abandoned, compiled)


def _density_seconds(density: DensityPlan | None) -> float:
    """Return the time from which on a network is surely slower than density matrices, at any batch."""
    if density is None or kernels().library is None:
        return float("inf")
    return DENSITY_MARGIN * density_cost(density, NOMINAL_BATCH, 4).seconds


def _angles(lowered: Lowered) -> tuple[Counts, Counts]:
    """Return the units of work of a call and of a sample for angles that are not affine: in every method."""
    return angle_counts(_trees(lowered))


def _trees(lowered: Lowered) -> list[tuple[Tree, bool]]:
    """Return distinct expressions of angles that are not affine, and whether each depends on inputs."""
    angles = dict.fromkeys(one.angle for one in lowered.primitives if one.angle is not None)
    return [(angle.tree, angle.batched) for angle in angles if angle.tree is not None]


def _with_angles(network: NetworkPlan | None, counts: tuple[Counts, Counts]) -> NetworkPlan | None:
    return None if network is None else replace(network, cost=network.cost.plus(NOMINAL_BATCH, *counts))


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
    swept: bool = False,
    only: bool = True,
) -> tuple[NetworkPlan | None, Cost | None]:
    """Return the plan, or the cost of the light cone for which the search was given up.

    Args:
        spec: The circuit.
        lowered: Its gates.
        terms: Its read-outs.
        rival_seconds: What another method takes for the nominal batch; it ends searches that cannot win.
        rates: See `plan_circuit`.
        swept: Whether the rival counts only where sweeps reach all read-outs, so that there is a network in
            any case.
        only: See `search_cones`.
    """
    graph = Graph()
    wires = sorted({wire for term in terms for wire in term.support})
    gates = fuse(lowered, graph, rates, [lowered.wire_of.index(wire) for wire in wires])
    finals = _sweeps(graph, gates, terms)
    if swept and None in finals.values():
        rival_seconds = float("inf")
    kind = "-rates" if rates is not None else "-noisy" if lowered.noisy else ""
    searched, abandoned = search_cones(
        spec.fingerprint + kind, graph, gates, finals, rival_seconds, NOMINAL_BATCH, only
    )
    ready = {read_out: states for read_out, states in finals.items() if states is not None}
    if abandoned is not None or len(ready) < len(finals):
        return None, abandoned
    touched = {wire for gate in gates for wire in gate.qubits}
    outputs = [_output(term, ready, touched) for term in terms]
    roots = list(dict.fromkeys(node for output in outputs for node, _ in output.factors))
    number = {root: index for index, root in enumerate(roots)}
    numbered = tuple(
        replace(output, factors=tuple((number[node], component) for node, component in output.factors))
        for output in outputs
    )
    wanted = Wanted(graph, tuple(roots))
    cost = network_cost(graph, roots, NOMINAL_BATCH, _instructions(wanted))
    return NetworkPlan(wanted, numbered, cost, searched), None


def _instructions(wanted: Wanted) -> int:
    """Return the number of instructions; of a large graph an estimate, the stacks of equal depth."""
    if len(wanted.graph.nodes) <= LARGEST_COMPILED:
        return len(wanted.program.instructions)
    return count_levels(wanted.graph, wanted.roots)


def _terms(spec: CircuitSpec, lowered: Lowered, noise: NoiseProfile | None) -> list[PauliTerm]:
    """Return all Pauli strings as they are read.

    Read-out errors turn a string into a sum of strings, or, where these would be too many, into a product of
    a vector a qubit.
    """
    if noise is None:
        return pauli_terms(spec.observables, lowered.wire_of)
    terms: list[PauliTerm] = []
    for index, (narrow, wide) in enumerate(split_noisy(spec.observables, noise, LARGEST_EXPANSION)):
        terms += [replace(term, observable=index) for term in pauli_terms([narrow], lowered.wire_of)]
        for term in pauli_terms([wide], lowered.wire_of):
            qubits = [lowered.wire_of.index(wire) for wire in term.support]
            rows = [readout_map(noise, qubit)[letter] for qubit, (_, letter) in zip(qubits, term.letters)]
            vectors = tuple((float(i), float(x), float(y), float(z)) for i, x, y, z in rows)
            terms.append(replace(term, observable=index, rows=vectors))
    return terms


def _sweeps(graph: Graph, gates: Sequence[FusedGate], terms: Sequence[PauliTerm]) -> Finals:
    """Return the read-outs' states, or numbers, by sweeps; None where a cluster would be too wide.

    Strings on the same few qubits are read from one state. On more qubits each string is a number of its own,
    which costs no more than carrying the clusters on the way, unless the state is cheaper than all of them.
    """
    builder = Sweep(graph, gates)
    result: Finals = {}
    wide: list[Support] = []
    of_support: dict[Support, list[PauliTerm]] = {}
    for term in sorted(terms, key=lambda one: one.support):
        of_support.setdefault(term.support, []).append(term)
    for support, own in of_support.items():
        if len(support) > NARROW_SUPPORT or any(term.rows for term in own):
            wide.append(support)
            continue
        result[ReadOut(support)] = _swept(
            builder, ReadOut(support), sweep_order(gates, support, WIDEST_SWEEP)
        )
    orders = _closed_orders(gates, wide)
    for support in wide:
        own, order = of_support[support], orders[support]
        numbers = sorted({ReadOut(support, term.vectors) for term in own})
        if not any(term.rows for term in own) and len(support) <= WIDEST_SWEEP:
            whole = sweep_order(gates, support, WIDEST_SWEEP)
            if whole is not None and (order is None or whole.work < len(numbers) * order.work):
                result[ReadOut(support)] = _swept(builder, ReadOut(support), whole)
                continue
        for read_out in numbers:
            result[read_out] = _swept(builder, read_out, order)
    return result


def _closed_orders(
    gates: Sequence[FusedGate], supports: Sequence[Support]
) -> dict[Support, SweepOrder | None]:
    """Return the order of the closed sweep of every support, None where each is too wide."""
    found: dict[Support, SweepOrder | None] = dict.fromkeys(supports)
    best: set[tuple[bool, str]] = set()
    for place, support in enumerate(sorted(supports, key=lambda one: (-len(one), one))):
        tried = STRATEGIES if place < COMPARED_SUPPORTS else sorted(best) or STRATEGIES[:1]
        chosen = closed_order(gates, support, WIDEST_SWEEP, tried)
        if chosen is not None:
            found[support], strategy = chosen
            best.add(strategy)
    return found


def _swept(builder: Sweep, read_out: ReadOut, order: SweepOrder | None) -> list[FinalState] | None:
    if order is None:
        return None
    return [FinalState(cluster.qubits, cluster.node) for cluster in builder.run(read_out, order)]


def _output(
    term: PauliTerm, ready: Mapping[ReadOut, Sequence[FinalState]], touched: Collection[int]
) -> Output:
    """Return the term as a product of components; a qubit that no gate touches is still |0>."""
    coefficient = term.coefficient
    for wire, vector in zip(term.support, term.vectors):
        if wire not in touched:
            coefficient *= vector[0] + vector[3]
    closed = ready.get(ReadOut(term.support, term.vectors)) if term.letters else None
    if closed is not None:
        return Output(term.observable, coefficient, tuple((state.node, 0) for state in closed))
    letter_of = dict(term.letters)
    factors = []
    for state in ready[ReadOut(term.support)]:
        component = 0
        for qubit in state.qubits:
            component = 4 * component + letter_of.get(qubit, 0)
        factors.append((state.node, component))
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
    finals = _sweeps(graph, gates, pauli_terms(spec.observables, lowered.wire_of))
    roots: list[int] = []
    for states in finals.values():
        if states is None:
            return math.inf
        roots += [state.node for state in states]
    return network_cost(graph, roots, NOMINAL_BATCH).flops
