"""What a step costs while other programs keep cores busy: wall time of quiet, one and two busy cores.

    python benchmarks/busy_machine.py

Each figure is the mean over a process of its own, with as many threads as the machine has cores. The
waiting policy is read when torch is loaded: `torch's own` spins in idle threads, `passive` is what the
command line sets. Run it on an otherwise quiet machine: other load counts as busy cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

POLICIES = {
    "torch's own": {},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"},
}
CASES = ("statevector", "network", "unet")
BUSY = "while True: pass"


def main() -> None:
    """Print the table, or measure one case where `--case` names it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one measurement")
    options = parser.parse_args()
    if options.case:
        print(measured(options.case, options.seconds))
        return
    print(f"{os.cpu_count()} cores; ms a step (value and gradient), mean; ratio to quiet")
    print(f"{'case':<12} {'waiting':<12} {'quiet':>8} {'1 busy':>16} {'2 busy':>16}")
    for case in CASES:
        for name, variables in POLICIES.items():
            quiet, *loaded = (under_load(case, variables, busy, options.seconds) for busy in range(3))
            cells = " ".join(f"{ms:>8.2f} ({ms / quiet:>4.1f}x)" for ms in loaded)
            print(f"{case:<12} {name:<12} {quiet:>8.2f} {cells}", flush=True)


def under_load(case: str, variables: dict[str, str], busy: int, seconds: float) -> float:
    """Return the mean milliseconds of a step while so many processes do nothing but compute."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        command = [sys.executable, __file__, "--case", case, "--seconds", str(seconds)]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP", "GOMP", "KMP"))}
        answer = subprocess.run(
            command, env={**kept, **variables}, capture_output=True, text=True, check=True
        )
        return float(answer.stdout.split()[-1])
    finally:
        for other in others:
            other.kill()
            other.wait()


def measured(case: str, seconds: float) -> float:
    """Return the mean milliseconds of a step: waits for a core, which are rare and long, count too."""
    step = {"statevector": statevector_step, "network": network_step, "unet": unet_step}[case]()
    step()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        step()
        times.append(1e3 * (time.perf_counter() - before))
    return statistics.fmean(times)


def statevector_step():
    """8 qubits, 3 layers, batch 32, by the method that the engine chooses."""
    import torch
    from compiled_kernels import tiny

    from qhybrid.engines import make_engine

    spec, engine = tiny(), make_engine("exact")
    inputs = torch.randn(32, spec.num_inputs, requires_grad=True)
    weights = torch.randn(spec.num_weights, requires_grad=True)
    return lambda: engine.expectations(spec, inputs, weights).square().sum().backward()


def network_step():
    """The HQ-UNet bottleneck, batch 64."""
    import torch

    from qhybrid.circuits import build_circuit
    from qhybrid.engines import make_engine

    spec, engine = build_circuit("hq_unet_qcnn"), make_engine("exact", method="network")
    inputs = torch.randn(64, spec.num_inputs, requires_grad=True)
    weights = torch.randn(spec.num_weights, requires_grad=True)
    return lambda: engine.expectations(spec, inputs, weights).square().sum().backward()


def unet_step():
    """A small convolutional network in training: what surrounds a circuit in the demo."""
    import torch
    from torch import nn

    widths = ((3, 16), (16, 32), (32, 16), (16, 5))
    layers = [layer for a, b in widths for layer in (nn.Conv2d(a, b, 3, padding=1), nn.ReLU())]
    model, images = nn.Sequential(*layers), torch.randn(4, 3, 64, 64)
    return lambda: model(images).square().mean().backward()


if __name__ == "__main__":
    main()
