"""What the ledger holds, as values.

A plan asks for requests, one for each (sample, layer, call). Requests refer to points: the distinct parameter
sets of a circuit. Points are bought in chunks, one job each; a chunk has exactly one result in the end,
however many jobs it took.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

OPEN, DONE, FAILED, CANCELLED, TOO_LONG = "open", "done", "failed", "cancelled", "too_long"
"""States of a chunk: it waits for its result, has it, or needs a decision. Jobs end in the same states."""

PREPARED, SENDING, SENT = "prepared", "sending", "sent"
"""States of a job before it ends: its tag is on disk; it may or may not have been sent; its id is known."""

UNFINISHED = (PREPARED, SENDING, SENT)

STOPPED, DENIED = "stopped", "denied"
"""Further outcomes of duplicates: cancelled while it ran; listed by the service, which denies it."""


@dataclass(frozen=True, eq=False)
class Request:
    """One execution of a quantum layer for one sample.

    Attributes:
        sample: Index of the sample.
        layer: Dotted name of the layer.
        call: Number of the call of that layer for that sample, from 0.
        circuit: Key of the circuit with its weights.
        angles: Input angles in radians, shape (rows, n_in): a layer may execute many rows a call.
        points: For every row the number of its point, shape (rows,); empty until it is known.
        round: The round in which it was asked for, from 0.
    """

    sample: int
    layer: str
    call: int
    circuit: str
    angles: Array
    points: tuple[int, ...] = ()
    round: int = 0

    @property
    def key(self) -> tuple[int, str, int]:
        """Return (sample, layer, call)."""
        return self.sample, self.layer, self.call


@dataclass(frozen=True)
class Chunk:
    """The work of one job.

    Attributes:
        number: Its number in the plan.
        round: The round it belongs to.
        blocks: Pairs (circuit, numbers of its points); none for a job that learns the noise of layers.
        seconds: Predicted QPU seconds.
        state: `open`, `done`, `failed`, `cancelled` or `too_long`.
        layout: Where its circuits are on the device: 0 as planned, later ones as mapped anew.
    """

    number: int
    round: int
    blocks: tuple[tuple[str, tuple[int, ...]], ...]
    seconds: float
    state: str = OPEN
    layout: int = 0

    @property
    def learns(self) -> bool:
        """Whether its job learns the noise of layers, for chunks of the same layout."""
        return not self.blocks

    @property
    def limit(self) -> int:
        """The predicted QPU seconds as a time limit: the service takes whole seconds."""
        return max(1, math.ceil(round(self.seconds, 6)))


@dataclass(frozen=True)
class Job:
    """One attempt at a chunk.

    Attributes:
        tag: Unique; it was on disk before the job was sent.
        chunk: Number of the chunk.
        attempt: From 1.
        state: `prepared`, `sending`, `sent`, or how it ended.
        id: The service's id, once it is known.
        empty_since: Time of the first listing that did not hold the tag of a job that may have been sent.
        reserved: QPU seconds after which the service stops it; None for its own limit.
        usage: Billed QPU seconds, once they are known.
        message: Why it ended as it did.
    """

    tag: str
    chunk: int
    attempt: int
    state: str
    id: str | None = None
    empty_since: float | None = None
    reserved: float | None = None
    usage: float | None = None
    message: str = ""


@dataclass(frozen=True)
class OpenedSession:
    """A session or batch that was opened for the plan's jobs.

    Attributes:
        id: The service's id.
        mode: `session` or `batch`; only a session is billed beside its jobs.
        max_time: Seconds after which the service ends it.
        closed: Whether it takes no more jobs.
        usage: Billed QPU seconds of a session, once they are known.
    """

    id: str
    mode: str
    max_time: float | None
    closed: bool = False
    usage: float | None = None


@dataclass(frozen=True)
class Duplicate:
    """A job of the service that carries a tag which another job of ours carries already.

    Attributes:
        id: The service's id.
        tag: The tag.
        outcome: `cancelled` before it ran, `stopped` while it ran, `denied`, or the status in which it could
            not be cancelled any more. One that was cancelled before it ran is expected to cost nothing; under
            a cap all count with their limits until their bills are known.
        usage: Billed QPU seconds, once they are known.
    """

    id: str
    tag: str
    outcome: str
    usage: float | None = None
