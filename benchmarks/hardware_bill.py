"""Price of a plan beside the bill: three models on three devices, sent by the client to the local service.

Run: ``python benchmarks/hardware_bill.py``. The local service of the tests counts executions and seconds
from what it was sent, with code of its own. Nothing is simulated; routing takes most of the minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.devices import load_device
from qhybrid.hardware.circuits.preparation import bound_circuit, prepare_circuit
from qhybrid.hardware.circuits.prepared import PreparedCircuit, Pub
from qhybrid.hardware.circuits.readout_calibration import (
    READOUT_KEY,
    calibration_circuit,
    calibration_pubs,
)
from qhybrid.hardware.ledger import Request
from qhybrid.hardware.model.requests import LayerCircuit
from qhybrid.hardware.model.workload import Samples, Workload
from qhybrid.hardware.plan.prediction import dry_run, exact_answer
from qhybrid.hardware.plan.pricing import round_facts
from qhybrid.hardware.plan.rounds import plan_round
from qhybrid.hardware.services.interface import Package
from qhybrid.hardware.settings import LEVELS, HardwareSettings
from qhybrid.layers import quantum_layers
from qhybrid.models import build_model
from qhybrid.noise import NoiseProfile

DEVICES = ("fake_torino", "fake_fez", "fake_nighthawk")
SHOTS = (65, 100, 1024)
MITIGATIONS = {
    "none": LEVELS["none"],
    "cheap, measured": LEVELS["cheap"].model_copy(update={"readout_shots": 1000}),
    "standard": LEVELS["standard"],
    "strong": LEVELS["strong"],
}
MODELS = {
    "HQ-UNet": {"name": "hq_unet", "patch_size": 32, "grid": 4, "widths": [4, 4, 8, 8, 8]},
    "Qu-Net": {"name": "qu_net", "image_size": [64, 64]},
    "QCQ-CNN": {"name": "qcq_cnn", "image_size": [8, 8]},
}


@dataclass(frozen=True)
class Row:
    """Price and bill of one model on one device."""

    model: str
    device: str
    mitigation: str
    shots: int
    jobs: int
    planned: tuple[int, float]
    billed: tuple[int, float]

    @property
    def ratios(self) -> tuple[float, float]:
        """Executions and seconds of the bill, in those of the plan."""
        return self.billed[0] / self.planned[0], self.billed[1] / self.planned[1]


def workload(model: str, samples: int = 2) -> Workload:
    """Return a model with random weights and images: neither decides a price."""
    torch.manual_seed(0)
    content = {"in_channels": 1, "num_classes": 2, **MODELS[model]}
    size = content["image_size"][0] if "image_size" in content else content["patch_size"]
    images = torch.rand(samples, 1, size, size, generator=torch.Generator().manual_seed(1))
    names = tuple(str(index) for index in range(samples))
    return Workload(build_model(content).eval(), Samples(images, None, names))


class Work:
    """What a model asks of a device, round by round; its circuits are mapped once for every mitigation."""

    def __init__(self, given: Workload) -> None:
        self.layers: dict[str, LayerCircuit] = {}
        self._bound: dict[str, CircuitSpec] = {}
        answer = exact_answer(self._bound)
        self.rounds: tuple[tuple[Request, ...], ...] = dry_run(
            given, tuple(quantum_layers(given.model)), answer, lambda layer, _: self._meet(layer)
        ).rounds

    def _meet(self, layer: LayerCircuit) -> PreparedCircuit:
        self.layers[layer.key], self._bound[layer.key] = layer, bound_circuit(layer)
        return None  # type: ignore[return-value] # nothing is mapped in a dry run of exact values

    def circuits(self, device: str, settings: HardwareSettings) -> dict[str, PreparedCircuit]:
        """Return the circuits on a device."""
        target = load_device(device)
        noise = NoiseProfile.from_backend(target)
        found = {
            key: prepare_circuit(key, bound, target, noise, settings) for key, bound in self._bound.items()
        }
        if settings.mitigation.readout_shots is not None:
            found[READOUT_KEY] = calibration_circuit(found.values(), target, noise, settings)[1]
        return found


def rows(
    models: list[str], devices: list[str], mitigations: list[str], shots: list[int], samples: int = 2
) -> Iterator[Row]:
    """Yield price and bill of every combination; the environment must lead the client to a local service."""
    from ibm_service_bill import bill_of
    from ibm_service_server import IbmServiceServer
    from ibm_service_state import ServiceState

    from qhybrid.hardware.services.ibm import IbmService

    state = ServiceState({f"ibm_{name.removeprefix('fake_')}": name for name in devices}, bill=bill_of)
    state.used_up = True  # jobs are accepted and priced, and none is simulated
    work = {model: Work(workload(model, samples)) for model in models}
    with IbmServiceServer(state) as server:
        os.environ.update(server.environment("local-token"), USAGE_DATA_OPT_OUT="True")
        for device in devices:
            for level in mitigations:
                mapped: dict[str, dict[str, PreparedCircuit]] = {}
                for count in shots:
                    settings = HardwareSettings(
                        backend=f"ibm_{device.removeprefix('fake_')}",
                        shots=count,
                        copies=1,
                        layouts=1,
                        mode="job",
                        mitigation=MITIGATIONS[level],
                    )
                    service = IbmService(settings)
                    for model in models:
                        if model not in mapped:
                            mapped[model] = work[model].circuits(device, settings)
                        yield _row(model, device, level, work[model], mapped[model], settings, service, state)


def _row(model, device, level, work, circuits, settings, service, state) -> Row:  # type: ignore[no-untyped-def]
    """Send all jobs of a model and return what they were priced and billed."""
    known: dict[int, tuple[str, object]] = {}
    planned, jobs, billed = [0, 0.0], 0, [0, 0.0]
    for number, requests in enumerate(work.rounds):
        found = plan_round(number, requests, known, jobs, circuits, settings)  # type: ignore[arg-type]
        known |= {index: (key, angles) for index, key, angles in found.points}
        facts = round_facts(found, circuits, settings)
        planned[0] += facts["executions"]
        planned[1] += sum(chunk.seconds for chunk in found.chunks)
        for chunk in found.chunks:
            pubs = [
                Pub(circuits[key], variant, _points(known, numbers))
                for key, numbers in chunk.blocks
                for variant in range(len(circuits[key].variants))
            ]
            package = Package((*pubs, *calibration_pubs(circuits, settings)), settings.shots, ("bill",))
            job = state.jobs[service.submit(package)]
            executions, job.seconds = state.bill(job.params, state.devices[job.backend])
            job.executions = 1
            job.status = "Completed"
            billed[0] += executions
            billed[1] += service.usage(job.id)
            jobs += 1
    return Row(model, device, level, settings.shots, jobs, tuple(planned), tuple(billed))


def _points(known, numbers):  # type: ignore[no-untyped-def]
    import numpy as np

    return np.stack([known[number][1] for number in numbers])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="*", default=list(MODELS))
    parser.add_argument("--device", nargs="*", default=list(DEVICES))
    parser.add_argument("--mitigation", nargs="*", default=list(MITIGATIONS))
    parser.add_argument("--shots", nargs="*", type=int, default=list(SHOTS))
    parser.add_argument("--samples", type=int, default=2)
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "hardware"))
    heads = ("model", "device", "mitigation", "shots", "jobs", "executions", "billed", "seconds", "billed")
    print("| " + " | ".join(heads) + " | executions, bill / plan | seconds, bill / plan |")
    print("|" + "---|" * (len(heads) + 2))
    worst = 0.0
    for row in rows(options.model, options.device, options.mitigation, options.shots, options.samples):
        executions, seconds = row.ratios
        worst = max(worst, abs(executions - 1), abs(seconds - 1))
        cells = (row.model, row.device, row.mitigation, row.shots, row.jobs, f"{row.planned[0]:,}")
        more = (f"{row.billed[0]:,}", f"{row.planned[1]:.3f}", f"{row.billed[1]:.3f}")
        print("| " + " | ".join(map(str, (*cells, *more, f"{executions:.4f}", f"{seconds:.4f}"))) + " |")
        sys.stdout.flush()
    print(f"\nlargest difference: {100 * worst:.3f} %")


if __name__ == "__main__":
    main()
