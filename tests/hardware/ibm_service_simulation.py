"""Results of submitted programs, as the service would write them."""

from __future__ import annotations

import math
import zlib
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
from ibm_quantum_schemas.common import CompressedTensorModel
from ibm_quantum_schemas.executor.version_2_0 import (
    ItemMetadataModel,
    MetadataModel,
    ParamsModel,
    QuantumProgramResultItemModel,
    QuantumProgramResultModel,
)
from ibm_quantum_schemas.executor.version_2_0.models import ChunkPart, ChunkSpan
from ibm_service_learning import is_learning, learn
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel
from qiskit_ibm_runtime import fake_provider
from qiskit_ibm_runtime.fake_provider.executor.run_quantum_program import run_quantum_program
from qiskit_ibm_runtime.options_models.simulator import SimulatorOptions
from qiskit_ibm_runtime.quantum_program.converters import quantum_program_from_2_0
from qiskit_ibm_runtime.quantum_program.converters.converters_2_0 import passthrough_data_to_2_0


@lru_cache
def fake_backend(name: str) -> Any:
    """Return a fake backend by its name."""
    found = [getattr(fake_provider, one) for one in dir(fake_provider) if one.startswith("Fake")]
    return next(one for one in found if getattr(one, "backend_name", None) == name)()


def simulate_ideally(params: dict[str, Any], backend: str) -> str:
    """Run a program without noise."""
    if is_learning(params):
        return learn(params, None, neighbours(backend))
    return _simulate(params, AerSimulator())


def simulate_with_calibration(params: dict[str, Any], backend: str) -> str:
    """Run a program with the noise that Aer makes of the device's calibration."""
    if is_learning(params):
        return learn(params, _noise_model(backend), neighbours(backend))
    return _simulate(params, AerSimulator(noise_model=_noise_model(backend)))


def simulate_upside_down(params: dict[str, Any], backend: str) -> str:
    """Run a program on a device that reads every bit wrongly."""
    model = NoiseModel()
    model.add_all_qubit_readout_error([[0.0, 1.0], [1.0, 0.0]])
    return _simulate(params, AerSimulator(noise_model=model))


def simulate_coin_tosses(params: dict[str, Any], backend: str) -> str:
    """Run a program on a device whose bits say nothing."""
    model = NoiseModel()
    model.add_all_qubit_readout_error([[0.5, 0.5], [0.5, 0.5]])
    return _simulate(params, AerSimulator(noise_model=model))


def executions_of(params: dict[str, Any]) -> int:
    """Return how often the device runs for a program, counted from the program alone."""
    program, _ = quantum_program_from_2_0(ParamsModel.model_validate(params))
    return sum(math.prod(item.shape) * program.shots for item in program.items)


def neighbours(backend: str) -> set[tuple[int, int]]:
    """Return the pairs that a device's two-qubit gates couple, ascending."""
    target = fake_backend(backend).target
    places = (q for name in target.operation_names for q in target[name] or {} if q and len(q) == 2)
    return {(min(pair), max(pair)) for pair in places}


@lru_cache
def _noise_model(backend: str) -> NoiseModel:
    """Aer's model of the calibration, with both read-out errors: Aer itself takes their mean for both."""
    device = fake_backend(backend)
    model = NoiseModel.from_backend(device, readout_error=False)
    properties = device.properties()
    for qubit in range(device.num_qubits):
        report = properties.qubit_property(qubit)
        p01, p10 = report["prob_meas0_prep1"][0], report["prob_meas1_prep0"][0]
        model.add_readout_error([[1 - p10, p10], [p01, 1 - p01]], [qubit])
    return model


def _simulate(params: dict[str, Any], simulator: AerSimulator) -> str:
    model = ParamsModel.model_validate(params)
    program, _ = quantum_program_from_2_0(model)
    for item in program.items:
        if hasattr(item, "samplex"):
            item.samplex.finalize()
    # The angles decide the seed: two jobs of one program agree, different ones do not.
    seed = zlib.crc32(str([item.model_dump() for item in model.quantum_program.items]).encode()) % 2**31
    result = run_quantum_program(simulator, program, SimulatorOptions(seed_simulator=seed))
    now = datetime.now(UTC)
    items, spans = [], []
    for index, item in enumerate(result):
        arrays = {name: np.ascontiguousarray(values) for name, values in item.items()}
        tensors = {name: CompressedTensorModel.from_numpy(values) for name, values in arrays.items()}
        items.append(QuantumProgramResultItemModel(results=tensors, metadata=ItemMetadataModel()))
        part = ChunkPart(idx_item=index, size=1, permutation=[], element_range=(0, 1, 1))
        spans.append(ChunkSpan(start=now, stop=now, parts=[part]))
    return QuantumProgramResultModel(
        data=items,
        metadata=MetadataModel(chunk_timing=spans),
        passthrough_data=passthrough_data_to_2_0(program.passthrough_data),
        semantic_role=model.quantum_program.semantic_role,
    ).model_dump_json()
