"""Read-out errors that a job measures itself, against those of the plan's day, on a device that has drifted.

Run: ``python benchmarks/readout_drift.py``. HQ-UNet's circuit on a fake device whose read-out errors are
`--drift` times those of its calibration when the jobs run. Printed: the root mean square of the deviations of
all observables from their exact values, for both, and what shots alone would give.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace

import torch

from qhybrid.hardware.circuits.prepared import Copy, PreparedCircuit
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.model.workload import Samples, Workload
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.services.interface import Package
from qhybrid.hardware.services.local import LocalService
from qhybrid.hardware.settings import HardwareSettings, Mitigation
from qhybrid.models import build_model
from qhybrid.noise import QubitNoise


def drifted(circuit: PreparedCircuit, factor: float) -> PreparedCircuit:
    """Return a circuit on qubits whose read-out errors are `factor` times those of their calibration."""

    def moved(copy: Copy) -> Copy:
        assert copy.noise is not None
        qubits = dict(copy.noise.qubits)
        for index in range(len(copy.physical)):
            p01, p10 = (min(0.45, factor * rate) for rate in copy.noise.readout(index))
            own = qubits.get(index, QubitNoise())
            qubits[index] = own.model_copy(update={"readout_p01": p01, "readout_p10": p10})
        return replace(copy, noise=copy.noise.model_copy(update={"qubits": qubits}))

    return replace(circuit, copies=tuple(moved(copy) for copy in circuit.copies))


class DriftedService(LocalService):
    """A fake device whose read-out errors have changed since its calibration."""

    factor = 1.0

    def submit(self, package: Package) -> str:
        """Execute a job on the device as it is now."""
        pubs = tuple(replace(pub, circuit=drifted(pub.circuit, self.factor)) for pub in package.pubs)
        return super().submit(replace(package, pubs=pubs))


def workload(samples: int, grid: int) -> Workload:
    """Return HQ-UNet with random weights, and random images."""
    torch.manual_seed(0)
    content = {"name": "hq_unet", "in_channels": 2, "num_classes": 3, "patch_size": 8 * grid, "grid": grid}
    model = build_model({**content, "widths": [4, 4, 8, 8, 8]})
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():  # statistics of the norms: without them all samples look alike
        for _ in range(20):
            model.train()(torch.randn(16, 2, 8 * grid, 8 * grid, generator=random))
    images = torch.randn(samples, 2, 8 * grid, 8 * grid, generator=random)
    return Workload(model.eval(), Samples(images, None, tuple(map(str, range(samples)))))


def rows(
    backend: str, drift: float, shots: int, samples: int, grid: int, readout_shots: int
) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yield the kind of rates, executions and deviations of both kinds."""
    given = workload(samples, grid)
    kinds = {"plan's day": Mitigation(), "in the job": Mitigation(readout_shots=readout_shots)}
    for name, mitigation in kinds.items():
        settings = HardwareSettings(backend=backend, shots=shots, copies=1, layouts=1, mitigation=mitigation)
        with tempfile.TemporaryDirectory() as folder:
            plan = make_plan(given, settings, folder)
            executions = json.loads((plan / "plan.json").read_text())["rounds"][0]["executions"]
            service = DriftedService(plan / "jobs")
            service.factor = drift
            with open_plan(plan, lambda *_: given, service) as execution:
                found = write_outcome(execution, execution.run())
        yield name, executions, found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="fake_torino")
    parser.add_argument("--drift", type=float, default=2.0)
    parser.add_argument("--shots", type=int, default=4096)
    parser.add_argument("--readout-shots", type=int, default=16384)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--grid", type=int, default=4, help="4: 16 qubits")
    options = parser.parse_args()
    print("| read-out errors of | executions | rms deviation of observables | by shots alone |")
    print("|---|---|---|---|")
    arguments = (options.backend, options.drift, options.shots, options.samples, options.grid)
    for name, executions, found in rows(*arguments, options.readout_shots):
        shown = (found[key] for key in ("observable_deviation_rms", "observable_error_rms"))
        print(f"| {name} | {executions:,} | " + " | ".join(f"{one:.4f}" for one in shown) + " |")


if __name__ == "__main__":
    main()
