"""`Plan`: work for a device as an object for scripts: priced, sent once, collected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qhybrid.api.lookup import find_run, folder_of
from qhybrid.api.plan_folders import FINISHED, PlanRequest, Say, find_plan, new_plan, plan_of
from qhybrid.errors import ConfigError, HardwareError
from qhybrid.plugins import near_name

if TYPE_CHECKING:
    import pandas as pd

    from qhybrid.api.run import Run
    from qhybrid.hardware.jobs.execution import PlanExecution
    from qhybrid.hardware.jobs.remapping import Remapped

FilePath = str | Path
Progress = Callable[[int, int], None]


def plan(run: FilePath | Run, *, again: bool = False, say: Say = lambda _: None, **request: Any) -> Plan:
    """Map, check and price a trained model's work on a device; send nothing.

    Args:
        run: The run, its folder, or its name in ./runs.
        again: Make a new plan also where one of this request is there already.
        say: Told what is done.
        **request: Fields of `PlanRequest`, as in `backend="fake_torino"`, `limit=16`, `shots=1024`,
            `mitigation="standard"`, `max_qpu_seconds=60`.

    Returns:
        The plan; the newest one of this request if there is one, so that nothing is paid for twice.

    Raises:
        ConfigError: If a setting is unknown or wrong.
        HardwareError: If the device or its price does not allow the plan.
    """
    names = {field.name: field for field in fields(PlanRequest)}
    for name in request:
        if name not in names:
            raise ConfigError(
                f"Argument `{name}` is not known.{near_name(name, names)} Known ones: {', '.join(names)}."
            )
    folder, asked = find_run(str(folder_of(run))), PlanRequest(**request)
    return Plan(new_plan(folder, asked, say) if again else plan_of(folder, asked, say))


def open_plan(given: FilePath | Run) -> Plan:
    """Return a plan from its folder, or the newest one of a run.

    Raises:
        HardwareError: If there is none.
    """
    return Plan(find_plan(folder_of(given)))


@dataclass(frozen=True)
class PlanResults:
    """What came back.

    Attributes:
        folder: Where it was written.
    """

    folder: Path

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json: obtained and predicted metrics, cost, events."""
        found: dict[str, Any] = json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))
        return found

    @property
    def predictions(self) -> pd.DataFrame:
        """One row a sample: class and truth, or the numbers of labelled and of right pixels."""
        return _table(self.folder / "predictions.csv")

    @property
    def deviations(self) -> pd.DataFrame:
        """One row an observable: deviation from its exact value, with standard errors."""
        return _table(self.folder / "deviations.csv")

    def __getitem__(self, metric: str) -> float:
        return float(self.metrics["obtained"][metric])


@dataclass(frozen=True)
class Plan:
    """Work for a device that is mapped, checked and priced.

    Every method that sends, fetches or stops holds the plan's lock; each of them goes on where a killed
    process stopped, and nothing is sent twice.

    Attributes:
        folder: The plan's folder; a text is taken as its path.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))

    @property
    def content(self) -> dict[str, Any]:
        """The content of plan.json."""
        from qhybrid.hardware.plan.plan_files import read_plan

        return read_plan(self.folder)

    @property
    def qpu_seconds(self) -> float:
        """Time on the device that is predicted, in seconds."""
        return float(self.content["qpu_seconds"])

    @property
    def circuits(self) -> pd.DataFrame:
        """One row a circuit as the device executes it: qubits, gates, depth, length."""
        import pandas as pd

        from qhybrid.hardware.plan.plan_files import circuit_names

        content = self.content
        keys = ("qubits", "copies", "two_qubit_gates", "two_qubit_depth", "microseconds", "parity")
        rows = [{key: one[key] for key in keys} for one in content["circuits"].values()]
        return pd.DataFrame(rows, index=pd.Index(circuit_names(content), name="circuit"))

    @property
    def rounds(self) -> pd.DataFrame:
        """One row a round: parameter sets, jobs, executions, bytes, seconds on the device."""
        import pandas as pd

        keys = ("rows", "points", "jobs", "pubs", "executions", "bytes", "qpu_seconds", "limit_seconds")
        rows = [{key: one[key] for key in keys} for one in self.content["rounds"]]
        return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="round"))

    @property
    def predicted(self) -> pd.DataFrame:
        """One row a metric: exact, with the device's noise, with its noise and these shots."""
        import pandas as pd

        found = self.content["predicted"]
        return pd.DataFrame({key: found[key] for key in ("exact", "device", "device_and_shots")})

    @property
    def results(self) -> PlanResults | None:
        """What came back; None while something is missing."""
        file = self.folder / FINISHED
        return PlanResults(file.parent) if file.is_file() else None

    def status(self) -> dict[str, Any]:
        """Return what the ledger knows; nothing is asked of the service."""
        from qhybrid.hardware.jobs.status import ledger_status

        return ledger_status(self.folder)

    def jobs(self, *, live: bool = True) -> pd.DataFrame:
        """One row a job: its id, state, seconds that were billed, and its place in the queue.

        Args:
            live: Ask the service where jobs stand that have not ended.
        """
        import pandas as pd

        from qhybrid.hardware.jobs.status import job_rows

        columns = ("id", "tag", "chunk", "attempt", "state", "usage", "position", "estimate")
        return pd.DataFrame(job_rows(self.folder, live)[0], columns=list(columns))

    def remap(self, *, say: Say = lambda _: None) -> Remapped:
        """Map what was not sent yet to the device's calibration of today; what was paid stays."""
        from qhybrid.hardware.jobs.remapping import remap

        with execution_of(self.folder, say) as execution:
            return remap(execution)

    def submit(
        self,
        *,
        again: bool = False,
        changed_data: bool = False,
        pilot: bool | None = None,
        max_qpu_seconds: float | None = None,
        say: Say = lambda _: None,
    ) -> int:
        """Send the jobs of the current round, each once.

        Args:
            again: Also jobs that were cancelled or failed.
            changed_data: Go on with the plan's own samples, though the data have changed.
            pilot: Send a small job first and look at its bill and deviations; if absent, where a plan is
                large.
            max_qpu_seconds: A higher cap of the plan, from now on.
            say: Told what is done.

        Returns:
            How many were sent.

        Raises:
            HardwareError: If one failed, or the cap is reached.
        """
        with execution_of(self.folder, say, changed_data) as execution:
            if max_qpu_seconds is not None:
                execution.raise_cap(max_qpu_seconds)
            count = execution.submit(again, pilot)
            execution.check_decisions()
        return count

    def collect(
        self,
        *,
        wait: bool = True,
        changed_data: bool = False,
        say: Say = lambda _: None,
        progress: Progress = lambda *_: None,
    ) -> PlanResults | None:
        """Fetch results; write predictions and metrics once all are there.

        Args:
            wait: Wait until all jobs of the round have ended.
            changed_data: As for `submit`.
            say: Told what is done.
            progress: Told of (jobs done, all of them).

        Returns:
            What came back; None while something is missing.
        """
        with execution_of(self.folder, say, changed_data) as execution:
            outputs = execution.collect(wait, progress)
            execution.check_decisions()
            return _written(execution, outputs)

    def run(
        self,
        *,
        changed_data: bool = False,
        pilot: bool | None = None,
        say: Say = lambda _: None,
        progress: Progress = lambda *_: None,
    ) -> PlanResults | None:
        """Submit and collect, round by round, until predictions are there.

        Args:
            changed_data: As for `submit`.
            pilot: As for `submit`.
            say: Told what is done.
            progress: As for `collect`.

        Returns:
            As for `collect`.
        """
        with execution_of(self.folder, say, changed_data) as execution:
            return _written(execution, execution.run(progress, pilot))

    def cancel(self, *, say: Say = lambda _: None) -> int:
        """Cancel all jobs that have not ended, and return how many; results that are there are kept."""
        with execution_of(self.folder, say, to_cancel=True) as execution:
            return execution.cancel()


@contextmanager
def execution_of(
    folder: Path, say: Say = lambda _: None, changed_data: bool = False, to_cancel: bool = False
) -> Iterator[PlanExecution]:
    """Open a plan for sending and fetching; its folder is locked meanwhile.

    Args:
        folder: The plan's folder.
        say: Told what is done.
        changed_data: Go on with the plan's own samples, though the data have changed.
        to_cancel: Whether jobs are only to be stopped: damaged circuits do not prevent that.
    """
    from qhybrid.hardware.jobs.opening import open_plan as opened
    from qhybrid.hardware.model.runs import check_data, load_workload

    check = None if changed_data else check_data
    with opened(folder, load_workload, say=say, before_sending=check, to_cancel=to_cancel) as execution:
        yield execution


def _written(execution: PlanExecution, outputs: Any) -> PlanResults | None:
    if outputs is None:
        return None
    from qhybrid.hardware.jobs.outcome import RESULTS, write_outcome

    write_outcome(execution, outputs)
    return PlanResults(execution.folder / RESULTS)


def _table(file: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_csv(file)
    except (OSError, ValueError) as error:
        raise HardwareError(f"{file}: must be a table of results, but is not ({error}).") from error
