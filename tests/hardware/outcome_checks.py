"""What must hold after any fault or crash."""

from __future__ import annotations

import numpy as np

from qhybrid.hardware.circuits.decoding import decode_chunk
from qhybrid.hardware.jobs.collecting import collect_jobs
from qhybrid.hardware.jobs.results import blocks_of
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.ledger.records import OPEN

TOKEN = "MARKED-TOKEN-0123456789abcdef"


def finish(context, rounds=4):
    """Submit and collect until nothing is open, as `run` does."""
    for _ in range(rounds):
        send_open_chunks(context)
        collect_jobs(context)
        if all(chunk.state != OPEN for chunk in context.ledger.chunks()):
            return


def check_complete(context, state, exact):
    """Every point has one value, near the exact one; every execution is accounted for."""
    results = context.ledger.results()
    chunks = context.ledger.chunks()
    assert sorted(results) == [chunk.number for chunk in chunks]
    values = {}
    for chunk in chunks:
        found = decode_chunk(results[chunk.number], blocks_of(context, chunk), context.settings)
        for (_, points), one in zip(chunk.blocks, found):
            values.update(zip(points, one.means))
    circuit = next(iter(context.circuits.values()))
    for request in context.ledger.requests():
        means = values[request.points[0]]
        observed = circuit.strings.coefficients @ means + circuit.strings.offsets
        assert np.abs(observed - exact[request.sample]).max() < 6 / np.sqrt(context.settings.shots)
    kept = {job.id for job in context.ledger.jobs() if job.id}
    told = {one.id for one in context.ledger.duplicates()}
    ran = {job for job, times in state.executions().items() if times}
    assert ran <= kept | told
    assert all(times <= 1 for times in state.executions().values())
