"""A plan's prediction beside Aer, which shares no code with it: trajectories of the circuits that are sent.

Run: ``python benchmarks/hardware_prediction.py RUN --backend fake_torino --limit 16``. The sent circuits are
cut to the used qubits and run under the noise that Aer makes of the same calibration (with both read-out
errors; Aer's own model takes their mean for both). Compared are all expectation values, the model's logits,
and the accuracy with that of joint draws. Aer takes about 10 s a sample, basis and 256 shots on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from qiskit import ClassicalRegister, QuantumCircuit
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel

from qhybrid.hardware.circuits.decoding import Estimates, estimates_from
from qhybrid.hardware.circuits.prepared import REGISTER, PreparedCircuit, Pub
from qhybrid.hardware.circuits.simulation import Simulation
from qhybrid.hardware.model.runs import workload_of_run
from qhybrid.hardware.model.workload import Workload, agreement, score
from qhybrid.hardware.plan.planning import Draft, draft_plan
from qhybrid.hardware.plan.prediction import Answer, dry_run, expected_answer
from qhybrid.hardware.settings import LEVELS, HardwareSettings
from qhybrid.workspace import write_text

Array = NDArray[np.float64]
DRAWS = 20
SIMULATION = Simulation()


def cut(circuit: QuantumCircuit, physical: tuple[int, ...]) -> QuantumCircuit:
    """Return a sent circuit on its used qubits only, in their order."""
    place = {qubit: index for index, qubit in enumerate(physical)}
    result = QuantumCircuit(len(physical))
    result.add_register(ClassicalRegister(len(circuit.clbits), REGISTER))
    for one in circuit.data:
        qubits = [place[circuit.find_bit(qubit).index] for qubit in one.qubits]
        result.append(one.operation, qubits, [circuit.find_bit(bit).index for bit in one.clbits])
    return result


def cut_noise(backend: str, physical: tuple[int, ...]) -> NoiseModel:
    """Return Aer's model of a fake backend's calibration on some qubits."""
    from qiskit_ibm_runtime import fake_provider

    class_name = "Fake" + backend.removeprefix("fake_").title().replace("_", "")
    device = getattr(fake_provider, class_name)()
    whole = NoiseModel.from_backend(device, readout_error=False)
    place = {qubit: index for index, qubit in enumerate(physical)}
    result = NoiseModel(basis_gates=whole.basis_gates)
    for name, errors in whole._local_quantum_errors.items():
        for qubits, error in errors.items():
            if set(qubits) <= set(physical):
                result.add_quantum_error(error, [name], [place[qubit] for qubit in qubits])
    properties = device.properties()
    for qubit, index in place.items():
        report = properties.qubit_property(qubit)
        p01, p10 = report["prob_meas0_prep1"][0], report["prob_meas1_prep0"][0]
        result.add_readout_error([[1 - p10, p10], [p01, 1 - p01]], [index])
    return result


def aer_bits(
    circuit: PreparedCircuit, variant: int, points: Array, noise: NoiseModel, shots: int, threads: int
) -> NDArray[np.bool_]:
    """Return measured bits, shape (B, shots, n), of one basis."""
    physical = circuit.copies[0].physical
    measured = cut(circuit.measured(variant), physical)
    names = circuit.parameters(0)
    used = [index for index, name in enumerate(names) if name in measured.parameters]
    bound = [
        measured.assign_parameters({names[index]: row[index] for index in used})
        for row in Pub(circuit, variant, points).values
    ]
    simulator = AerSimulator(noise_model=noise, method="statevector", max_parallel_threads=threads)
    job = simulator.run(bound, shots=shots, memory=True, seed_simulator=1000 + variant, optimization_level=0)
    result = job.result()
    rows = [[list(map(int, text[::-1])) for text in result.get_memory(index)] for index in range(len(bound))]
    return np.asarray(rows, dtype=bool)


class AerAnswer:
    """Answers as the device would, by Aer; keeps estimates and what the plan expects beside them."""

    def __init__(self, draft: Draft, settings: HardwareSettings, noise: NoiseModel, threads: int) -> None:
        self._draft, self._settings, self._noise, self._threads = draft, settings, noise, threads
        self._expected = expected_answer(draft.circuits, settings, None, SIMULATION)
        self.found: list[tuple[Estimates, Array, Array]] = []
        self.seconds = 0.0

    def __call__(self, key: str, points: Array) -> Array:
        """Return observables, shape (B, n_obs)."""
        circuit, settings = self._draft.circuits[key], self._settings
        start = time.perf_counter()
        bits = [
            aer_bits(circuit, index, points, self._noise, settings.shots, self._threads)
            for index in range(len(circuit.variants))
        ]
        self.seconds += time.perf_counter() - start
        estimates = estimates_from(circuit, len(points), bits, settings)
        coefficients, offsets = circuit.strings.coefficients, circuit.strings.offsets
        measured = np.asarray(estimates.means @ coefficients.T + offsets)
        self.found.append((estimates, measured, self._expected(key, points)))
        return measured


def compare(
    workload: Workload, settings: HardwareSettings, draft: Draft, noise: NoiseModel, threads: int
) -> dict[str, float]:
    """Return all figures of one mitigation level."""
    layers = draft.content["layers"]
    aer = AerAnswer(draft, settings, noise, threads)
    obtained = dry_run(workload, layers, aer, lambda *_: None).outputs

    def outputs(answer: Answer) -> torch.Tensor:
        return dry_run(workload, layers, answer, lambda *_: None).outputs

    def expected(shots: int | None, seed: int) -> torch.Tensor:
        return outputs(expected_answer(draft.circuits, settings, shots, SIMULATION, seed))

    average = expected(None, 0)
    drawn = [expected(settings.shots, 1 + seed) for seed in range(DRAWS)]
    deviation = np.concatenate([measured - wanted for _, measured, wanted in aer.found])
    errors = np.concatenate([estimates.errors for estimates, _, _ in aer.found])
    scores = deviation / errors
    accuracies = np.array([score(one, workload.samples)["accuracy"] for one in drawn])
    same = np.array([agreement(one, average) for one in drawn])
    logits = [float((one - average).square().mean().sqrt()) for one in drawn]
    return {
        "samples": len(obtained),
        "shots": settings.shots,
        "aer_seconds": aer.seconds,
        "expectations": deviation.size,
        "expectations_deviation_rms": float(np.sqrt((deviation**2).mean())),
        "expectations_error_rms": float(np.sqrt((errors**2).mean())),
        "z_mean": float(scores.mean()),
        "z_rms": float(np.sqrt((scores**2).mean())),
        "z_largest": float(np.abs(scores).max()),
        "z_largest_of_an_observable": float(np.abs(scores.sum(axis=0)).max() / np.sqrt(len(scores))),
        "logits_deviation_rms_aer": float((obtained - average).square().mean().sqrt()),
        "logits_deviation_rms_draws": float(np.mean(logits)),
        "logits_deviation_std_of_draws": float(np.std(logits)),
        "accuracy_aer": score(obtained, workload.samples)["accuracy"],
        "accuracy_average": score(average, workload.samples)["accuracy"],
        "accuracy_draws_mean": float(accuracies.mean()),
        "accuracy_draws_std": float(accuracies.std(ddof=1)),
        "same_class_as_average_aer": agreement(obtained, average),
        "same_class_as_average_draws": float(same.mean()),
        "same_class_as_average_draws_std": float(same.std(ddof=1)),
    }


def main() -> None:
    """Print and write the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder of a trained model")
    parser.add_argument("--backend", default="fake_torino")
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--shots", type=int, default=256)
    parser.add_argument("--mitigation", choices=sorted(LEVELS), default="none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args()
    settings = HardwareSettings(
        backend=options.backend, shots=options.shots, copies=1, mitigation=LEVELS[options.mitigation]
    )
    workload = workload_of_run(options.run, limit=options.limit)
    draft = draft_plan(workload, settings)
    (circuit,) = draft.circuits.values()
    noise = cut_noise(options.backend, circuit.copies[0].physical)
    found = {
        "backend": options.backend,
        "mitigation": options.mitigation,
        **compare(workload, settings, draft, noise, options.threads),
    }
    text = json.dumps(found, indent=2)
    print(text)
    if options.output is not None:
        write_text(options.output, text + "\n")


if __name__ == "__main__":
    main()
