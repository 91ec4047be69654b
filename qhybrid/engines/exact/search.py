"""Search cheaper contractions for light cones whose forward sweep is dear, within a time budget.

The hardest cones come first. Where even their best known contraction is out of the question, the search is
given up at once: the rest of the circuit could not make up for it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qhybrid.engines.exact.contraction import (
    ConeNetwork,
    SsaPath,
    cone_network,
    contract_along,
    is_complete,
    search_path,
)
from qhybrid.engines.exact.cost import Cost, network_cost
from qhybrid.engines.exact.fusion import FusedGate
from qhybrid.engines.exact.graph import Graph
from qhybrid.engines.exact.light_cone import ReadOut, light_cone
from qhybrid.errors import WorkspaceError
from qhybrid.workspace import cache_dir, write_text

VERSION = 4
"""Counted up when lowering, fusion or the numbering of a network's tensors changes."""
PathKey = tuple[tuple[int, ...], bool]
"""The wires of a read-out, and whether it is closed: closed ones on the same wires share a path."""
Paths = Mapping[PathKey, tuple[tuple[int, int], ...]]
CLOSED_MARK = "*"


def plan_file(fingerprint: str) -> Path:
    """Return the file of a circuit's paths."""
    return cache_dir() / "plans" / f"{fingerprint}.v{VERSION}.json"


def load_paths(fingerprint: str) -> Paths:
    """Return a circuit's paths by read-out; none if there is no readable file."""
    try:
        content = json.loads(plan_file(fingerprint).read_text(encoding="utf-8"))
        return {
            _path_key(name): tuple((int(a), int(b)) for a, b in path)
            for name, path in content["paths"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def save_paths(fingerprint: str, paths: Paths) -> None:
    """Keep a circuit's paths; a cache that cannot be written is no error."""
    content = {
        "paths": {
            ",".join(map(str, support)) + CLOSED_MARK * closed: list(path)
            for (support, closed), path in paths.items()
        }
    }
    try:
        write_text(plan_file(fingerprint), json.dumps(content))
    except (WorkspaceError, OSError):
        return


def _path_key(name: str) -> PathKey:
    wires = name.removesuffix(CLOSED_MARK)
    return tuple(int(wire) for wire in wires.split(",")), name.endswith(CLOSED_MARK)


SEARCH_ABOVE_SECONDS = 3e-4
"""A search is worth its time only if nothing known does the nominal batch in less than this."""
SEARCH_SECONDS = 30.0
"""Most time for thorough searches; the cones that are left are searched greedily where they must."""
SEARCH_BATCHES = 50
LEAST_SECONDS = 2.0
"""A thorough search may take as long as this many nominal batches, and so many seconds in any case."""
HOPELESS_SECONDS = 1.5e4
"""Time of the nominal batch above which a contraction is out of the question."""
TRIALS = (32, 128)
"""Trials of thorough searches: few for all cones first, then more for the dearest while there is time."""
RIVAL_EXCESS = 1e3
"""Factor by which another method must be faster for a contraction to be out of the question."""
CLOSED_SECONDS = 1e-4
"""Time of the nominal batch up to which the sweep of a closed read-out is good enough: there may be many."""
NARROW_WIRES, DEEP = 4, 40
"""Wires of a cone, and gates a wire, from which on no order is better than that of time."""
SWEEP_EXCESS = 1e4
"""Factor by which searched paths of a whole circuit have never improved on its sweeps."""
GREEDY_EXCESS = 1e8
"""Factor by which thorough searches have never improved on a greedy one."""
RIVAL_MARGIN = 2.0
"""Factor by which a network must be slower than another method, as far as is known, for its search to end."""


@dataclass(frozen=True)
class FinalState:
    """The reduced state of read-out wires: axes of `node` belong to `qubits`; a number without axes."""

    qubits: tuple[int, ...]
    node: int


Finals = dict[ReadOut, list[FinalState] | None]
"""For every read-out its state; None where none is known yet."""


def search_cones(
    key: str,
    graph: Graph,
    gates: Sequence[FusedGate],
    finals: Finals,
    rival_seconds: float,
    batch: int,
    only: bool = False,
) -> tuple[int, Cost | None]:
    """Replace sweeps by searched paths where those are cheaper, in place.

    Args:
        key: Name of the circuit's paths on disk.
        graph: The graph of the gates.
        gates: All gates.
        finals: The read-outs' states as the sweeps left them.
        rival_seconds: What another method takes for the batch, infinity if there is none.
        batch: The nominal batch.
        only: Whether a network is wanted even if the other method is faster.

    Returns:
        How many cones were replaced, and None; or, where the search was given up, the cost of the hopeless
        cone, or of all cones as far as it is known.
    """
    before = dict(finals)
    total = _seconds(graph, before.values(), batch)
    if min(total, rival_seconds) <= SEARCH_ABOVE_SECONDS:
        return 0, None
    if SWEEP_EXCESS * rival_seconds < total < float("inf"):
        return 0, None  # another method wins whatever is found
    known = {read_out: _seconds(graph, [states], batch) for read_out, states in before.items()}
    bounds = SEARCH_ABOVE_SECONDS / len(known), min(RIVAL_EXCESS * rival_seconds, HOPELESS_SECONDS)
    search = _Search(key, graph, gates, bounds, batch)
    search.start(min(SEARCH_SECONDS, max(LEAST_SECONDS, SEARCH_BATCHES * min(total, rival_seconds))))
    abandoned = _improve(search, finals, known, rival_seconds, only)
    search.save()
    if abandoned is None and total <= _seconds(graph, finals.values(), batch):
        # Sweeps share what cones have in common; separate paths may lose more than they gain.
        finals.update(before)
    return sum(finals[read_out] is not before[read_out] for read_out in finals), abandoned


def _improve(
    search: _Search, finals: Finals, known: dict[ReadOut, float], rival_seconds: float, only: bool
) -> Cost | None:
    """Look for cheaper contractions, the dearest cones first.

    Returns:
        None, or where the search was given up: the cost of a hopeless cone, or an estimate for all cones.
    """
    for trials in TRIALS:
        spent = 0.0
        order = sorted(known, key=lambda r: (-known[r], -search.size(r), -len(r.support), r))
        for place, read_out in enumerate(order):
            if known[read_out] <= search.enough or (trials > TRIALS[0] and not search.worth_going_on):
                break
            is_new = known[read_out] == float("inf")
            if not is_new and search.is_swept_best(read_out, known[read_out]):
                continue
            found, cost = search.contract(read_out, known[read_out], trials)
            if found is not None and cost.seconds < known[read_out]:
                finals[read_out] = [found]
                known[read_out] = cost.seconds
            elif is_new:
                return cost
            spent += known[read_out]
            left = sum(known[other] == float("inf") for other in order[place + 1 :])
            if is_new and not only and not read_out.closed:
                # Cones are taken by size: those that are left cost about as much, or less.
                estimate = spent + left * cost.seconds
                if left and estimate > RIVAL_MARGIN * rival_seconds:
                    return cost.times(estimate / cost.seconds, search.batch)
            if spent > rival_seconds:
                # These cones alone take longer than the other method takes for all: no further effort.
                search.start(0.0)
    return None


def _seconds(graph: Graph, found: Iterable[list[FinalState] | None], batch: int) -> float:
    """Return the time of all these states together, infinity if one is not known."""
    nodes = []
    for states in found:
        if states is None:
            return float("inf")
        nodes += [state.node for state in states]
    return network_cost(graph, nodes, batch).seconds


class _Search:
    """Searches of one circuit, with one clock and one file of paths.

    Args:
        key: Name of the circuit's paths on disk.
        graph: The graph of the gates.
        gates: All gates.
        bounds: Times of the batch: cheap enough not to search on, and out of the question.
        batch: The nominal batch.
    """

    def __init__(
        self, key: str, graph: Graph, gates: Sequence[FusedGate], bounds: tuple[float, float], batch: int
    ) -> None:
        self._key, self._graph, self._gates = key, graph, gates
        self.enough, self._limit = bounds
        self.batch = batch
        self._paths = dict(load_paths(key))
        self._ready = dict.fromkeys(self._paths, max(TRIALS))
        self._sizes: dict[tuple[int, ...], int] = {}
        self._end = 0.0
        self._changed = False

    def start(self, seconds: float) -> None:
        """Allow thorough searches for so long from now on."""
        self._end = time.monotonic() + seconds

    @property
    def worth_going_on(self) -> bool:
        """Whether there is time left, and not all came from disk, where it was left when time was up."""
        return self._changed and time.monotonic() < self._end

    def size(self, read_out: ReadOut) -> int:
        """Return the number of gates that a read-out depends on."""
        found = self._sizes.get(read_out.support)
        if found is None:
            found = self._sizes[read_out.support] = len(light_cone(self._gates, read_out.support))
        return found

    def is_swept_best(self, read_out: ReadOut, known_seconds: float) -> bool:
        """Return whether a search would hardly pay for a read-out that a sweep reaches in that time."""
        if read_out.closed and known_seconds <= CLOSED_SECONDS:
            return True
        cone = light_cone(self._gates, read_out.support)
        wires = {qubit for index in cone for qubit in self._gates[index].qubits}
        return len(wires) <= NARROW_WIRES and len(cone) > DEEP * len(wires)

    def contract(
        self, read_out: ReadOut, known_seconds: float, trials: int
    ) -> tuple[FinalState | None, Cost]:
        """Return the read-out's state and its cost; no state if the cost is out of the question."""
        network = cone_network(self._graph, self._gates, read_out)
        key = read_out.support, read_out.closed
        kept = self._paths.get(key, ())
        if self._ready.get(key, 0) >= trials and is_complete(kept, len(network.nodes)):
            if not read_out.closed:
                # Asked for again, it is to be improved; closed read-outs share what was found for one.
                del self._ready[key]
            return self._along(network, kept)
        path = search_path(self._graph, network)
        state, cost = self._along(network, path)
        hopeless = cost.seconds > GREEDY_EXCESS * min(self._limit, known_seconds)
        if not hopeless and cost.seconds > self.enough and time.monotonic() < self._end:
            path = search_path(self._graph, network, trials)
            state, cost = self._along(network, path)
        if key not in self._paths or cost.seconds < known_seconds:
            self._paths[key] = path
            self._changed = True
        if read_out.closed:
            self._ready[key] = trials
        return state, cost

    def save(self) -> None:
        """Keep what was found on disk."""
        if self._changed:
            save_paths(self._key, self._paths)

    def _along(self, network: ConeNetwork, path: SsaPath) -> tuple[FinalState | None, Cost]:
        node = contract_along(self._graph, network, path)
        cost = network_cost(self._graph, [node], self.batch)
        return (FinalState(network.qubits, node) if cost.seconds <= self._limit else None), cost
