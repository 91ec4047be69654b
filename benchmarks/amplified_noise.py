"""How far observables are from their exact values with each mitigation, by calibration and end to end.

Run: ``python benchmarks/amplified_noise.py``: three models on a fake device, by its calibration: what is left
on average, and with shots. ``--small``: a circuit of 4 qubits through the client and the local service of the
tests, which simulates twirled gates with Aer and learns from what it simulates, with errors of the shots that
are asked for; minutes. ``--learning``: how near that comes to the noise that is there, by numbers of shots.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from hardware_bill import MODELS, Work, workload

from qhybrid.devices import load_device
from qhybrid.hardware.circuits.noise_layers import checked_noise
from qhybrid.hardware.circuits.simulation import Simulation
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.outcome import write_outcome
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.plan.prediction import exact_answer, expected_answer
from qhybrid.hardware.services.ibm.learning import learning_instructions
from qhybrid.hardware.services.ibm.rules import RULES
from qhybrid.hardware.settings import LEVELS, HardwareSettings, Learning, Mitigation, mitigation_of

KINDS = {
    "none": LEVELS["none"],
    "readout": LEVELS["cheap"],
    "readout_zne": mitigation_of("readout_zne"),
    "pea": LEVELS["pea"],
    "pea, factors 1 and 2": LEVELS["pea"].model_copy(update={"pea": (1.0, 2.0)}),
}


def _rms(values: list[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.concatenate([one.ravel() for one in values]) ** 2)))


def predicted(model: str, device: str, shots: int, points: int) -> Iterator[tuple[str, float, float]]:
    """Yield mitigation, and what deviations are on average and with shots, by the calibration."""
    work = Work(workload(model, 4))
    exact = exact_answer(work._bound)
    angles: dict[str, np.ndarray] = {}
    for requests in work.rounds:
        for request in requests:
            found = [*([angles[request.circuit]] if request.circuit in angles else []), request.angles]
            angles[request.circuit] = np.unique(np.concatenate(found), axis=0)[:points]
    for name, mitigation in KINDS.items():
        settings = HardwareSettings(backend=device, shots=shots, copies=1, layouts=4, mitigation=mitigation)
        circuits = work.circuits(device, settings)
        parts = []
        for count in (None, shots):
            answer = expected_answer(circuits, settings, count, Simulation())
            parts.append(_rms([answer(key, rows) - exact(key, rows) for key, rows in angles.items()]))
        yield name, parts[0], parts[1]


def through_the_service(
    device: str, shots: int, versions: int, samples: int
) -> Iterator[tuple[str, float, float]]:
    """Yield mitigation, deviations of the small circuit as they came back, and their error bars."""
    from ibm_service_server import IbmServiceServer
    from ibm_service_simulation import simulate_with_calibration
    from ibm_service_state import ServiceState
    from plan_cases import map_workload, quick

    state = ServiceState(devices={"ibm_small": device}, simulate=simulate_with_calibration)
    given = map_workload(samples)
    with IbmServiceServer(state) as server, tempfile.TemporaryDirectory() as folder:
        os.environ |= {**server.environment("token"), "USAGE_DATA_OPT_OUT": "True"}
        for name, mitigation in through().items():
            more: dict[str, int] = {"randomizations": versions} if mitigation.gate_twirling else {}
            more |= {"readout_shots": 16 * shots} if mitigation.readout else {}
            settings = quick(
                backend="ibm_small", mode="job", shots=shots, mitigation=mitigation.model_copy(update=more),
                pilot={"above_s": 1e6},
            )  # fmt: skip
            plan = make_plan(given, settings, Path(folder) / name.replace(" ", "-"))
            with open_plan(plan, lambda *_: given) as execution:
                found = write_outcome(execution, execution.run())
            yield name, found["observable_deviation_rms"], found["observable_error_rms"]


def learned(model: str, device: str) -> Iterator[tuple[Learning, float, float, float, float]]:
    """Yield numbers of a learning, its QPU seconds, and how near it comes, over X, Y and Z of every qubit.

    The last three are what a layer takes of such a string on average, -ln f, by how much that was learned too
    large, and the root mean square of what was learned wrongly.
    """
    import ibm_service_learning as stand_in
    from ibm_service_simulation import _noise_model, neighbours
    from noise_learning_price import clients_numbers, work_of
    from qiskit_ibm_runtime.noise_learner_v3.params_converters import NOISE_LEARNER_V3_PARAMS_CONVERTERS
    from qiskit_ibm_runtime.options_models import NoiseLearnerV3Options

    given, noise_model = Work(workload(model)), _noise_model(device)
    few = Learning(randomizations=8)
    for numbers in (few, Learning(), Learning(depths=(0, 4, 16, 32)), clients_numbers()):
        work = work_of(given, device, numbers)
        layers = learning_instructions(work.layers, load_device(device).target)
        options = NoiseLearnerV3Options(
            shots_per_randomization=numbers.shots,
            num_randomizations=numbers.randomizations,
            layer_pair_depths=list(numbers.depths),
        )
        params = NOISE_LEARNER_V3_PARAMS_CONVERTERS["v0.3"].encoder(layers, options).model_dump(mode="json")
        raw = stand_in.learn(params, noise_model, neighbours(device))
        true, wrong = [], []
        for one in checked_noise(work, RULES.read_noise(raw)).found:
            size = len(one.layer.qubits)
            strings = [stand_in._pauli(term, size) for term in one.terms]
            for place in range(size):
                for letter in "XYZ":
                    pauli = stand_in._pauli((letter, [place]), size)
                    lost = -np.log(stand_in._fidelity(pauli, one.layer.qubits, one.layer.gates, noise_model))
                    found = 2 * sum(
                        r for s, r in zip(strings, one.rates, strict=True) if stand_in._anti(pauli, s)
                    )
                    true.append(lost)
                    wrong.append(found - lost)
        yield numbers, work.seconds, float(np.mean(true)), float(np.mean(wrong)), _rms([np.array(wrong)])


def through() -> dict[str, Mitigation]:
    """Return what goes through the local service: gates are twirled wherever noise is raised."""
    folded = LEVELS["strong"].model_copy(update={"dynamical_decoupling": False})
    many = Learning(randomizations=32, shots=128, depths=(0, 1, 2, 4, 16, 32))
    more = LEVELS["pea"].model_copy(update={"learning": many})
    return {
        "none": LEVELS["none"],
        "readout": LEVELS["cheap"],
        "zne, twirled": folded,
        "pea": LEVELS["pea"],
        "pea, learned with the client's numbers": more,
    }


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="*", default=list(MODELS))
    parser.add_argument("--device", default="fake_torino")
    parser.add_argument("--shots", type=int, default=1024)
    parser.add_argument("--points", type=int, default=16)
    parser.add_argument("--small", action="store_true", help="the small circuit, end to end")
    parser.add_argument("--versions", type=int, default=512)
    parser.add_argument("--learning", action="store_true", help="what is learned beside what is there")
    options = parser.parse_args()
    if options.small or options.learning:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "hardware"))
    if options.learning:
        print("| model | depths | shots of a circuit | QPU seconds | -ln f | too large by | wrong by (rms) |")
        print("|---|---|---|---|---|---|---|")
        for model in options.model:
            for numbers, seconds, *found in learned(model, options.device):
                depths, shots = " ".join(map(str, numbers.depths)), numbers.randomizations * numbers.shots
                shown = " | ".join(f"{one:.4f}" for one in found)
                print(f"| {model} | {depths} | {shots:,} | {seconds:.0f} | {shown} |", flush=True)
        return
    if options.small:
        print("| mitigation | deviation (rms) | by shots alone | without these |")
        print("|---|---|---|---|")
        for name, rms, error in through_the_service("fake_manila", options.shots, options.versions, 4):
            left = np.sqrt(max(rms**2 - error**2, 0.0))
            print(f"| {name} | {rms:.4f} | {error:.4f} | {left:.4f} |", flush=True)
        return
    print("| model | mitigation | on average | with shots |")
    print("|---|---|---|---|")
    for model in options.model:
        for name, average, drawn in predicted(model, options.device, options.shots, options.points):
            print(f"| {model} | {name} | {average:.4f} | {drawn:.4f} |", flush=True)


if __name__ == "__main__":
    main()
