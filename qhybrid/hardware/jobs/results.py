"""Raw results of the ledger as estimates; those that are damaged are fetched again."""

from __future__ import annotations

from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.decoding import Estimates, decode_chunk
from qhybrid.hardware.circuits.prepared import PreparedCircuit
from qhybrid.hardware.circuits.readout_calibration import calibration_work
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.hardware.jobs.learning import check_unchanged, noise_of
from qhybrid.hardware.ledger import Chunk


def blocks_of(context: JobContext, chunk: Chunk) -> list[tuple[PreparedCircuit, int]]:
    """Return circuit and number of points of every block, and of what measures the job's read-out errors."""
    circuits = context.circuits_of(chunk)
    own = [(circuits[key], len(points)) for key, points in chunk.blocks]
    return [*own, *calibration_work(circuits, context.settings)]


def estimates_of(context: JobContext, chunk: Chunk) -> list[Estimates] | None:
    """Return the estimates of a chunk, one for each block; None if it has no result.

    Raises:
        HardwareError: If its result is damaged.
    """
    if chunk.learns:
        return None if noise_of(context, chunk) is None else []
    if chunk.number not in context.estimates:
        raw = context.ledger.results(chunk.number).get(chunk.number)
        if raw is None:
            return None
        check_unchanged(context, chunk, raw)
        context.estimates[chunk.number] = decode_chunk(raw, blocks_of(context, chunk), context.settings)
    return context.estimates[chunk.number]


def check_results(context: JobContext) -> None:
    """Look at all results of the ledger; those that are damaged are dropped, and fetched again."""
    for chunk in context.ledger.chunks():
        try:
            estimates_of(context, chunk)
        except HardwareError as error:
            context.ledger.drop_result(chunk.number)
            context.note(f"chunk {chunk.number}: its result is damaged and is fetched again. {error}")
