"""What a step costs while other programs keep cores busy: wall time of quiet, one and two busy cores.

    python benchmarks/busy_machine.py [--only statevector] [--rounds 5] [--seconds 1]

Each figure is a median over rounds, in which all loads and both policies alternate; of a round it is the mean
over a process of its own, with as many threads as the machine has cores. The waiting policy is read when
torch is loaded: `torch's own` spins in idle threads, `passive` is what the command line sets. Run it on an
otherwise quiet machine: other load counts as busy cores, and the first line says how much there was.
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
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=5, help="of all loads and policies")
    parser.add_argument("--only", nargs="+", choices=CASES, default=CASES, help="cases")
    options = parser.parse_args()
    if options.case:
        print(measured(options.case, options.seconds))
        return
    others = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, {others:.1f} processes at work before; ms a step (value and gradient),")
    print(f"median of {options.rounds} rounds; ratio to quiet, median of the rounds' own (least to most)")
    print(f"{'case':<12} {'waiting':<12} {'quiet':>8} {'1 busy':>26} {'2 busy':>26}")
    for case in options.only:
        for name, rounds in alternated(case, options.rounds, options.seconds).items():
            cells = [f"{statistics.median(row[busy] for row in rounds):>8.2f}" for busy in range(3)]
            shown = " ".join(f"{cells[busy]} {ratios(rounds, busy)}" for busy in (1, 2))
            print(f"{case:<12} {name:<12} {cells[0]} {shown}", flush=True)


def alternated(case: str, rounds: int, seconds: float) -> dict[str, list[list[float]]]:
    """Return for each policy its rounds: milliseconds a step with 0, 1 and 2 busy cores."""
    found: dict[str, list[list[float]]] = {name: [] for name in POLICIES}
    for _ in range(rounds):
        for rows in found.values():
            rows.append([])
        for busy in range(3):
            for name, variables in POLICIES.items():
                found[name][-1].append(under_load(case, variables, busy, seconds))
    return found


def ratios(rounds: list[list[float]], busy: int) -> str:
    """Return how many times the quiet step a loaded one takes."""
    own = sorted(row[busy] / row[0] for row in rounds)
    return f"{statistics.median(own):>4.1f}x ({own[0]:>4.1f} to {own[-1]:>4.1f})"


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
    from peer_families import FAMILIES

    from qhybrid.engines import make_engine

    spec, engine = FAMILIES["tiny"].build(), make_engine("exact")
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
