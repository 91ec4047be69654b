"""What a learned noise model would cost before the first execution of a plan, by the client's own rules.

Run: ``python benchmarks/noise_learning_price.py``. Probabilistic error amplification and cancellation (PEA,
PEC) need the noise of every distinct layer of two-qubit gates. `NoiseLearnerV3` of qiskit-ibm-runtime learns
one with bases x depths x random versions x shots executions: 9 x 6 x 32 x 128 by its defaults. Layers are
counted by the client's own division of the circuits that would be sent.
"""

from __future__ import annotations

import argparse

from hardware_bill import DEVICES, MODELS, Work, workload
from qiskit.circuit import CircuitInstruction
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit_ibm_runtime.executor_sampler.utils import find_box_type, find_unique_layers
from qiskit_ibm_runtime.options_models import NoiseLearnerV3Options, TwirlingOptions

from qhybrid.hardware.settings import LEVELS, HardwareSettings

BASES = 9
"""Circuits that measure all that a sparse Pauli-Lindblad model needs (docstring of the client's options)."""


def executions_of_a_layer() -> int:
    """Return the executions that learning one layer takes."""
    options = NoiseLearnerV3Options()
    each = options.num_randomizations * options.shots_per_randomization
    return BASES * len(options.layer_pair_depths) * each


def layers_of(work: Work, device: str) -> list[CircuitInstruction]:
    """Return the distinct layers of two-qubit gates of a model's circuits on a device."""
    settings = HardwareSettings(
        backend=device, shots=1024, copies=1, layouts=1, mitigation=LEVELS["standard"]
    )
    pubs = []
    for circuit in work.circuits(device, settings).values():
        measured = circuit.measured(0)
        pubs.append(SamplerPub.coerce((measured, [0.1] * measured.num_parameters), 1024))
    twirling = TwirlingOptions(enable_gates=True, enable_measure=True)
    found = find_unique_layers(
        pubs=pubs,
        twirling_options=twirling,
        measure_noise_learning=None,
        inject_noise=True,
        add_tags=False,
    )
    return [layer for layer in found if find_box_type(layer) == "gates"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs="*", default=list(MODELS))
    parser.add_argument("--device", nargs="*", default=list(DEVICES[:1]))
    parser.add_argument("--delay-us", type=float, default=252.0, help="of an execution")
    options = parser.parse_args()
    print("| model | device | distinct layers | executions | QPU seconds at least |")
    print("|---|---|---|---|---|")
    for model in options.model:
        work = Work(workload(model))
        for device in options.device:
            layers = len(layers_of(work, device))
            executions = layers * executions_of_a_layer()
            seconds = executions * options.delay_us * 1e-6
            print(f"| {model} | {device} | {layers} | {executions:,} | {seconds:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
