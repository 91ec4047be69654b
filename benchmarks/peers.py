"""The exact engine against what a user could pick instead: one run, ratios printed and written to a table.

    python benchmarks/peers.py [--output peers.md] [--only hq_unet qufex qcq] [--device cuda]

Every peer runs the same circuit at the same angles: values and gradients are compared first, and a difference
stops the run. Steps of both sides alternate. A peer whose package is missing is skipped with the reason; the
`bench` extra installs all of them (`make bench`). TensorCircuit takes a minute or two to compile, which is
reported apart.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import hq_unet_recurrence
import numpy as np
import torch
from peer_circuits import check_parity
from timing import (
    Run,
    arguments_of,
    arithmetic_limit,
    engine_step,
    product_rate,
    random_angles,
    report,
    seconds_of,
    step,
    table,
)

from qhybrid.circuits import CircuitSpec, build_circuit
from qhybrid.engines import ExactEngine

HEAD = ["circuit", "batch", "peer", "peer, ms a step", "exact, ms a step", "ratio", "goal", "difference"]
LIMIT_HEAD = [
    "circuit",
    "batch",
    "method",
    "multiply-adds a sample",
    "limit, ms a step",
    "measured, ms a step",
]
SINGLE = 1e-5
"""Largest difference of values and gradients in single precision, over the largest of each."""
DOUBLE = 1e-6
"""The same in double precision; PennyLane hands some gradients on in single precision."""


@dataclass
class Comparison:
    """Collects the rows of all comparisons.

    Attributes:
        device: Torch device of the exact engine.
        rate: Operations a second in matrix products.
        rows: Of the table of peers.
        limits: Of the table of arithmetic limits.
        notes: Remarks and skipped peers.
    """

    device: str
    rate: float
    rows: list[list[object]]
    limits: list[list[object]]
    notes: list[str]

    def engine(self) -> ExactEngine:
        """Return a new exact engine."""
        return ExactEngine(device=self.device)

    def add(
        self,
        circuit: tuple[CircuitSpec, int],
        peer: str,
        times: tuple[float, float],
        goal: str,
        difference: float,
    ) -> None:
        """Add a comparison: circuit and batch, and seconds of one step of the peer and of the engine."""
        (spec, batch), (theirs, ours) = circuit, times
        ratio = theirs / ours
        shown = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2f}"
        self.rows.append(
            [
                _name(spec),
                batch,
                peer,
                f"{theirs * 1e3:,.2f}",
                f"{ours * 1e3:,.3f}",
                shown,
                goal,
                f"{difference:.0e}",
            ]
        )

    def add_limit(self, spec: CircuitSpec, batch: int, ours: float) -> None:
        """Add the arithmetic limit of a step beside its measured time."""
        found = self.engine().explain(spec, batch)
        limit = batch * arithmetic_limit(found.flops, self.rate)
        figures = [f"{found.flops:,.0f}", f"{limit * 1e3:.3f}", f"{ours * 1e3:.3f}"]
        self.limits.append([_name(spec), batch, found.method, *figures])

    def skip(self, peer: str, error: ImportError) -> None:
        """Note a peer that is not there."""
        self.notes.append(f"{peer} was skipped: {error}. Fix: make bench, which installs it")


def _name(spec: CircuitSpec) -> str:
    return f"{spec.name}, {spec.num_qubits} qubits"


def exact_results(engine: ExactEngine, spec: CircuitSpec, batch: int, dtype: torch.dtype) -> list[np.ndarray]:
    """Return values and both gradients of the exact engine."""
    return run_results(lambda x, w: engine.expectations(spec, x, w), spec, batch, dtype)


def run_results(run: Run, spec: CircuitSpec, batch: int, dtype: torch.dtype) -> list[np.ndarray]:
    """Return values and both gradients of anything that torch differentiates."""
    inputs, weights = random_angles(spec, batch, "cpu", dtype)
    values = run(inputs, weights)
    values.square().sum().backward()
    return [part.detach().cpu().numpy() for part in (values, inputs.grad, weights.grad)]


def against_torch_peer(
    to: Comparison, spec: CircuitSpec, peer: str, run: Run, sizes: tuple[int, int], goal: str, repeats: int
) -> None:
    """Compare with a peer that torch differentiates and that works in double precision.

    Args:
        to: Collects the rows.
        spec: The circuit.
        peer: What the table calls it.
        run: Its expectation values.
        sizes: Samples of our step, and of the peer's, whose time is scaled up to ours.
        goal: The wanted ratio.
        repeats: Steps of each side.
    """
    batch, few = sizes
    engine = to.engine()
    difference = check_parity(
        exact_results(engine, spec, few, torch.float64), run_results(run, spec, few, torch.float64), DOUBLE
    )
    inputs, weights = random_angles(spec, few, "cpu", torch.float64)

    def theirs() -> None:
        inputs.grad = weights.grad = None
        run(inputs, weights).square().sum().backward()

    # Ours is fast and goes several times a turn, so that both sides have seen a quiet moment.
    *ours_each, slow = seconds_of([engine_step(engine, spec, batch, to.device)] * 5 + [theirs], repeats)
    ours = min(ours_each)
    to.add((spec, batch), peer, (slow * batch / few, ours), goal, difference)


def hq_unet(to: Comparison) -> None:
    """HQ-UNet's bottleneck: hand-written recurrence, PennyLane lightning, TensorCircuit."""
    spec, engine = build_circuit("hq_unet_qcnn"), to.engine()
    for batch in (64, 256, 4096):
        twin = hq_unet_recurrence.expectations
        difference = check_parity(
            exact_results(engine, spec, batch, torch.float32),
            run_results(twin, spec, batch, torch.float32),
            SINGLE,
        )
        pair = [engine_step(engine, spec, batch, to.device), step(twin, spec, batch, to.device)]
        ours, theirs = seconds_of(pair, 20)
        to.add((spec, batch), "recurrence by hand", (theirs, ours), ">= 0.33", difference)
        to.add_limit(spec, batch, ours)
    try:
        pennylane = importlib.import_module("peer_pennylane")
    except ImportError as error:
        to.skip("PennyLane lightning.qubit", error)
    else:
        run = pennylane.lightning(spec)
        against_torch_peer(to, spec, "PennyLane lightning.qubit, device_vjp", run, (64, 2), ">= 1000", 2)
    try:
        tensorcircuit = importlib.import_module("peer_tensorcircuit")
    except ImportError as error:
        to.skip("TensorCircuit-NG", error)
    else:
        against_tensorcircuit(to, spec, tensorcircuit, 64)


def against_tensorcircuit(to: Comparison, spec: CircuitSpec, module: ModuleType, batch: int) -> None:
    """Compare with TensorCircuit-NG on JAX."""
    engine = to.engine()
    inputs, weights = (tensor.detach().numpy() for tensor in random_angles(spec, batch))
    theirs = module.CompiledStep(spec, inputs, weights)
    difference = check_parity(exact_results(engine, spec, batch, torch.float32), theirs.results, SINGLE)
    *ours_each, slow = seconds_of([engine_step(engine, spec, batch, to.device)] * 5 + [theirs], 10)
    ours = min(ours_each)
    to.add((spec, batch), "TensorCircuit-NG, JAX jit, vmap, light cones", (slow, ours), ">= 10", difference)
    to.notes.append(f"TensorCircuit-NG took {theirs.seconds_to_compile:.0f} s to compile (not in its step).")


def qufex(to: Comparison) -> None:
    """QuFeX's first filter with one Qu-Net batch of evaluations: PennyLane default.qubit, backpropagation."""
    evaluations = 576
    for qubits, goal in ((8, ">= 5"), (12, ">= 50")):
        spec = build_circuit("qufex_filter1", num_qubits=qubits)
        try:
            run = importlib.import_module("peer_pennylane").default_backprop(spec)
        except ImportError as error:
            to.skip("PennyLane default.qubit", error)
        else:
            sizes, repeats = (evaluations, evaluations), 5 if qubits == 8 else 1
            against_torch_peer(to, spec, "PennyLane default.qubit, torch backprop", run, sizes, goal, repeats)
        (ours,) = seconds_of([engine_step(to.engine(), spec, evaluations, to.device)], 5)
        to.add_limit(spec, evaluations, ours)


def qcq(to: Comparison) -> None:
    """QCQ-CNN's classifier: time against the goal of 3 ms a step, and the arithmetic limit."""
    spec, engine = build_circuit("qcq_classifier"), to.engine()
    for batch in (1, 10, 64):
        (ours,) = seconds_of([engine_step(engine, spec, batch, to.device)], 50)
        to.add_limit(spec, batch, ours)
    to.notes.append(f"QCQ's classifier at batch 64 takes {ours * 1e3:.2f} ms a step (goal: at most 3 ms).")


PARTS: dict[str, Callable[[Comparison], None]] = {"hq_unet": hq_unet, "qufex": qufex, "qcq": qcq}


def main() -> None:
    """Run the parts, print the tables and write them to a file."""
    parser = arguments_of(__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    to = Comparison(arguments.device, product_rate(arguments.device), [], [], [])
    for name in arguments.only:
        PARTS[name](to)
    limits = table(LIMIT_HEAD, to.limits)
    sections = [
        f"## Peers: ratio is the peer's time over ours\n\n{table(HEAD, to.rows)}",
        f"## Arithmetic limit at {to.rate / 1e9:.0f} GFLOP/s in matrix products, a step\n\n{limits}",
        *to.notes,
    ]
    report(sections, arguments)


if __name__ == "__main__":
    main()
