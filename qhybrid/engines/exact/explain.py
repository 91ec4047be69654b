"""What the exact engine would do with a circuit, and what that takes: to be read before running."""

from __future__ import annotations

from dataclasses import dataclass

from qhybrid.engines.exact.constants import Counts
from qhybrid.engines.exact.cost import Cost
from qhybrid.engines.exact.density.estimate import density_cost, density_memory
from qhybrid.engines.exact.native.division import compiled_memory
from qhybrid.engines.exact.plan import CircuitPlan
from qhybrid.engines.exact.statevector.execute import chunk_samples
from qhybrid.engines.exact.statevector.observables import LOW_BITS
from qhybrid.engines.exact.statevector.plan import StatePlan
from qhybrid.engines.exact.tape.function import LARGEST_IDLE

SAVED_FACTOR = 2.5
"""Bytes of a network's value and gradient over the bytes of all its intermediates."""
PART_BYTES = 2**30
"""Memory above which a network takes a batch in parts, and computes intermediates again for gradients."""
KEPT_FACTOR = 2.2
"""Bytes of a tape over those of all that it writes and copies: values and gradients."""
FREE_FACTOR = 4.4
"""The same for its data-free part, whose copies are not counted."""
STATES_AT_ONCE = 21
"""States of one chunk that a backward step holds, with what the allocator does not give back in between."""
READER_STATES = 9
"""The same, on top of these, while strings are read that flip bits."""

NO_DENSITY = (
    "there is no density matrix for it: that takes noise on gates, two-qubit gates in at least two layers, "
    "at most 12 qubits, no channel on two qubits that mixes Pauli strings, and the compiled kernels"
)


@dataclass(frozen=True)
class Explanation:
    """The chosen method and its predicted cost.

    Attributes:
        method: "network", "statevector", "density", or "refused" if none fits the memory.
        batch: Number of samples of one call.
        flops: Multiply-adds of the value, a sample.
        widest: Real numbers in the widest intermediate, a sample.
        memory_bytes: Memory of one call with gradient.
        limit_bytes: Memory that may be used.
        seconds: Predicted time of value and gradient of the batch on one CPU core.
        reason: The choice in words.
        alternatives: For each method that was weighed, (name, seconds, memory_bytes). A network whose search
            was given up counts with its hardest light cone.
        counts: The units of work that the seconds are made of; see `constants`.
    """

    method: str
    batch: int
    flops: float
    widest: int
    memory_bytes: int
    limit_bytes: int
    seconds: float
    reason: str
    alternatives: tuple[tuple[str, float, int], ...]
    counts: Counts = ()


def explain_plan(
    plan: CircuitPlan,
    batch: int,
    itemsize: int,
    limit_bytes: int,
    device_type: str = "cpu",
    method: str = "auto",
    compiled: bool = False,
) -> Explanation:
    """Choose the cheaper method that fits the memory.

    Args:
        plan: The planned circuit.
        batch: Number of samples of one call.
        itemsize: Bytes of a real number.
        limit_bytes: Memory that may be used.
        device_type: "cpu" or "cuda".
        method: "auto", or the one method to consider.
        compiled: Whether the compiled library executes what it knows.
    """
    samples = max(batch, 1) * itemsize / 4
    weighed = _weighed(plan, batch, itemsize, device_type, compiled)
    options = [option for option in weighed if method in ("auto", option[0])]
    runnable = [option for option in options if option[0] != "network" or plan.network is not None]
    fitting = [option for option in runnable if option[2] <= limit_bytes]
    alternatives = tuple((name, cost.seconds, memory) for name, cost, memory in weighed)
    if fitting:
        name, cost, memory = min(fitting, key=lambda option: option[1].seconds)
        reason = _reason(name, fitting, options, limit_bytes) + _arithmetic(name, plan, compiled)
    else:
        name = "refused"
        reason = "no considered method fits the memory"
        if not options:
            reason = (
                NO_DENSITY if method == "density" else f"too wide to be considered at all (allowed: {method})"
            )
            return Explanation(
                name, batch, float("inf"), 0, 0, limit_bytes, float("inf"), reason, alternatives
            )
        if not runnable:
            reason = "no contraction is known that would end"
        _, cost, memory = min(runnable or options, key=lambda option: option[2])
    return Explanation(
        name,
        batch,
        cost.flops,
        cost.widest,
        memory,
        limit_bytes,
        cost.seconds,
        reason,
        alternatives,
        cost.counts(samples),
    )


def part_samples(cost: Cost, itemsize: int) -> int:
    """Return the samples of a network that are carried at once, at least one."""
    return max(1, int(PART_BYTES // max(1.0, SAVED_FACTOR * dict(cost.sample)["network.entry"] * itemsize)))


def _weighed(
    plan: CircuitPlan, batch: int, itemsize: int, device_type: str, compiled: bool
) -> list[tuple[str, Cost, int]]:
    result = []
    samples = max(batch, 1) * itemsize / 4
    cost = plan.abandoned if plan.network is None else plan.network.cost
    if cost is not None:
        if _tape_bytes(cost, max(batch, 1), itemsize) > LARGEST_IDLE:
            cost = cost.plus(samples, sample=_untaped(cost, batch, itemsize))
        result.append(("network", cost.scaled(samples), _network_memory(cost, max(batch, 1), itemsize)))
    if compiled and plan.states is not None and plan.compiled_cost is not None:
        memory = compiled_memory(plan.states.widest, max(batch, 1), itemsize)
        result.append(("statevector", plan.compiled_cost.scaled(samples), memory))
    elif plan.states is not None and plan.state_cost is not None:
        memory = _state_memory(plan.states, max(batch, 1), itemsize, device_type)
        result.append(("statevector", plan.state_cost.scaled(samples), memory))
    if compiled and plan.density is not None:
        memory = density_memory(plan.density, max(batch, 1), itemsize)
        result.append(("density", density_cost(plan.density, batch, itemsize), memory))
    return result


def _network_memory(cost: Cost, batch: int, itemsize: int) -> int:
    """Return the bytes of value and gradient: by a tape, or by torch operations where that would be large."""
    taped = _tape_bytes(cost, batch, itemsize)
    if taped <= LARGEST_IDLE:
        return int(taped)
    free, sample = dict(cost.call)["network.entry"], dict(cost.sample)["network.entry"]
    samples = min(batch, part_samples(cost, itemsize))
    return int(SAVED_FACTOR * itemsize * (free + samples * sample))


def _tape_bytes(cost: Cost, batch: int, itemsize: int) -> float:
    """Return the bytes of value and gradient by a tape."""
    free, sample = dict(cost.call)["network.entry"], dict(cost.sample)
    copied = sample["network.copied_entry"] + sample["network.sample_entry"]
    kept = sample["network.entry"] + copied + cost.widest
    return itemsize * (FREE_FACTOR * free + KEPT_FACTOR * batch * kept)


def _untaped(cost: Cost, batch: int, itemsize: int) -> Counts:
    """Return what a sample costs besides where no tape keeps its memory: new memory for every number."""
    again = 4 / 3 if batch > part_samples(cost, itemsize) else 1.0
    return (("network.untaped_entry", again * dict(cost.sample)["network.entry"]),)


def _state_memory(states: StatePlan, batch: int, itemsize: int, device_type: str) -> int:
    """Return the bytes of all final states, of what one chunk takes besides, and of the tables of signs."""
    strings = [string for run in states.runs for string in run.strings]
    alive = STATES_AT_ONCE + (READER_STATES if any(string.flips for string in strings) else 0)
    samples = batch + alive * min(batch, chunk_samples(states.widest, device_type))
    low = min(states.widest, LOW_BITS)
    tables = len(strings) * (2**low + 2 ** (states.widest - low))
    return int(2 * itemsize * samples * 2**states.widest + itemsize * tables)


def _arithmetic(name: str, plan: CircuitPlan, compiled: bool) -> str:
    """Return which arithmetic executes a method, in words, to be put behind the reason."""
    if name == "density":
        return "; executed by the compiled kernels"
    if name != "statevector" or plan.states is None:
        return ""
    if not compiled:
        return "; executed by torch"
    if plan.states.unknown:
        return f"; executed by torch, as the compiled kernels do not know {plan.states.unknown}"
    return "; executed by the compiled kernels"


def _reason(
    name: str,
    fitting: list[tuple[str, Cost, int]],
    options: list[tuple[str, Cost, int]],
    limit_bytes: int,
) -> str:
    others = [option for option in options if option[0] != name]
    if not others:
        return f"{name} is the only method considered"
    other, cost, memory = others[0]
    if len(fitting) == 1 and memory > limit_bytes:
        return f"{name}: {other} would not fit the memory"
    chosen = next(option[1] for option in options if option[0] == name)
    return (
        f"{name} is predicted to be {cost.seconds / max(chosen.seconds, 1e-12):.1f} times faster than {other}"
    )
