"""Devices as an engine: one blocking job a call.

For trying things out and for parameter-shift gradients. Whole models run through plans (`make_plan`), which
cost less, survive crashes and never pay twice.
"""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qhybrid.circuits.spec import CircuitSpec
from qhybrid.engine_kinds import check_count, check_seed
from qhybrid.engines.aer.circuit import angle_circuit
from qhybrid.engines.base import Engine, attached, check_arguments, empty_result, ordinary_tensors
from qhybrid.engines.gates.angle_table import AngleTable
from qhybrid.engines.parameter_shift import shifted_expectations, wanted_angles
from qhybrid.errors import HardwareError
from qhybrid.hardware.circuits.decoding import decode_chunk, observables_from
from qhybrid.hardware.circuits.preparation import prepare_circuit
from qhybrid.hardware.circuits.prepared import PreparedCircuit
from qhybrid.hardware.circuits.readout_calibration import READOUT_KEY, calibration_circuit
from qhybrid.hardware.jobs.collecting import collect_jobs
from qhybrid.hardware.jobs.context import JobContext
from qhybrid.hardware.jobs.results import blocks_of
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.ledger import LEDGER_FILE, Ledger, Request
from qhybrid.hardware.model.requests import LayerCircuit
from qhybrid.hardware.plan.rounds import plan_round
from qhybrid.hardware.service_kinds import rules_of
from qhybrid.hardware.services.backends import make_service, open_backend
from qhybrid.hardware.services.interface import Backend
from qhybrid.hardware.settings import HardwareSettings


class RuntimeEngine(Engine):
    """Expectation values from a fake or real device.

    Args:
        backend: `fake_torino` or another fake backend, `aer`, or a device of the service.
        shots: Executions of every measured circuit and parameter set; None for those of the settings.
        seed: Of layouts and simulated shots.
        folder: Where the ledger of each call goes; a temporary folder if absent, which is enough for fakes.
        settings: Everything else; its cap covers all calls of this engine together.

    Raises:
        ConfigError: If there is no such fake device.
        HardwareError: If the account or the device is not usable, or a real device is used without `folder`.
    """

    kind = "runtime"

    def __init__(
        self,
        backend: str,
        shots: int | None = 1024,
        seed: int | None = 0,
        folder: str | Path | None = None,
        settings: HardwareSettings | None = None,
    ) -> None:
        plain = settings or HardwareSettings(backend=backend)
        given = {"shots": check_count(shots) or plain.shots, "seed": check_seed(seed)}
        self._settings = plain.model_copy(update={"backend": backend, **given})
        if self._settings.mitigation.pea and rules_of(self._settings).learns:
            raise HardwareError(
                f"Mitigation `pea` on {backend} learns the noise once for a whole plan, but every call of an "
                "engine is a plan of its own. Fix: another mitigation, or `qhybrid hardware plan`."
            )
        self._temporary = None if folder is not None else tempfile.TemporaryDirectory(prefix="qhybrid-")
        self._folder = Path(folder) if folder is not None else Path(self._temporary.name)  # type: ignore[union-attr]
        self._backend: Backend = open_backend(self._settings)
        self._service = make_service(self._settings, self._folder)
        if self._service.paid and folder is None:
            raise HardwareError(
                f"Device {backend} costs time, so results must be kept, but there is no `folder`. Fix: "
                "make_engine('runtime', backend=..., folder='runs/...')."
            )
        self._seconds = 0.0
        self._prepared: dict[str, tuple[CircuitSpec, PreparedCircuit, AngleTable, list[Any]]] = {}

    def expectations(self, spec: CircuitSpec, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return the expectation values of all observables, shape (B, n_obs); see `Engine.expectations`."""
        check_arguments(spec, inputs, weights)
        if not len(inputs):
            return empty_result(spec, inputs, weights)
        prepared, table, angles = self._prepare(spec)
        rows = inputs.to(device="cpu", dtype=torch.float64).t()
        values = table.batched(rows, weights.to(device="cpu", dtype=torch.float64))
        moved = wanted_angles(angles, inputs, weights)
        found = shifted_expectations(values, moved, lambda points: self._execute(prepared, points.t()).t())
        return attached(found.t().to(device=inputs.device, dtype=inputs.dtype), inputs, weights)

    def describe(self) -> dict[str, Any]:
        """Return kind and settings."""
        return {"kind": self.kind, **self._settings.model_dump(mode="json")}

    def _prepare(self, spec: CircuitSpec) -> tuple[PreparedCircuit, AngleTable, list[Any]]:
        """Return the mapped circuit with one parameter an angle: shifted angles need no new circuit."""
        if spec.fingerprint not in self._prepared:
            circuit, parameters, angles = angle_circuit(spec, None, ())
            plain = replace(spec, circuit=circuit, input_params=tuple(parameters), weight_params=())
            key = LayerCircuit.of(plain, torch.empty(0)).key
            device, noise = self._backend.device, self._backend.noise
            prepared = prepare_circuit(key, plain, device, noise, self._settings)
            with ordinary_tensors():
                like = torch.empty(0, dtype=torch.float64)
                table = AngleTable(angles, spec.num_inputs, spec.num_weights, like)
            self._prepared[spec.fingerprint] = (plain, prepared, table, angles)
        _, prepared, table, angles = self._prepared[spec.fingerprint]
        return prepared, table, angles

    def _execute(self, prepared: PreparedCircuit, points: Tensor) -> Tensor:
        """Return observables, shape (N, n_obs), for angles of shape (N, K), by one plan of one round."""
        circuits = {prepared.key: prepared}
        device, noise = self._backend.device, self._backend.noise
        if self._settings.mitigation.readout_shots is not None and noise is not None:
            circuits[READOUT_KEY] = calibration_circuit([prepared], device, noise, self._settings)[1]
        request = Request(0, "layer", 0, prepared.key, points.numpy().copy())
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{self._settings.backend}-call-{uuid.uuid4().hex[:12]}"
        with Ledger(self._folder / LEDGER_FILE, name) as ledger:
            ledger.begin()
            found = plan_round(0, [request], {}, 0, circuits, self._settings)
            ledger.add_round(found.requests, found.points, found.chunks)
            context = JobContext(
                ledger, self._service, circuits, self._settings, earlier_seconds=self._seconds
            )
            try:
                while any(chunk.state == "open" for chunk in ledger.chunks()):
                    send_open_chunks(context)
                    collect_jobs(context)
            finally:
                self._seconds += ledger.committed_seconds()
            values: dict[int, Any] = {}
            raw = ledger.results()
            for chunk in ledger.chunks():
                if chunk.number not in raw:
                    raise HardwareError(f"Chunk {chunk.number} ended as `{chunk.state}`. Fix: call again.")
                decoded = decode_chunk(raw[chunk.number], blocks_of(context, chunk), self._settings)
                for (_, numbers), one in zip(chunk.blocks, decoded, strict=True):
                    values.update(zip(numbers, observables_from(prepared, one.means)))
        order = found.requests[0].points
        return torch.as_tensor([values[number].tolist() for number in order], dtype=torch.float64)
