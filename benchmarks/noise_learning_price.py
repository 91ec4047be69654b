"""What learning the noise costs before the first execution of a plan with `--mitigation pea`.

Run: ``python benchmarks/noise_learning_price.py``. Probabilistic error amplification needs the noise of every
distinct layer of two-qubit gates. `NoiseLearnerV3` of qiskit-ibm-runtime learns one with bases x depths x
random versions x shots executions: 9 x 6 x 32 x 128 by its own defaults, 9 x 3 x 16 x 32 by those here.
Layers are counted, and priced, as a plan does it.
"""

from __future__ import annotations

import argparse

from hardware_bill import DEVICES, MODELS, Work, workload
from qiskit_ibm_runtime.options_models import NoiseLearnerV3Options

from qhybrid.devices import load_device
from qhybrid.hardware.circuits.noise_layers import NoiseWork
from qhybrid.hardware.services.ibm.learning import BASES, noise_work
from qhybrid.hardware.settings import LEVELS, HardwareSettings, Learning


def clients_numbers() -> Learning:
    """Return the numbers that the client takes where none are given."""
    options = NoiseLearnerV3Options()
    return Learning(
        randomizations=options.num_randomizations,
        shots=options.shots_per_randomization,
        depths=tuple(options.layer_pair_depths),
    )


def executions_of_a_layer(learning: Learning) -> int:
    """Return the executions that learning one layer takes."""
    return BASES * len(learning.depths) * learning.randomizations * learning.shots


def work_of(work: Work, device: str, learning: Learning) -> NoiseWork:
    """Return the distinct layers of a model's circuits on a device, and the price of learning them."""
    mitigation = LEVELS["pea"].model_copy(update={"learning": learning})
    settings = HardwareSettings(backend=device, shots=1024, copies=1, layouts=1, mitigation=mitigation)
    return noise_work(list(work.circuits(device, settings).values()), load_device(device), settings)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="*", default=list(MODELS))
    parser.add_argument("--device", nargs="*", default=list(DEVICES[:1]))
    options = parser.parse_args()
    print("| model | device | distinct layers | executions | QPU seconds | with the client's numbers |")
    print("|---|---|---|---|---|---|")
    for model in options.model:
        work = Work(workload(model))
        for device in options.device:
            own, other = (work_of(work, device, one) for one in (Learning(), clients_numbers()))
            print(
                f"| {model} | {device} | {len(own.layers)} | {own.executions:,} | {own.seconds:,.0f} | "
                f"{other.seconds:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
