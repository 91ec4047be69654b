"""Executing a plan: submit, collect, cancel, run. Every step may be repeated in another process."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.decoding import observable_errors, observables_from
from qhybrid.hardware.jobs.collecting import Progress, cancel_jobs, collect_jobs
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.hardware.jobs.learning import enter_missing_learning, held_back, missing_learning
from qhybrid.hardware.jobs.pilot import pilot_of, send_pilot
from qhybrid.hardware.jobs.reserving import committed_seconds, measured_rate
from qhybrid.hardware.jobs.results import check_results, estimates_of
from qhybrid.hardware.jobs.sending import is_anything_to_send, send_open_chunks
from qhybrid.hardware.jobs.status import status_of
from qhybrid.hardware.ledger import Ledger
from qhybrid.hardware.ledger.mending import save_requests
from qhybrid.hardware.ledger.records import CANCELLED, DONE, FAILED, SENT, TOO_LONG
from qhybrid.hardware.model.recording import run_pass
from qhybrid.hardware.model.requests import RequestLog
from qhybrid.hardware.model.workload import Workload, stacked
from qhybrid.hardware.plan.rounds import JobSizes, plan_round

Array = NDArray[np.float64]
DECIDE = (CANCELLED, FAILED, TOO_LONG)


@dataclass(eq=False)
class PlanExecution:
    """An open plan.

    Attributes:
        folder: The plan's folder.
        content: Its plan.json.
        load: Returns model and samples: what is on its way is collected and cancelled without them.
        bound: Circuits as the layers have them, by key.
        context: Ledger, service, circuits and settings.
        before_sending: Called before anything is sent; it may refuse.
        errors: Standard errors of the observables of every request, filled when results are read.
    """

    folder: Path
    content: dict[str, Any]
    load: Callable[[], Workload]
    bound: dict[str, CircuitSpec]
    context: JobContext
    before_sending: Callable[[], None] | None = None
    errors: dict[tuple[int, str, int], Array] = field(default_factory=dict)
    _compared: bool = False

    @cached_property
    def workload(self) -> Workload:
        """Model and samples."""
        return self.load()

    @property
    def ledger(self) -> Ledger:
        """The plan's ledger."""
        return self.context.ledger

    def submit(self, again: bool = False, pilot: bool | None = None) -> int:
        """Send the jobs of the current round, as many as the cap allows.

        Args:
            again: Also those that were cancelled, stopped at their time limit, or failed.
            pilot: Whether a small job goes first and is looked at; as the settings say if absent.

        Returns:
            Number of jobs that were sent.

        Raises:
            HardwareError: If the pilot, the cap or the account's time says no.
        """
        check_results(self.context)
        self.next_round()
        if enter_missing_learning(self.context):
            save_requests(self.ledger, self.folder)
        self._compare_model()
        if self.before_sending is not None and is_anything_to_send(self.context, again):
            self.before_sending()
        first = pilot_of(self.context, pilot, again)
        sent = 0 if first is None else send_pilot(self.context, first, self.bound, again)
        sent += send_open_chunks(self.context, again)
        if waiting := held_back(self.context):
            self.context.say(
                f"{len(waiting)} job(s) wait until the noise of their layers is learned: "
                f"{self._step_to_learning()}"
            )
        return sent

    def _step_to_learning(self) -> str:
        """Return what is to be done so that jobs which wait for the noise of their layers can be sent."""
        ended = [one for one in self.ledger.chunks() if one.learns and one.state in DECIDE]
        if ended:
            return f"the job that learns it is `{ended[0].state}`, and `submit --again` sends it once more"
        return "collect, and submit again, or `run`"

    def collect(self, wait: bool = True, progress: Progress | None = None) -> Tensor | None:
        """Record results; return the model's outputs if no request is left."""
        check_results(self.context)
        if not self.ledger.chunks():  # a ledger that was made again without anything asked
            self.next_round()
        collect_jobs(self.context, wait, progress)
        return self.next_round()

    def run(self, progress: Progress | None = None, pilot: bool | None = None) -> Tensor:
        """Submit and collect until the model's outputs are there.

        Args:
            progress: Called with (chunks with a result, chunks).
            pilot: As for `submit`.

        Raises:
            HardwareError: If a chunk needs a decision, or as `submit` raises it.
        """
        while True:
            self.submit(pilot=pilot)
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
        rate = measured_rate(self.context, ended[0].learns)
        told = [*(job.message.rstrip() for job in jobs[-1:]), "" if rate is None else rate.told, ""]
        message = " ".join(["", *filter(None, told)])
        raise HardwareError(
            f"All chunks must have results, but {len(ended)} ended without one: chunk {ended[0].number} is "
            f"`{ended[0].state}`.{message} Fix: `submit --again` sends them once more (a higher "
            "max_execution_seconds, or smaller jobs, need a new plan); the others are kept."
        )

    def next_round(self) -> Tensor | None:
        """Enter the requests of the next round once all results of the last are there.

        Returns:
            The model's outputs if no request is left.
        """
        if any(chunk.state != DONE for chunk in self.ledger.chunks()):
            return None
        log = self.request_log()
        outputs = self._pass(log)
        if not log.new:
            return stacked(outputs)
        unknown = [key for key in log.circuits if key not in self.context.circuits]
        if unknown:
            raise HardwareError(
                f"A re-run must execute the circuits of the plan, but circuit {unknown[0]} is new. Fix: "
                "use the weights and version of the plan; results that were paid for are in the ledger."
            )
        chunks, newest = self.ledger.chunks(), max(self.context.layouts)
        number = 1 + max((request.round for request in log.requests.values()), default=-1)
        learning = missing_learning(self.context, [newest], number)
        found = plan_round(
            number,
            list(log.new.values()),
            self.ledger.points(),
            len(chunks) + len(learning),
            self.context.circuits,
            self.context.settings,
            JobSizes(others=self.content.get("pilot", {}).get("job_executions")),
        )
        own = tuple(replace(one, layout=newest) for one in found.chunks)
        found = replace(found, chunks=(*learning, *own) if own else ())
        self.ledger.add_round(found.requests, found.points, found.chunks)
        save_requests(self.ledger, self.folder)
        self.price_later_rounds()
        return None if found.chunks else self.next_round()

    def _compare_model(self) -> None:
        """Check, before anything is paid for, that the model still requests what the plan holds.

        Raises:
            HardwareError: If it does not: a run that was trained on since, or other samples.
        """
        busy = {job.chunk for job in self.ledger.jobs(SENT)}
        open_ = [c for c in self.ledger.chunks() if c.state != DONE and c.number not in busy]
        if not self._compared and open_:
            self._pass(self.request_log())

    def _pass(self, log: RequestLog) -> list[Tensor | None]:
        samples = self.workload.samples
        outputs = run_pass(
            self.workload.model, samples.images, self.content["layers"], log, token_maps=samples.token_maps
        )
        self._compared = True
        return outputs

    def request_log(self) -> RequestLog:
        """Return all requests with the results that are there."""
        values = self._values()
        known = {request.key: request for request in self.ledger.requests()}
        log = RequestLog(requests=known, written=self.bound)
        for key, request in log.requests.items():
            if all(point in values for point in request.points):
                log.results[key] = np.stack([values[point][0] for point in request.points])
                self.errors[key] = np.stack([values[point][1] for point in request.points])
        return log

    def _values(self) -> dict[int, tuple[Array, Array]]:
        """Return observables and their standard errors of every point that has a result."""
        values: dict[int, tuple[Array, Array]] = {}
        for chunk in self.ledger.chunks():
            found = estimates_of(self.context, chunk)
            if found is None:
                continue
            for (key, points), one in zip(chunk.blocks, found, strict=True):
                circuit = self.context.circuits_of(chunk)[key]
                means = observables_from(circuit, one.means)
                errors = observable_errors(circuit, one.errors)
                values.update(zip(points, zip(means, errors, strict=True), strict=True))
        return values

    def raise_cap(self, seconds: float) -> None:
        """Raise the cap of a plan, or give one to a plan without.

        Raises:
            HardwareError: If it is lower than the plan's cap, or than what may be billed, or no number.
        """
        if not math.isfinite(seconds):
            raise HardwareError(
                f"The new cap must be a number of seconds, but is {seconds:g}. Fix: "
                "`submit --max-qpu-seconds S` with S as much as may be billed."
            )
        cap = self.context.cap
        least = max(cap or 0.0, committed_seconds(self.context))
        if seconds < least:
            raise HardwareError(
                f"The new cap must be at least {least:g} s, the plan's own or what is spent and in flight, "
                f"but is {seconds:g} s. Fix: a higher one; `cancel` stops what has not run."
            )
        self.ledger.raise_cap(seconds)

    def price_later_rounds(self) -> None:
        """Count the expected cost of later rounds against the cap."""
        known = {chunk.round for chunk in self.ledger.chunks()}
        later = [r["limit_seconds"] for number, r in enumerate(self.content["rounds"]) if number not in known]
        self.context.later_seconds = float(sum(later))

    def status(self) -> dict[str, Any]:
        """Return what the ledger knows; nothing is asked of the service."""
        return status_of(self.content, self.ledger)

    def cancel(self) -> int:
        """Cancel all jobs that have not ended; return their number."""
        return cancel_jobs(self.context)
