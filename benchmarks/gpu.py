"""The exact engine on a CUDA device: parity with the CPU, the families of circuits, CUDA graphs, peers.

    python benchmarks/gpu.py [--budget 280] [--only tiny hq_unet] [--output gpu.md]

It needs five minutes at most: what does not fit the budget is listed as such. Times are those of value and
gradient of sum(y^2) in float32, between CUDA events; memory is the peak above what was held before. fastqml
and TensorCircuit-NG run beside it where they are installed. With --output, a table and its figures as JSON
are written after every cell. Without a CUDA device it says so and ends; `--device cpu` tries the script.
"""

from __future__ import annotations

import importlib
import itertools
import json
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peer_families import FAMILIES, rings
from timing import arguments_of, random_angles, step, table

from qhybrid.circuits import CircuitSpec
from qhybrid.engines import make_engine
from qhybrid.errors import QHybridError
from qhybrid.noise import NoiseProfile
from qhybrid.workspace import write_text

BATCHES = (1, 64, 1024)
ORDER = ("tiny", "hq_unet", "hea_10", "zz_6", "deep", "noisy_8", "qcq", "hea_14", "qufex_8", "hea_18")
"""Families that come first; the others follow as time allows."""
PEERS = {"fastqml": ("peer_fastqml", "fused"), "tensorcircuit": ("peer_tensorcircuit", "plain")}
PASSES = ((("plain", "graphs", "fastqml"), 0.0), (("tensorcircuit",), 60.0))
"""Who runs in turn, and the seconds that must be left: TensorCircuit's first call compiles for up to 60 s."""
TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}
NOISE = NoiseProfile(p_1q=0.01, p_2q=0.02, readout_p01=0.1)
METHODS: dict[str, dict[str, Any]] = {
    "network": {"method": "network"},
    "statevector": {"method": "statevector"},
    "mps": {"method": "mps"},
    "noise": {"noise": NOISE},
    "shots": {"shots": 1000, "seed": 1},
    "shots and noise": {"shots": 1000, "seed": 1, "noise": NOISE},
    "network, graphs": {"method": "network", "cuda_graphs": True},
    "statevector, graphs": {"method": "statevector", "cuda_graphs": True},
}
"""What is compared with the CPU."""
FAULTS = (QHybridError, RuntimeError, ImportError, ValueError, KeyError, AttributeError, UserWarning)
"""What leaves a cell empty, with its message: refusals, missing packages, graphs that could not be made."""
SHOT_FLIPS = 5
"""Shots that rounding may turn over."""


@dataclass
class Cell:
    """One party on one family at one batch; times in milliseconds a step, memory in MiB."""

    family: str
    batch: int
    party: str
    method: str = ""
    first: float = 0.0
    shortest: float = 0.0
    middle: float = 0.0
    memory: float = 0.0
    reason: str = ""


def main() -> None:
    """Compare, measure, print and write."""
    parser = arguments_of(__doc__)
    parser.set_defaults(device="cuda")
    parser.add_argument("--budget", type=float, default=280.0, help="seconds for everything")
    parser.add_argument("--seconds", type=float, default=0.5, help="of one measurement")
    parser.add_argument("--only", nargs="+", choices=list(FAMILIES), help="families")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured.")
        return
    end = time.monotonic() + options.budget
    found: dict[str, Any] = {"machine": machine(options.device), "parity": [], "cells": []}
    for name in METHODS:
        for dtype in (torch.float32, torch.float64):
            found["parity"].append(parity(name, dtype, options.device))
    named = [*ORDER, *(name for name in FAMILIES if name not in ORDER)]
    chosen = [one for one in named if not options.only or one in options.only]
    specs = {name: FAMILIES[name].build() for name in chosen}
    for parties, reserve in PASSES:
        for name, batch, party in itertools.product(chosen, BATCHES, parties):
            cell = Cell(name, batch, party)
            if time.monotonic() + reserve > end:
                cell.reason = "no time left"
            else:
                measure(cell, specs[name], options.device, options.seconds)
            found["cells"].append(asdict(cell))
            print(row(asdict(cell)), flush=True)
            save(found, options.output)
    print(text_of(found))


def machine(device: str) -> dict[str, str]:
    """Return what the figures depend on."""
    name = torch.cuda.get_device_name(device) if device != "cpu" else platform.machine()
    return {"device": name, "torch": torch.__version__, "cuda": str(torch.version.cuda)}


def parity(name: str, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """Return the largest differences of value and gradient to the CPU, relative where they exceed 1."""
    spec, results = rings(6, 2, "cry"), []
    fact: dict[str, Any] = {"case": name, "dtype": str(dtype).removeprefix("torch."), "agrees": False}
    options = METHODS[name]
    try:
        for place in ("cpu", device):
            own = options if place != "cpu" else {k: v for k, v in options.items() if k != "cuda_graphs"}
            engine = make_engine("exact", device=place, **own)
            inputs, weights = random_angles(spec, 5, place, dtype)
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # A graph that could not be made is no parity.
                for _ in range(3):  # The first call runs plainly, the second records, the third replays.
                    engine.reseed(1)
                    values = engine.expectations(spec, inputs, weights)
                    slopes = torch.autograd.grad(values.square().sum(), [inputs, weights])
            results.append([part.detach().cpu() for part in (values, *slopes)])
    except (QHybridError, RuntimeError, UserWarning) as error:
        return fact | {"reason": str(error)}
    differences = [
        float((one - other).abs().max() / max(1.0, float(one.abs().max()))) for one, other in zip(*results)
    ]
    return fact | {
        "value": differences[0],
        "gradient": max(differences[1:]),
        "agrees": max(differences) <= TOLERANCES[dtype] + SHOT_FLIPS / options.get("shots", float("inf")),
    }


def measure(cell: Cell, spec: CircuitSpec, device: str, seconds: float) -> None:
    """Fill in a cell, or the reason why it stays empty."""
    try:
        held = memory(device)
        take = party_step(cell, spec, device)
        start = time.perf_counter()
        take()
        cell.first = 1e3 * (time.perf_counter() - start)
        take()  # The second call records a graph.
        times = [clocked(take, device)]
        while 1e-3 * sum(times) < seconds * (10 if len(times) < 3 else 1) and len(times) < 200:
            times.append(clocked(take, device))
        cell.shortest, cell.middle = min(times), median(times)
        cell.memory = (memory(device, peak=True) - held) / 2**20
    except FAULTS as error:
        cell.reason = (str(error).splitlines() or [type(error).__name__])[0][:160]


def party_step(cell: Cell, spec: CircuitSpec, device: str) -> Callable[[], Any]:
    """Return a party's training step."""
    family = FAMILIES[cell.family]
    if cell.party in PEERS:
        if family.noise is not None or cell.party not in family.peers:
            raise ValueError("not run by this peer")
        module, function = PEERS[cell.party]
        place = device if cell.party == "fastqml" else "cpu"  # JAX moves its arguments itself.
        inputs, weights = (one.detach() for one in random_angles(spec, cell.batch, place))
        made: Callable[[], Any] = getattr(importlib.import_module(module), function)(
            spec, family, inputs, weights
        )
        return made
    graphs = cell.party == "graphs"
    if graphs and device == "cpu":
        raise ValueError("CUDA devices alone have graphs")
    engine = make_engine("exact", noise=family.profile(), device=device, cuda_graphs=graphs)
    cell.method = engine.explain(spec, cell.batch).method

    def run(inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return engine.expectations(spec, inputs, weights)

    return step(run, spec, cell.batch, device)


def clocked(take: Callable[[], Any], device: str) -> float:
    """Return the milliseconds of one step: between CUDA events, or by the clock."""
    if device == "cpu":
        start = time.perf_counter()
        take()
        return 1e3 * (time.perf_counter() - start)
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    take()
    after.record()
    torch.cuda.synchronize()
    return before.elapsed_time(after)


def memory(device: str, peak: bool = False) -> int:
    """Return the bytes that torch holds on the device, or held at most since this was last asked for."""
    if device == "cpu":
        return 0
    if peak:
        return torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def row(cell: dict[str, Any]) -> str:
    """Return a cell as a row of the table."""
    figures = [f"{cell[key]:.3f}" for key in ("first", "shortest", "middle")] + [f"{cell['memory']:.0f}"]
    shown = [*figures, ""] if not cell["reason"] else ["", "", "", "", cell["reason"]]
    names = [cell[key] for key in ("family", "batch", "party", "method")]
    return f"| {' | '.join(map(str, [*names, *shown]))} |"


def text_of(found: dict[str, Any]) -> str:
    """Return everything as Markdown."""
    compared = table(
        ["against the CPU", "dtype", "value", "gradient", "agrees", "why not"],
        [
            [one.get(key, "") for key in ("case", "dtype", "value", "gradient", "agrees", "reason")]
            for one in found["parity"]
        ],
    )
    names = ["family", "batch", "party", "method", "first, ms", "min, ms", "median, ms", "MiB", "why not"]
    head = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    cells = "\n".join([*head, *(row(cell) for cell in found["cells"])])
    return f"Value and gradient, float32, {found['machine']}.\n\n{compared}\n\n{cells}\n"


def save(found: dict[str, Any], output: Path | None) -> None:
    """Write what is known so far."""
    if output is not None:
        write_text(output, text_of(found))
        write_text(output.with_suffix(".json"), json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
