"""HQ-UNet's circuit on devices: routed, under their calibrated noise, exact, beside Aer's trajectories.

Run: ``python benchmarks/devices.py --output table.md``. Layouts are chosen twice: by two-qubit gates (what a
device would like) and by what they cost to simulate. Times: value, and value and gradient of sum(y^2) with
respect to inputs and weights, in float64. `--aer` adds Aer's trajectories of one sample (minutes).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.engines.exact.plan import simulation_cost
from qhybrid.noise import NoiseProfile
from qhybrid.workspace import write_text

DEVICES = ("fake_torino", "fake_fez", "fake_nighthawk")
TRAJECTORIES = 100


def seconds_of(function: Callable[[], object], repeats: int) -> float:
    """Return the shortest time of several; the first call, which plans, does not count."""
    function()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return min(taken)


def arguments(spec: CircuitSpec, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return angles that carry gradients."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch, spec.num_inputs, generator=generator, dtype=torch.float64)
    weights = torch.randn(spec.num_weights, generator=generator, dtype=torch.float64)
    return inputs.requires_grad_(), weights.requires_grad_()


def row(name: str, choice: str, trials: int, batch: int, repeats: int, aer: bool) -> str:
    """Return the figures of one device."""
    device, spec = load_device(name), build_circuit("hq_unet_qcnn")
    profile = NoiseProfile.from_backend(device)
    cost = None if choice == "gates" else simulation_cost
    start = time.perf_counter()
    routed = spec.transpile(device, seed=0, trials=trials, cost=cost)
    routing = time.perf_counter() - start
    qubits = routed.used_qubits
    cut, noise = routed.restrict(qubits), profile.restrict(qubits)
    engine = make_engine("exact", noise=noise)
    start = time.perf_counter()
    found = engine.explain(cut, batch)
    planning = time.perf_counter() - start
    inputs, weights = arguments(cut, batch)

    def value() -> torch.Tensor:
        with torch.no_grad():
            return engine.expectations(cut, inputs, weights)

    def step() -> None:
        inputs.grad = weights.grad = None
        engine.expectations(cut, inputs, weights).square().sum().backward()

    gates = cut.circuit.num_nonlocal_gates()
    cells = [name, choice, len(qubits), gates, cut.circuit.depth(lambda one: len(one.qubits) == 2)]
    cells += [cut.circuit.depth(), found.method, f"{found.flops:,.0f}", f"{found.widest:,}"]
    cells += [f"{routing:.1f}", f"{planning:.2f}"]
    cells += [f"{seconds_of(value, repeats):.4f}", f"{seconds_of(step, repeats):.4f}"]
    if aer:
        second = make_engine("aer", noise=noise, trajectories=TRAJECTORIES, seed=0)
        start = time.perf_counter()
        sampled = second.expectations(cut, inputs[:1].detach(), weights.detach())
        deviation = (sampled - value()[:1]).abs().max().item()
        cells.append(f"{time.perf_counter() - start:.0f} s, largest deviation {deviation:.3f}")
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Print the table and write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="Markdown file for the table")
    parser.add_argument("--devices", nargs="+", default=list(DEVICES))
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--aer", action="store_true", help="also one sample with Aer's trajectories")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    heads = ["device", "layout by", "qubits", "two-qubit gates", "two-qubit depth", "depth", "method"]
    heads += ["multiply-adds a sample", "widest", "routing, s", "planning, s"]
    heads += [f"value of {options.batch}, s", "value and gradient, s"]
    heads += [f"Aer, 1 sample, {TRAJECTORIES} trajectories"] if options.aer else []
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in options.devices:
        for choice in ("gates", "simulation"):
            aer = options.aer and choice == "simulation"
            figures = row(name, choice, options.trials, options.batch, options.repeats, aer)
            lines.append(figures + (" |" if options.aer and not aer else ""))
    text = "\n".join(lines) + "\n"
    print(text)
    if options.output:
        write_text(options.output, text)


if __name__ == "__main__":
    main()
