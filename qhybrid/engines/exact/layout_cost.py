"""What a layout costs to simulate under noise: layouts with as many gates differ by orders of magnitude."""

from __future__ import annotations

import math

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engines.exact.cost import network_cost
from qhybrid.engines.exact.fusion import fuse
from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.exact.light_cone import pauli_terms
from qhybrid.engines.exact.plan import NOMINAL_BATCH, WIDEST_SWEEP
from qhybrid.engines.exact.sweep import ForwardSweep, sweep_order
from qhybrid.engines.lowering import lower


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
