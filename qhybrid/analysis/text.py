"""An analysis as titled lines in plain words, for terminals."""

from __future__ import annotations

from collections.abc import Sequence

from qhybrid.analysis.analyze import WHOLE, CircuitAnalysis
from qhybrid.analysis.closed_form import LARGEST_CONE
from qhybrid.analysis.directions import Rank
from qhybrid.analysis.estimates import Estimate, NotComputed
from qhybrid.analysis.expressibility import Expressibility
from qhybrid.analysis.kernels import GeometricDifference
from qhybrid.analysis.spectrum import Frequency, InputSpectrum
from qhybrid.analysis.structure import Counts, Structure
from qhybrid.analysis.trainability import AngleGradient, Growth, Slope, Trainability

SHOWN = 8
"""Rows of a list that are shown; the others are counted."""
LONGEST_FORMULA = 160
WEAK = 0.05
"""Expressibility above its bias by less than this many nats counts as Haar-random."""

Section = tuple[str, list[str]]


def sections_of(found: CircuitAnalysis) -> list[Section]:
    """Return titles and lines of all figures."""
    return [
        ("structure", _structure(found.structure)),
        ("drawn", _drawn(found)),
        ("closed form", _closed_form(found)),
        ("dead angles", _dead(found)),
        ("independent directions", _directions(found)),
        ("expressibility", _expressibility(found)),
        ("entanglement", _entanglement(found)),
        ("trainability", _trainability(found.trainability, found.dead.dead)),
        *([("growth", _growth(found.growth))] if found.growth else []),
        ("spectrum", _spectra(found.spectra)),
        ("effective dimension", _dimension(found)),
        ("geometric difference", [kernel_text(one) for one in found.geometric_differences]),
        ("classical cost", _cost(found)),
    ]


def _structure(found: Structure) -> list[str]:
    lines = [
        f"{found.num_qubits} qubits, {found.num_inputs} inputs, {found.num_weights} weights, "
        f"{found.num_observables} observables"
    ]
    lines += [_counts(one) for one in found.counts]
    sizes = sorted(len(cone.qubits) for cone in found.cones)
    if sizes:
        groups = ", ".join(f"{sizes.count(size)} of {size}" for size in sorted(set(sizes)))
        lines.append(f"light cones in qubits: {groups} (as written)")
    if found.idle:
        lines.append(f"no gate touches qubit {_list([str(one) for one in found.idle])}")
    if found.untouched:
        lines.append(f"nothing follows the encoding on qubit {_list([str(one) for one in found.untouched])}")
    return lines


def _counts(one: Counts) -> str:
    form = one.form if one.form == "as written" else f"routed to {one.form}"
    gates = ", ".join(f"{count} {name}" for name, count in one.by_name)
    return (
        f"{form}: {one.gates} gates ({gates}), {one.two_qubit} of them on several qubits, depth {one.depth}, "
        f"{one.qubits} qubits, largest light cone {one.largest_cone} qubits"
    )


def _drawn(found: CircuitAnalysis) -> list[str]:
    lines = []
    for kind in ("input", "weight"):
        ranges: dict[tuple[float, float, bool], list[str]] = {}
        for one in found.parameters:
            if one.kind == kind:
                known = one.period is not None and abs(one.high - one.low - one.period) < 1e-9
                ranges.setdefault((one.low, one.high, known), []).append(one.name)
        for (low, high, known), names in ranges.items():
            note = "one period" if known else "not a period"
            lines.append(f"{kind}s {_list(names)}: uniform on [{low:.4g}, {high:.4g}] rad ({note})")
    lines.append(f"seed {found.seed}; up to {found.samples} settings a figure, each says how many it has")
    return lines


def _closed_form(found: CircuitAnalysis) -> list[str]:
    lines = []
    for one in found.formulas[:SHOWN]:
        if one.terms is None:
            lines.append(f"{one.observable}: too many products to be written")
        elif one.text and len(one.text) <= LONGEST_FORMULA:
            lines.append(f"{one.observable} = {one.text}")
        else:
            lines.append(
                f"{one.observable}: {one.terms} products of sines and cosines (written in the JSON file)"
            )
    if len(found.formulas) > SHOWN:
        lines.append(f"... and {len(found.formulas) - SHOWN} more in the JSON file")
    if not lines:
        smallest = min((len(cone.qubits) for cone in found.structure.cones), default=0)
        lines.append(f"none: no light cone has at most {LARGEST_CONE} qubits, the smallest has {smallest}")
    return lines


def _dead(found: CircuitAnalysis) -> list[str]:
    dead = found.dead
    confirmed = (
        f"confirmed by gradients at {dead.trials} random settings"
        if dead.trials
        else f"not confirmed by gradients: {dead.note}"
    )
    if dead.dead:
        lines = [f"no observable depends on {_list(dead.dead)} (by the light cones; {confirmed})"]
    else:
        lines = [f"none: every angle may reach an observable ({confirmed})"]
    if not found.parameters:
        return ["none: the circuit has no angles"]
    if dead.unproved:
        lines.append(
            f"no effect seen of {_list(dead.unproved)} at {dead.trials} settings, but not proved by the gates"
        )
    return lines


def _directions(found: CircuitAnalysis) -> list[str]:
    state = "the state" if found.states.of in (WHOLE, "") else f"the state of {found.states.of}"
    return [
        rank_text("outputs (Jacobian over random inputs)", found.jacobian_rank),
        rank_text(f"{state}, one input (quantum Fisher information)", found.quantum_rank_one_input),
        rank_text(f"{state}, all inputs together", found.quantum_rank),
    ]


def rank_text(label: str, found: Rank | NotComputed) -> str:
    """Return a rank in words, behind what it is of."""
    if isinstance(found, NotComputed):
        return f"{label}: {found}"
    spare = found.columns - found.rank
    said = f"{spare} of them add nothing" if spare else "all of them count"
    if found.bounded:
        said = f"what the other {spare} add is not known"
    several = f"{found.inputs} inputs" if found.inputs > 1 else "one input"
    inputs = f" with {several}" if found.inputs > 1 or found.bounded else ""
    gap = ""
    if found.smallest is not None and found.next is not None:
        gap = f"; smallest that counts {found.smallest:.0e}, next {found.next:.0e} of the largest"
    note = f"; {found.note}" if found.note else ""
    rank = f"at least {found.rank}" if found.bounded else str(found.rank)
    return (
        f"{label}: rank {rank} of {found.columns} weights, {said} "
        f"(at {found.reached} of {found.settings} settings{inputs}{gap}{note})"
    )


def _expressibility(found: CircuitAnalysis) -> list[str]:
    if isinstance(found.expressibility, NotComputed):
        return [str(found.expressibility)]
    lines = [_divergence(one) for one in found.expressibility]
    if found.states.note:
        lines.append(f"of {found.states.of} alone: {found.states.note}")
    return lines


def _divergence(one: Expressibility) -> str:
    above = one.divergence.value - one.bias
    if one.divergence.value > 0.95 * one.largest:
        said = "all states are the same"
    elif above < WEAK + 2 * one.divergence.error:
        said = "hardly to be told from random states"
        if 2 * one.divergence.error > WEAK:
            said = "not to be told from random states by so few pairs"
    else:
        said = "fewer states than random ones would reach"
    return (
        f"KL {one.divergence.text()} nats over random {one.drawn} ({one.divergence.samples} pairs, "
        f"{len(one.haar)} bins of {one.bins}; 0 is Haar-random, of which {one.bias:.3f} is bias of so many "
        f"pairs; {one.largest:.2f} if nothing moves): {said}"
    )


def _entanglement(found: CircuitAnalysis) -> list[str]:
    value = found.entangling_capability
    if isinstance(value, NotComputed):
        return [str(value)]
    size = 2.0**found.structure.num_qubits
    return [
        f"Meyer-Wallach Q {value.text()} over {value.samples} settings (0 product states, 1 largest, "
        f"{(size - 2) / (size + 1):.3f} random states)"
    ]


def _trainability(found: Trainability | NotComputed, dead: Sequence[str] = ()) -> list[str]:
    if isinstance(found, NotComputed):
        return [str(found)]
    lines = [f"variance of gradients over {found.samples} random settings of all inputs and weights"]
    lines += [f"{name}: {value.scientific()} a weight" for name, value in found.series[:2]]
    if len(found.series) == 3:
        lines = [lines[0], f"{found.series[2][0]}: {found.series[2][1].scientific()} a weight"]
    if not any(one.kind == "weight" and one.name not in dead for one in found.angles):
        lines = [line.replace("a weight", "an input") for line in lines]
    for kind in ("weight", "input"):
        own = sorted((one for one in found.angles if one.kind == kind), key=lambda one: -one.of_sum.value)
        if own:
            lines.append(f"each {kind}, of the sum: {_extremes(own)}")
    if found.left_out:
        lines.append(f"{found.left_out} observables are left out: they do not fit the memory")
    return lines


def _extremes(own: Sequence[AngleGradient]) -> str:
    if len(own) <= SHOWN:
        return ", ".join(f"{one.name} {one.of_sum.value:.2g}" for one in own)
    shown = (("largest", own[0]), ("median", own[len(own) // 2]), ("smallest", own[-1]))
    return ", ".join(f"{word} {one.of_sum.value:.2g} ({one.name})" for word, one in shown)


def _growth(found: Growth | NotComputed) -> list[str]:
    if isinstance(found, NotComputed):
        return [str(found)]
    sizes = ", ".join(f"{n} ({q} qubits)" for n, q in zip(found.sizes, found.qubits))
    lines = [f"{found.argument} {sizes}; slope of log2 of the variance of a gradient, a qubit:"]
    main = [one for one in found.slopes if one.angle == "mean"]
    lines += [_slope(one) for one in main[: SHOWN + 2]]
    if len(main) > SHOWN + 2:
        lines.append(f"... and {len(main) - SHOWN - 2} more observables in the JSON file")
    return lines + [f"{found.argument} {size} {why}" for size, why in found.left_out]


def _slope(one: Slope) -> str:
    if one.slope is None or one.low is None or one.high is None:
        return f"{one.series}: {one.verdict}"
    return f"{one.series}: {one.slope:+.3f} (95 % {one.low:+.3f} to {one.high:+.3f}): {one.verdict}"


def _spectra(found: tuple[InputSpectrum, ...] | NotComputed) -> list[str]:
    if isinstance(found, NotComputed):
        return [str(found)]
    groups: dict[str, list[InputSpectrum]] = {}
    for one in found:
        key = one.note or ", ".join(f"{wave.value:.4g}" for wave in one.frequencies)
        groups.setdefault(key + str(one.missing), []).append(one)
    lines = []
    for own in list(groups.values())[:SHOWN]:
        first, names = own[0], _list([one.name for one in own])
        if first.note:
            fastest = f"; its angles turn by up to {first.possible:.3g} rad a unit" if first.possible else ""
            lines.append(f"{names}: {first.note}{fastest}")
            continue
        if not first.frequencies:
            lines.append(f"{names}: no frequency is reached")
            continue
        waves = first.frequencies
        amplitude = ", ".join(_amplitude(wave) for wave in waves[:SHOWN])
        values = ", ".join(("+-" if wave.value else "") + f"{wave.value:.4g}" for wave in waves[:SHOWN])
        more = ", ..." if len(waves) > SHOWN else ""
        of = f" of {first.name}" if len(own) > 1 else ""
        merged = _missing(first.missing)
        lines.append(
            f"{names}: frequencies {values}{more} rad a unit, amplitudes{of} {amplitude}{more} (root mean "
            f"square over {first.draws} settings, largest observable){merged}"
        )
    if len(groups) > SHOWN:
        lines.append(f"... and {len(groups) - SHOWN} more groups of inputs in the JSON file")
    return lines


def _missing(frequencies: Sequence[float]) -> str:
    """Return in words which frequencies cancel; a constant part that is absent is nothing that merged."""
    if not frequencies:
        return ""
    if tuple(frequencies) == (0.0,):
        return "; no constant part"
    own = ", ".join(("+-" if one else "") + f"{one:.4g}" for one in frequencies[:SHOWN])
    more = ", ..." if len(frequencies) > SHOWN else ""
    return f"; {own}{more} cancel, which its rotations could give"


def _amplitude(wave: Frequency) -> str:
    estimate = Estimate(wave.amplitude, wave.error, 0)
    return estimate.text() if wave.amplitude >= 5e-3 else estimate.scientific()


def _dimension(found: CircuitAnalysis) -> list[str]:
    one = found.effective_dimension
    if isinstance(one, NotComputed):
        return [str(one)]
    return [
        f"{one.value.text(2)} of {one.weights} weights for {one.data} data, gamma {one.gamma:g} "
        f"({one.value.samples} settings of the weights with {one.inputs} inputs each)"
    ]


def kernel_text(one: GeometricDifference | NotComputed) -> str:
    """Return a geometric difference in words."""
    if isinstance(one, NotComputed):
        return str(one)
    # Between 1, none, and sqrt(N): 2 of 8 for 64 inputs.
    low = one.value.value < 1 + (one.largest - 1) / 7
    said = "no labels on which it is far better" if low else "labels on which it is better may exist"
    return (
        f"{one.kernel} kernel: g {one.value.text(2)} against the nearest classical one ({one.nearest}); "
        f"{one.largest:.1f} would leave room for an advantage, 1 is none ({one.points} inputs, "
        f"{one.value.samples} times): {said}"
    )


def _cost(found: CircuitAnalysis) -> list[str]:
    cost = found.cost
    lines = [cost.sentence]
    if cost.multiply_adds is not None and cost.width is not None:
        lines.append(
            f"method {cost.method}, contraction width 2^{cost.width:.3g}, {cost.multiply_adds:,.0f} "
            f"multiply-adds a sample; {cost.reason}"
        )
    return lines


def _list(names: Sequence[str]) -> str:
    if len(names) <= 6:
        return ", ".join(names)
    return f"{names[0]}, {names[1]}, ..., {names[-1]} ({len(names)})"
