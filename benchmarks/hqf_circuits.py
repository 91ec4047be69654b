"""Table of HQF-Net's circuits beside HQ-UNet's: two-qubit gates, depth all-to-all and routed, exact cost.

    python benchmarks/hqf_circuits.py [--devices fake_torino fake_nighthawk] [--seed 0]

Depth counts all gates, barriers left out. Cost is what the exact engine plans with noise: depolarizing rates
of 0.001 and 0.01 for the circuit as written, the device's calibration for the routed one, whose layout is the
one of eight that is cheapest to simulate. All of it takes some minutes on one core.
"""

from __future__ import annotations

import argparse
import math

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.devices import load_device
from qhybrid.engines import make_engine
from qhybrid.engines.exact.plan import simulation_cost
from qhybrid.noise import NoiseProfile

CIRCUITS = ("hq_unet_qcnn", "hqf_local", "hqf_global", "hqf_directional", "hqf_qskip")


def counted(spec: CircuitSpec) -> tuple[int, int]:
    """Return two-qubit gates and depth, without barriers."""
    gates = spec.circuit.copy_empty_like()
    for step in spec.circuit.data:
        if step.operation.name != "barrier":
            gates.append(step)
    return gates.num_nonlocal_gates(), gates.depth()


def row(name: str, place: str, spec: CircuitSpec, noise: NoiseProfile) -> str:
    """Return one line of the table."""
    gates, depth = counted(spec)
    found = make_engine("exact", noise=noise).explain(spec)
    width = f"2^{math.log2(found.widest):.0f}" if found.widest else "-"
    return f"| {name} | {place} | {gates} | {depth} | {found.method} | {found.flops:,.0f} | {width} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", nargs="*", default=["fake_torino", "fake_nighthawk"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("| circuit | where | two-qubit gates | depth | method | multiply-adds a sample | widest |")
    print("|---|---|---|---|---|---|---|")
    uniform = NoiseProfile.depolarizing(p_1q=0.001, p_2q=0.01)
    for name in CIRCUITS:
        spec = build_circuit(name)
        print(row(name, "all-to-all", spec, uniform), flush=True)
        for device in arguments.devices:
            routed = spec.transpile(load_device(device), arguments.seed, trials=8, cost=simulation_cost)
            print(row(name, device, routed, NoiseProfile.from_backend(device)), flush=True)


if __name__ == "__main__":
    main()
