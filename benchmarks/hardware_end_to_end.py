"""Three models from a plan to their results on three fake devices: plan, jobs, bill, results.

Run: ``python benchmarks/hardware_end_to_end.py``. Twice: through IBM's own client and the local service of
the tests, which runs what it was sent with Aer and the noise of the device's calibration, and on our fake
device (``--backend fake_torino``), which draws shots around exact noisy values. The two share the plan and
the reading of results, and no simulation. Random weights; both layers of QCQ-CNN are on the device.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hardware_bill import MODELS

from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.model.workload import Samples, Workload
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.settings import LEVELS, HardwareSettings
from qhybrid.layers import quantum_layers
from qhybrid.models import build_model

DEVICES = ("torino", "fez", "nighthawk")
WAYS = ("service", "fake")


def workload(model: str, samples: int) -> Workload:
    """Return a model with random weights, and images that it tells apart."""
    torch.manual_seed(0)
    content = {"in_channels": 1, "num_classes": 2, **MODELS[model]}
    size = content["image_size"][0] if "image_size" in content else content["patch_size"]
    built = build_model(content)
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():  # statistics of the norms: without them all samples look alike
        for _ in range(20):
            built.train()(torch.rand(8, 1, size, size, generator=random))
    images = torch.rand(samples, 1, size, size, generator=random)
    return Workload(built.eval(), Samples(images, None, tuple(map(str, range(samples)))))


def outcome(given: Workload, settings: HardwareSettings) -> dict[str, Any]:
    """Return what came back of a plan, its rounds, and of how many samples there are numbers."""
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(given, settings, folder)
        with open_plan(plan, lambda *_: given) as execution:
            outputs = execution.run()
            found = write_outcome(execution, outputs)
            rounds = execution.content["rounds"]
    finite = int(outputs.isfinite().flatten(1).all(dim=1).sum())
    return {**found, "rounds": rounds, "finite": finite}


def rows(
    models: list[str], devices: list[str], ways: list[str], level: str, shots: int, samples: int
) -> Iterator[str]:
    """Yield the rows of the table; the environment leads the client to the local service."""
    from ibm_service_bill import bill_of
    from ibm_service_server import IbmServiceServer
    from ibm_service_simulation import simulate_with_calibration
    from ibm_service_state import ServiceState

    state = ServiceState(
        {f"ibm_{one}": f"fake_{one}" for one in devices}, bill=bill_of, simulate=simulate_with_calibration
    )
    with IbmServiceServer(state) as server:
        os.environ.update(server.environment("local-token"), USAGE_DATA_OPT_OUT="True")
        for model in models:
            given = workload(model, samples)
            layers = tuple(quantum_layers(given.model))
            for device in devices:
                for way in ways:
                    settings = HardwareSettings(
                        backend=f"{'ibm' if way == 'service' else 'fake'}_{device}",
                        shots=shots,
                        copies=1,
                        layouts=1,
                        mode="job",
                        layers=layers,
                        mitigation=LEVELS[level],
                    )
                    yield row(model, device, way, outcome(given, settings))


def row(model: str, device: str, way: str, found: dict[str, Any]) -> str:
    """Return what one plan cost and gave, as a row of the table."""
    assert found["finite"] == found["samples"]
    status = found["status"]
    executions = sum(one["executions"] for one in found["rounds"])
    cells = (
        model,
        f"fake_{device}",
        {"service": "client, Aer", "fake": "fake, exact"}[way],
        f"{executions:,}",
        f"{status['qpu_seconds_planned']:.2f}",
        f"{status['qpu_seconds_billed']:.2f}" if way == "service" else "",
        f"{found['observable_deviation_rms']:.4f}",
        f"{found['observable_error_rms']:.4f}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", nargs="*", default=list(MODELS))
    parser.add_argument("--device", nargs="*", default=list(DEVICES))
    parser.add_argument("--way", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument("--mitigation", default="cheap", choices=list(LEVELS))
    parser.add_argument("--shots", type=int, default=256)
    parser.add_argument("--samples", type=int, default=2)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "hardware"))
    heads = ("model", "device", "by", "executions", "s planned", "s billed", "deviation", "of shots")
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|", flush=True)
    for line in rows(
        options.model, options.device, options.way, options.mitigation, options.shots, options.samples
    ):
        print(line, flush=True)


if __name__ == "__main__":
    main()
