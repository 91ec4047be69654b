"""Jobs that learn the noise of layers: circuits in which it is raised wait for them.

Such a job is a chunk without points. What it learns is told by a tag of the job, since its result holds no
mark: a job of another layout, which appears late, is taken for what it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from qhybrid.errors import HardwareError, QHybridError, ServiceError
from qhybrid.hardware.circuits.amplification import twirled_rates
from qhybrid.hardware.circuits.decoding import decode_noise
from qhybrid.hardware.circuits.noise_layers import LearnedNoise, NoiseWork
from qhybrid.hardware.circuits.readout_calibration import READOUT_KEY
from qhybrid.hardware.ledger import Chunk
from qhybrid.hardware.ledger.records import DONE, SENDING, SENT
from qhybrid.hardware.plan.learning import learning_chunk
from qhybrid.hardware.service_kinds import rules_of

if TYPE_CHECKING:
    from qhybrid.hardware.jobs.context import JobContext
    from qhybrid.hardware.services.interface import Listed


def needs_learning(context: JobContext, layout: int) -> bool:
    """Return whether noise must be learned before circuits of a layout are executed."""
    work = context.learning.get(layout)
    return work is not None and bool(work.layers)


def learns_for(context: JobContext, chunk: Chunk, layout: int) -> bool:
    """Return whether a chunk learns the noise of a layout's layers: its own, or of the same ones in another.

    A calibration that has moved makes another layout of the same qubits and couplers.
    """
    if not chunk.learns or chunk.layout == layout:
        return chunk.learns
    own, wanted = context.learning.get(chunk.layout), context.learning.get(layout)
    return own is not None and wanted is not None and set(wanted.layers) <= set(own.layers)


def held_back(context: JobContext) -> set[int]:
    """Return the numbers of chunks that wait until the noise of their layers is learned."""
    chunks = context.ledger.chunks()
    learned = [chunk for chunk in chunks if chunk.learns and chunk.state == DONE]
    lacking = {
        layout
        for layout in context.learning
        if needs_learning(context, layout) and not any(learns_for(context, one, layout) for one in learned)
    }
    return {one.number for one in chunks if not one.learns and one.state != DONE and one.layout in lacking}


def learned_noise(context: JobContext, layout: int) -> LearnedNoise | None:
    """Return the noise of a layout's layers; None if it was not learned.

    Raises:
        HardwareError: If its result is damaged.
    """
    chunks = [one for one in context.ledger.chunks() if learns_for(context, one, layout)]
    for chunk in sorted(chunks, key=lambda one: one.layout != layout):
        if (found := noise_of(context, chunk)) is not None:
            return found
    return None


def noise_of(context: JobContext, chunk: Chunk) -> LearnedNoise | None:
    """Return what the job of a chunk has learned; None if it has no result.

    Raises:
        HardwareError: If its result is damaged.
    """
    if chunk.number not in context.noises:
        raw = context.ledger.results(chunk.number).get(chunk.number)
        if raw is None:
            return None
        check_unchanged(context, chunk, raw)
        context.noises[chunk.number] = decode_noise(raw, work_of(context, chunk), context.settings)
    return context.noises[chunk.number]


def check_unchanged(context: JobContext, chunk: Chunk, raw: str) -> None:
    """Check that a result is still what was entered.

    Raises:
        HardwareError: If it is not.
    """
    if not context.ledger.is_unchanged(chunk.number, raw):
        raise HardwareError(
            f"The result of chunk {chunk.number} must be as it was entered, but has changed. "
            "Fix: collect again; nothing is executed for that."
        )


def work_of(context: JobContext, chunk: Chunk) -> NoiseWork:
    """Return what a chunk learns.

    Raises:
        HardwareError: If the plan's folder lacks its layout.
    """
    if chunk.layout not in context.learning:
        raise HardwareError(
            f"Chunk {chunk.number} learns the noise of layout {chunk.layout}, but the plan's folder does not "
            "say of which layers. Fix: copy the folder again, layouts/ included."
        )
    return context.learning[chunk.layout]


def check_work(context: JobContext, chunk: Chunk) -> None:
    """Check that a job which is to be paid for learns what the circuits that wait for it need.

    Raises:
        HardwareError: If it does not.
    """
    busy = {job.chunk for job in context.ledger.jobs(SENDING, SENT)}
    waiting = [
        one
        for one in context.ledger.chunks()
        if one.layout == chunk.layout and one.state != DONE and one.number not in busy
    ]
    keys = {key for one in waiting for key, _ in one.blocks}
    own = context.circuits_of(chunk)
    if context.later_seconds and chunk.layout == max(context.layouts):
        keys |= own.keys() - {READOUT_KEY}
    rules_of(context.settings).check_noise_work(
        [own[key] for key in sorted(keys)], work_of(context, chunk), context.settings
    )


def told_noise(context: JobContext, chunk: Chunk, layout: int | None = None) -> str:
    """Return how much noise was learned, beside that of the calibration; a warning if they are far apart.

    Args:
        context: The plan.
        chunk: The chunk that has learned it.
        layout: The layout whose calibration it is compared with; the chunk's own if absent.
    """
    found = noise_of(context, chunk)
    expected = _by_calibration(context, chunk, chunk.layout if layout is None else layout)
    learned = [sum(one.rates) for one in found.found] if found is not None else []
    if not learned:
        return "the noise of no layer was learned"
    text = f"noise learned: {sum(learned) / len(learned):.3g} errors a layer, on average of {len(learned)}"
    if not expected:
        return text
    text += f"; the calibration lets expect {expected / len(learned):.3g} of the gates alone"
    ratio, factor = sum(learned) / expected, context.settings.calibration_factor
    if 1 / factor <= ratio <= factor:
        return text
    return (
        f"{text}: {ratio:.2g} times as much. Values that are extrapolated from it may be wrong: learn it "
        "with more shots in a new plan, or compare with another mitigation"
    )


def _by_calibration(context: JobContext, chunk: Chunk, layout: int) -> float:
    """Return the sum of the rates of all layers' gates by a layout's calibration; 0 where it says nothing."""
    rates: dict[tuple[str, tuple[int, int]], float] = {}
    gates = [gate for layer in work_of(context, chunk).layers for gate in layer.gates]
    for copy in (copy for circuit in context.layouts[layout].values() for copy in circuit.copies):
        place = {qubit: index for index, qubit in enumerate(copy.physical)}
        for name, pair in dict.fromkeys(gates):
            if copy.noise is None or not set(pair) <= set(place):
                continue
            with suppress(QHybridError):  # what is paid for is there, whatever a calibration lacks
                error = copy.noise.gate_error(name, (place[pair[0]], place[pair[1]]))
                rates[name, pair] = float(twirled_rates(error).sum())
    return sum(rates.get(gate, 0.0) for gate in gates)


def missing_learning(context: JobContext, layouts: Iterable[int], number: int) -> tuple[Chunk, ...]:
    """Return chunks that learn the noise of layouts which no chunk does, to be entered in a round.

    Args:
        context: The plan.
        layouts: Layouts of what is to be executed.
        number: The round.
    """
    chunks = context.ledger.chunks()
    lacking = [
        layout
        for layout in sorted(set(layouts))
        if needs_learning(context, layout) and not any(learns_for(context, one, layout) for one in chunks)
    ]
    return tuple(
        learning_chunk(len(chunks) + index, number, context.learning[layout], layout)
        for index, layout in enumerate(lacking)
    )


def waiting_layouts(context: JobContext) -> set[int]:
    """Return the layouts of chunks that are still to be executed, and of rounds that are still to come."""
    busy = {job.chunk for job in context.ledger.jobs(SENDING, SENT)}
    found = {
        chunk.layout
        for chunk in context.ledger.chunks()
        if not chunk.learns and chunk.state != DONE and chunk.number not in busy
    }
    return found | ({max(context.layouts)} if context.later_seconds else set())


def enter_missing_learning(context: JobContext) -> bool:
    """Enter jobs that learn what waiting chunks need and no chunk learns; return whether there are any."""
    chunks = context.ledger.chunks()
    if not chunks:
        return False
    last = max(chunk.round for chunk in chunks)
    found = missing_learning(context, waiting_layouts(context), last)
    if found:
        context.ledger.add_round((), (), found)
    return bool(found)


def enter_unknown_learning(context: JobContext, listed: Iterable[Listed]) -> None:
    """Enter chunks of listed jobs that learn, and of which a ledger that was made again knows nothing.

    A remapping has entered them, and what they cost counts though nothing waits for them any more.
    """
    chunks = context.ledger.chunks()
    if not context.learning or not chunks:
        return
    learning, pattern = context.settings.mitigation.learning, re.escape(context.ledger.tag) + r"-c(\d+)-a\d+"
    found = [
        (int(own[1]), one.tags) for one in listed for tag in one.tags if (own := re.fullmatch(pattern, tag))
    ]
    for number, tags in sorted(found):
        layouts = [one for one, work in sorted(context.learning.items()) if work.mark(learning) in tags]
        if number != len(chunks) or not layouts:
            continue
        known = {chunk.layout for chunk in chunks if chunk.learns}
        layout = next((one for one in layouts if one not in known), layouts[-1])
        chunks.append(learning_chunk(number, chunks[-1].round, context.learning[layout], layout))
        context.ledger.add_round((), (), chunks[-1:])


def learns_what_is_wanted(context: JobContext, chunk: Chunk, job_id: str) -> bool:
    """Return, by its tags, whether a job learns what a chunk is to learn; that of another layout becomes its.

    Raises:
        ServiceError: If its tags cannot be had: that says nothing of the job.
    """
    listed = context.listed(context.ledger.tag)
    tags = next((one.tags for one in listed if one.id == job_id), None)
    if tags is None:
        raise ServiceError(
            f"Job {job_id} must be listed with what it learns, but is not. Fix: collect again later."
        )
    learning = context.settings.mitigation.learning
    for layout in (chunk.layout, *sorted(context.learning, reverse=True)):
        work = context.learning.get(layout)
        if work is not None and work.mark(learning) in tags:
            if layout != chunk.layout:  # sent before the rest was mapped anew, and it appears only now
                context.ledger.set_layout(layout, {chunk.number: work.seconds})
            return True
    return False
