"""Fake devices and simulators as a service: jobs are files, so that other processes find them."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from qhybrid.errors import ServiceError
from qhybrid.hardware.circuits.decoding import MEANS_FORMAT
from qhybrid.hardware.circuits.simulation import Simulation
from qhybrid.hardware.services.interface import DONE, JobService, Listed, Package, View
from qhybrid.workspace import write_text


class LocalService(JobService):
    """Executes jobs when they are submitted.

    Args:
        folder: Where the jobs' files go.
        simulator: `exact` draws shots jointly around exact values under the device's noise; `aer` runs
            Aer's trajectories.
        seed: Decides the shots, together with the angles.
    """

    paid = False
    marks = True

    def __init__(
        self, folder: str | Path, simulator: Literal["exact", "aer"] = "exact", seed: int = 0
    ) -> None:
        self._folder, self._seed = Path(folder), seed
        self._simulation = Simulation(simulator)

    def submit(self, package: Package) -> str:
        """Execute a job and write its result, whole or not at all."""
        pubs = []
        for pub in package.pubs:
            # The angles decide the shots, not the job: a plan gives the same results again.
            content = zlib.crc32(pub.points.tobytes())
            found = self._simulation.means(pub, package.shots, self._seed, "local", pub.variant, content)
            pubs.append({"means": [means.tolist() for means in found]})
        job_id = f"local-{uuid.uuid4().hex[:16]}"
        self._folder.mkdir(parents=True, exist_ok=True)
        result = {"format": MEANS_FORMAT, "pubs": pubs, "mark": package.mark}
        # The job exists once its tags do, so the result comes first.
        write_text(self._result(job_id), json.dumps(result))
        write_text(self._folder / f"{job_id}.json", json.dumps({"tags": package.tags}))
        return job_id

    def find(self, tag: str) -> Sequence[Listed]:
        """Return the jobs that carry a tag, oldest first."""
        files = sorted(self._folder.glob("local-*.json"), key=lambda file: file.stat().st_mtime_ns)
        found = [Listed(file.stem, tuple(self._read(file.stem)["tags"])) for file in files]
        return [one for one in found if tag in one.tags]

    def view(self, job_id: str) -> View:
        """Return that a job is done: it ran when it was submitted."""
        self._read(job_id)
        return View(DONE)

    def result_text(self, job_id: str) -> str:
        """Return a job's result."""
        try:
            return self._result(job_id).read_text(encoding="utf-8")
        except OSError as error:
            raise ServiceError(
                f"{self._result(job_id)} must hold a result, but: {error}. Fix: plan again, which costs "
                "nothing."
            ) from error

    def cancel(self, job_id: str) -> bool:
        """Return False: it ran when it was submitted."""
        return False

    def _result(self, job_id: str) -> Path:
        return self._folder / f"result-{job_id}.json"

    def _read(self, job_id: str) -> Any:
        file = self._folder / f"{job_id}.json"
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ServiceError(
                f"{file} must hold a job of a fake device, but cannot be read: {error}. Fix: plan again, "
                "which costs nothing."
            ) from error
