"""Makes the figures of the explanation pages: `python docs/make_figures.py [--only growth ...]`.

Nothing is trained and no data are needed; all of it takes a minute on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from qhybrid.circuits import build_circuit
from qhybrid.engines import make_engine
from qhybrid.metrics.verdict import detectable_difference, judge

PICTURES = Path(__file__).with_name("pictures")
COLORS = ("#3949ab", "#e65100", "#00897b", "#8e24aa")
GREY = "#9e9e9e"


def canvas(width: float = 7.0, height: float = 3.6) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)
    return figure, axis


def save(figure: Figure, name: str) -> None:
    """Write a figure."""
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(PICTURES / f"{name}.png", dpi=110, facecolor="white", pil_kwargs={"optimize": True})
    print(PICTURES / f"{name}.png")


def light_cone() -> None:
    """Draw the gates of HQ-UNet's circuit, and those that one observable may depend on."""
    spec = build_circuit("hq_unet_qcnn")
    circuit = spec.circuit
    gates = [
        [circuit.find_bit(one).index for one in gate.qubits]
        for gate in circuit.data
        if gate.name != "barrier"
    ]
    seen = {qubit for _, qubits, _ in spec.observables[1].to_sparse_list() for qubit in qubits}
    inside = []
    for qubits in reversed(gates):
        inside.append(bool(seen & set(qubits)))
        if inside[-1]:
            seen |= set(qubits)
    inside.reverse()
    figure, axis = canvas(8.0, 3.8)
    axis.grid(visible=False)
    level = [0] * circuit.num_qubits
    placed = []
    for qubits, one in zip(gates, inside, strict=True):
        low, high = min(qubits), max(qubits)
        column = max(level[low : high + 1])
        level[low : high + 1] = [column + 1] * (high + 1 - low)
        placed.append((column, qubits, one))
    for qubit in range(circuit.num_qubits):
        width = 1.2 if qubit in seen else 0.8
        axis.axhline(qubit, color=COLORS[0] if qubit in seen else "#e0e0e0", linewidth=width, zorder=0)
    for column, qubits, one in placed:
        color = COLORS[0] if one else "#d0d0d0"
        if len(qubits) > 1:
            axis.plot(
                [column, column], [min(qubits), max(qubits)], color=color, linewidth=2, zorder=2 if one else 1
            )
        axis.scatter(
            [column] * len(qubits),
            qubits,
            s=16 if len(qubits) > 1 else 7,
            color=color,
            zorder=3 if one else 1,
        )
    axis.set(xlabel="order of the gates", ylabel="qubit", yticks=range(0, circuit.num_qubits, 3))
    axis.invert_yaxis()
    axis.set_title(
        f"blue: the {sum(inside)} of {len(gates)} gates that one observable sees, "
        f"on {len(seen)} of {circuit.num_qubits} qubits",
        fontsize=11,
    )
    save(figure, "light_cone")


MEASURED = {
    1: (49e-6, 73e-6, 88e-6, 101e-6, 122e-6),
    2: (63e-6, 320e-6, 2.5e-3, 20e-3, 637e-3),
    4: (97e-6, 374e-6, 44e-3),
    8: (145e-6, 564e-6, 76e-3),
}
PREDICTED = {4: (20.0, 7e4), 8: (40.0, 1e5)}
"""Seconds a sample of HQ-UNet's circuit on grids of 2 x 2 to 6 x 6 qubits, by depth: `python
benchmarks/engine_growth.py`, batch 16, two cores, 2026-11-21 (runs/LOG.md). The second
prediction was refused."""


def growth() -> None:
    """Draw the measured cost of HQ-UNet's circuit over its size and depth, and what was predicted."""
    figure, axis = canvas()
    qubits = [grid**2 for grid in (2, 3, 4, 5, 6)]
    for color, depth in zip(COLORS, MEASURED, strict=True):
        run, guess = MEASURED[depth], PREDICTED.get(depth, ())
        axis.semilogy(qubits[: len(run)], run, "o-", color=color, linewidth=2, label=f"depth {depth}")
        axis.semilogy(qubits[len(run) - 1 :], [run[-1], *guess], ":", color=color)
        for place, value, mark in zip(qubits[len(run) :], guess, "ox", strict=False):
            axis.semilogy([place], [value], mark, color=color, markerfacecolor="white", markersize=7)
    axis.set(xlabel="qubits", ylabel="seconds a sample", xticks=qubits)
    axis.legend(frameon=False)
    axis.set_title("value and gradient; hollow: predicted and not run, cross: refused", fontsize=11)
    save(figure, "growth")


def shots() -> None:
    """Draw the scatter of sampled values over the number of shots, beside the law."""
    spec = build_circuit("qcq_classifier", reps=1)
    inputs, weights = torch.full((400, spec.num_inputs), 0.4), torch.full((spec.num_weights,), 0.3)
    exact = make_engine("exact").expectations(spec, inputs[:1], weights)[0]
    counts = [4, 16, 64, 256, 1024, 4096]
    figure, axis = canvas()
    rows = [
        make_engine("exact", shots=count, seed=0).expectations(spec, inputs, weights).std(dim=0)
        for count in counts
    ]
    for number, color in zip(range(min(2, len(exact))), COLORS, strict=False):
        law = [float(((1 - exact[number] ** 2) / count) ** 0.5) for count in counts]
        axis.loglog(
            counts,
            law,
            color=color,
            linewidth=1.5,
            label=f"sqrt((1 - z²) / shots), z = {float(exact[number]):.2f}",
        )
        axis.loglog(
            counts, [float(row[number]) for row in rows], "o", color=color, label="400 draws by the engine"
        )
    axis.set(
        xlabel="shots",
        ylabel="standard deviation of the value",
        xticks=counts,
        xticklabels=[f"{one:,}" for one in counts],
    )
    axis.minorticks_off()
    axis.legend(frameon=False)
    save(figure, "shots")


def plan_steps() -> None:
    """Draw the steps of a plan, and what is on disk after each."""
    steps = [
        ("plan", "circuits, samples, model,\ncalibration, prices, ledger"),
        ("submit", "a unique tag, written\nbefore the job is sent"),
        ("wait", "the job's id; a lost answer\nis looked for by its tag"),
        ("collect", "the result as the service\nsent it, once"),
        ("results", "predictions, metrics,\ndeviations, real cost"),
    ]
    figure = Figure(figsize=(10.5, 2.3), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(0, 10), ylim=(0, 2.2))
    axis.set_axis_off()
    for number, (name, text) in enumerate(steps):
        left = 2 * number + 0.08
        axis.add_patch(FancyBboxPatch((left, 1.25), 1.5, 0.55, boxstyle="round,pad=0.06", color=COLORS[0]))
        axis.text(left + 0.75, 1.52, name, ha="center", va="center", color="white", fontsize=13)
        axis.text(left + 0.75, 0.95, text, ha="center", va="top", fontsize=9.5)
        if number < len(steps) - 1:
            axis.annotate(
                "", (left + 1.92, 1.52), (left + 1.62, 1.52), arrowprops={"arrowstyle": "->", "color": GREY}
            )
    axis.text(
        0.02,
        0.02,
        "below each step: what is on disk, whatever is killed afterwards",
        fontsize=9.5,
        color=GREY,
    )
    save(figure, "plan_steps")


def verdicts() -> None:
    """Draw an example of each verdict: mean and interval of paired differences against a margin."""
    margin = 0.005
    rng = np.random.default_rng(0)
    cases = [(0.0005, 0.002, 10), (0.020, 0.004, 10), (0.003, 0.016, 5)]
    figure, axis = canvas(8.0, 2.8)
    axis.axvspan(-margin, margin, color="#c5cae9")
    axis.axvline(0, color=GREY, linewidth=1)
    for row, ((mean, std, count), color) in enumerate(zip(cases, COLORS, strict=False)):
        drawn = rng.normal(0, 1, count)
        values = mean + std * (drawn - drawn.mean()) / drawn.std(ddof=1)
        found = judge(list(values), margin)
        axis.plot([found.low, found.high], [row, row], color=color, linewidth=3, solid_capstyle="round")
        axis.plot(values, [row] * count, "|", color=color, markersize=9, alpha=0.6)
        axis.plot([found.mean], [row], "o", color=color, markersize=8)
        axis.text(0.037, row, f"{found.text()}\n({count} pairs)", va="center", fontsize=10)
    axis.set(
        xlim=(-0.035, 0.095),
        ylim=(2.6, -0.6),
        yticks=[],
        xlabel="difference of mIoU: dot and bar are mean and 95 % interval, ticks the pairs",
    )
    axis.set_xticks([-0.02, 0, 0.02])
    axis.spines["left"].set_visible(False)
    axis.text(margin, -0.48, " margin, stated beforehand", color=COLORS[0], fontsize=10, va="center")
    save(figure, "verdicts")


def detectable() -> None:
    """Draw the smallest difference that a paired design finds over its number of pairs."""
    counts = np.arange(2, 41)
    figure, axis = canvas()
    for color, std in zip(COLORS, (0.003, 0.01, 0.03), strict=False):
        axis.semilogy(
            counts,
            [detectable_difference(std, int(count)) for count in counts],
            color=color,
            linewidth=2,
            label=f"scatter of the differences {std:g}",
        )
    axis.set(xlabel="pairs (seeds)", ylabel="found in 80 of 100 repetitions")
    axis.legend(frameon=False)
    save(figure, "detectable")


DRAW = {one.__name__: one for one in (light_cone, growth, shots, plan_steps, verdicts, detectable)}


def main() -> None:
    """Make the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=list(DRAW), default=list(DRAW))
    for name in parser.parse_args().only:
        DRAW[name]()


if __name__ == "__main__":
    main()
