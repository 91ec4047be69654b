"""Fake devices and simulators as a service: jobs are files, so that other processes find them."""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from qhybrid.devices import load_device
from qhybrid.errors import HardwareError, ServiceError
from qhybrid.hardware.circuits.fractional import with_assumed_gates, without_fractional_gates
from qhybrid.hardware.circuits.readout_calibration import READOUT_KEY
from qhybrid.hardware.circuits.simulation import Simulation
from qhybrid.hardware.pub_results import means_text
from qhybrid.hardware.services.interface import DONE, Backend, JobService, Listed, Package, View
from qhybrid.hardware.settings import HardwareSettings
from qhybrid.noise import NoiseProfile
from qhybrid.workspace import write_text

SIMULATOR = "aer"
JOBS_FOLDER = "jobs"


def local_backend(settings: HardwareSettings) -> Backend:
    """Return a fake device with its calibration, or the simulator without a device.

    Raises:
        ConfigError: If there is no such fake device.
        HardwareError: If fractional gates are wanted of a simulator, or a fake device cannot have any.
    """
    if settings.backend == SIMULATOR and settings.use_fractional_gates:
        raise HardwareError(
            f"Setting `use_fractional_gates` must be for a device, but {SIMULATOR} executes all gates as "
            "they are. Fix: leave it out."
        )
    if settings.backend == SIMULATOR:
        return Backend(None, None)
    device = load_device(settings.backend)
    wanted = settings.use_fractional_gates
    device = with_assumed_gates(device) if wanted else without_fractional_gates(device)
    return Backend(device, NoiseProfile.from_backend(device))


def local_service(settings: HardwareSettings, folder: Path) -> LocalService:
    """Return what executes the jobs of a plan here; they are files in the plan's folder."""
    simulator = "aer" if settings.backend == SIMULATOR else settings.simulator
    return LocalService(folder / JOBS_FOLDER, simulator, settings.seed)


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
        everything = b"".join(pub.points.tobytes() for pub in package.pubs)
        for number, pub in enumerate(package.pubs):
            # The angles decide the shots, not the job: a plan gives the same results again. What measures
            # read-out errors has none and is repeated, so there all of the job decides.
            is_repeated = pub.circuit.key == READOUT_KEY
            content = zlib.crc32(everything, number) if is_repeated else zlib.crc32(pub.points.tobytes())
            found = self._simulation.means(pub, package.shots, self._seed, "local", pub.variant, content)
            pubs.append(found)
        job_id = f"local-{uuid.uuid4().hex[:16]}"
        self._folder.mkdir(parents=True, exist_ok=True)
        # The job exists once its tags do, so the result comes first.
        write_text(self._result(job_id), means_text(pubs, package.mark))
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
