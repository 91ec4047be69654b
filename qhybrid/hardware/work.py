"""A plan at work: submit, collect, status, cancel, run. Every step may be repeated in another process."""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import HardwareError
from qhybrid.hardware.backends import make_service
from qhybrid.hardware.collecting import Progress, blocks_of, cancel_jobs, collect_jobs
from qhybrid.hardware.context import Clock, JobContext, Say
from qhybrid.hardware.decoding import decode_chunk, observable_errors, observables_from
from qhybrid.hardware.ledger import LEDGER_FILE, Ledger
from qhybrid.hardware.ledger.records import CANCELLED, DONE, FAILED, TOO_LONG
from qhybrid.hardware.plan_files import load_circuits, read_plan, settings_of
from qhybrid.hardware.planning import CALIBRATION_FILE
from qhybrid.hardware.recording import Book, run_pass
from qhybrid.hardware.rounds import plan_round
from qhybrid.hardware.sending import send_open_chunks
from qhybrid.hardware.service import JobService
from qhybrid.hardware.workload import Workload, stacked
from qhybrid.noise import NoiseProfile

Array = NDArray[np.float64]
LOCK_FILE = "lock"
DECIDE = (CANCELLED, FAILED, TOO_LONG)


@dataclass(eq=False)
class Work:
    """An open plan.

    Attributes:
        folder: The plan's folder.
        content: Its plan.json.
        workload: Model and samples.
        bound: Circuits as the layers have them, by key.
        context: Ledger, service, circuits and settings.
        errors: Standard errors of the observables of every request, filled when results are read.
    """

    folder: Path
    content: dict[str, Any]
    workload: Workload
    bound: dict[str, CircuitSpec]
    context: JobContext
    errors: dict[tuple[int, str, int], Array] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        """The plan's ledger."""
        return self.context.ledger

    def submit(self, again: bool = False) -> int:
        """Send all jobs of the current round; return their number."""
        self.next_round()
        return send_open_chunks(self.context, again)

    def collect(self, wait: bool = True, progress: Progress | None = None) -> Tensor | None:
        """Enter results; return the model's outputs if no request is left."""
        collect_jobs(self.context, wait, progress)
        return self.next_round()

    def run(self, progress: Progress | None = None) -> Tensor:
        """Submit and collect until the model's outputs are there.

        Raises:
            HardwareError: If a chunk needs a decision.
        """
        while True:
            self.submit()
            outputs = self.collect(progress=progress)
            self.check_decisions()
            if outputs is not None:
                return outputs

    def check_decisions(self) -> None:
        """Check that no chunk waits for a decision.

        Raises:
            HardwareError: If one does.
        """
        ended = [chunk for chunk in self.ledger.chunks() if chunk.state in DECIDE]
        if not ended:
            return
        jobs = [job for job in self.ledger.jobs() if job.chunk == ended[0].number]
        message = jobs[-1].message if jobs else ""
        raise HardwareError(
            f"All chunks must have results, but {len(ended)} ended without one: chunk {ended[0].number} is "
            f"`{ended[0].state}`. {message} Fix: `submit --again` sends them once more (a higher "
            "max_execution_seconds, or smaller jobs, need a new plan); the others are kept."
        )

    def next_round(self) -> Tensor | None:
        """Enter the requests of the next round once all results of the last are there.

        Returns:
            The model's outputs if no request is left.
        """
        if any(chunk.state != DONE for chunk in self.ledger.chunks()):
            return None
        book = self.book()
        outputs = run_pass(self.workload.model, self.workload.samples.images, self.content["layers"], book)
        if not book.new:
            return stacked(outputs)
        unknown = [key for key in book.circuits if key not in self.context.circuits]
        if unknown:
            raise HardwareError(
                f"A re-run must execute the circuits of the plan, but circuit {unknown[0]} is new. Fix: "
                "use the "
                "weights and version of the plan; results that were paid for are in the ledger."
            )
        chunks = self.ledger.chunks()
        number = 1 + max((request.round for request in book.requests.values()), default=-1)
        found = plan_round(
            number,
            list(book.new.values()),
            self.ledger.points(),
            len(chunks),
            self.context.circuits,
            self.context.settings,
        )
        self.ledger.add_round(found.requests, found.points, found.chunks)
        self._price_later_rounds()
        return None if found.chunks else self.next_round()

    def book(self) -> Book:
        """Return all requests with the results that are there."""
        values = self._values()
        book = Book(requests={request.key: request for request in self.ledger.requests()})
        for key, request in book.requests.items():
            if all(point in values for point in request.points):
                book.results[key] = np.stack([values[point][0] for point in request.points])
                self.errors[key] = np.stack([values[point][1] for point in request.points])
        return book

    def _values(self) -> dict[int, tuple[Array, Array]]:
        """Return observables and their standard errors of every point that has a result."""
        values: dict[int, tuple[Array, Array]] = {}
        raw = self.ledger.results()
        for chunk in self.ledger.chunks():
            if chunk.number not in raw:
                continue
            found = decode_chunk(raw[chunk.number], blocks_of(self.context, chunk), self.context.settings)
            for (key, points), one in zip(chunk.blocks, found, strict=True):
                circuit = self.context.circuits[key]
                means = observables_from(circuit, one.means)
                errors = observable_errors(circuit, one.errors)
                values.update(zip(points, zip(means, errors, strict=True), strict=True))
        return values

    def _price_later_rounds(self) -> None:
        known = {chunk.round for chunk in self.ledger.chunks()}
        later = [r["qpu_seconds"] for number, r in enumerate(self.content["rounds"]) if number not in known]
        self.context.later_seconds = float(sum(later))

    def status(self) -> dict[str, Any]:
        """Return what the ledger knows; nothing is asked of the service."""
        return _status(self.content, self.ledger)

    def cancel(self) -> int:
        """Cancel all jobs that have not ended; return their number."""
        return cancel_jobs(self.context)


def ledger_status(folder: str | Path) -> dict[str, Any]:
    """Return what the ledger of a plan knows; nothing is asked of the service.

    Args:
        folder: The plan's folder; another process may work on it.

    Raises:
        HardwareError: If the folder holds no usable plan.
    """
    content = read_plan(Path(folder))
    with Ledger(Path(folder) / LEDGER_FILE, content["plan"]) as ledger:
        return _status(content, ledger)


def _status(content: dict[str, Any], ledger: Ledger) -> dict[str, Any]:
    chunks, jobs = ledger.chunks(), ledger.jobs()
    of_chunks = Counter(chunk.state for chunk in chunks)
    of_jobs = Counter(job.state for job in jobs)
    return {
        "plan": content["plan"],
        "backend": content["settings"]["backend"],
        "rounds": {"entered": len({chunk.round for chunk in chunks}), "planned": len(content["rounds"])},
        "chunks": dict(of_chunks),
        "jobs": dict(of_jobs),
        "duplicates": len(ledger.duplicates()),
        "qpu_seconds_spent": round(ledger.spent_seconds(), 2),
        "qpu_seconds_planned": content["qpu_seconds"],
    }


@contextmanager
def open_work(
    folder: str | Path,
    load: Callable[[dict[str, Any], Path], Workload],
    service: JobService | None = None,
    clock: Clock | None = None,
    say: Say = lambda _text: None,
) -> Iterator[Work]:
    """Open a plan; only one process at a time may work on it.

    Args:
        folder: The plan's folder.
        load: Returns model and samples from plan.json and the folder.
        service: What executes; that of the plan's backend if absent.
        clock: Time.
        say: Called with a sentence whenever something happens.

    Raises:
        HardwareError: If the folder holds no usable plan, or another process works on it.
    """
    root = Path(folder)
    content = read_plan(root)
    settings = settings_of(content, root)
    noise = NoiseProfile.load(root / CALIBRATION_FILE) if (root / CALIBRATION_FILE).is_file() else None
    with _locked(root):
        bound, circuits = load_circuits(root, settings, noise)
        with Ledger(root / LEDGER_FILE, content["plan"]) as ledger:
            context = JobContext(
                ledger,
                service or make_service(settings, root),
                circuits,
                settings,
                0.0,
                clock or Clock(),
                say,
            )
            work = Work(root, content, load(content, root), bound, context)
            work._price_later_rounds()
            yield work


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes out; the system lets go when this one ends, however it ends."""
    with (folder / LOCK_FILE).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HardwareError(
                f"Only one process may work on {folder}, but another one does. Fix: wait for it, or stop it."
            ) from error
        yield
