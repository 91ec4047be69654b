"""An analysis as one page of pictures: gradients, fidelities, spectrum, light cones, cost."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from qhybrid.analysis.analyze import WHOLE, CircuitAnalysis
from qhybrid.analysis.cost import BATCH, ClassicalCost, seconds_text
from qhybrid.analysis.estimates import NotComputed
from qhybrid.analysis.expressibility import Expressibility
from qhybrid.analysis.spectrum import InputSpectrum
from qhybrid.analysis.structure import Structure
from qhybrid.analysis.trainability import MEAN, SUM, Growth, Trainability
from qhybrid.data.figures import save_figure

# Okabe and Ito: neighbours stay apart for colour-blind readers.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#9a9a9a"
DPI = 110
MOST_BARS, MOST_ROWS, MOST_INPUTS = 40, 40, 24
MEMORY_MARKS = ((2**20, "MiB"), (2**30, "GiB"), (2**40, "TiB"))


def save_page(found: CircuitAnalysis, path: Path) -> Path:
    """Draw an analysis as a PNG file, whole or not at all, and return its path."""
    figure = Figure(figsize=(13, 8.4), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
    sizes = f"{found.structure.num_qubits} qubits, {found.structure.num_weights} weights"
    figure.suptitle(f"{found.structure.name}: {sizes}, seed {found.seed}", x=0.01, ha="left", fontsize=13)
    (gradients, fidelities, spectrum), (cones, cost, more) = figure.subplots(2, 3)
    for axes in (gradients, fidelities, spectrum, cones, cost, more):
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10.5)
        axes.title.set_ha("left")
        axes.title.set_position((0.0, 1.0))
        axes.tick_params(labelsize=8.5)
    if found.growth is not None:
        _draw_growth(gradients, found.growth)
    else:
        _draw_gradients(gradients, found.trainability)
    _draw_fidelities(fidelities, found)
    _draw_spectrum(spectrum, found.spectra)
    _draw_cones(cones, found.structure)
    _draw_cost(cost, found.cost)
    _draw_observables(more, found)
    return save_figure(figure, path, DPI)


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, fontsize=10.5, loc="left")


def _say(axes: Any, title: str, text: str) -> None:
    """Put a sentence in the place of a picture that there is not."""
    import textwrap

    _title(axes, title)
    axes.set_axis_off()
    axes.text(
        0.0, 0.9, textwrap.fill(text, 46), va="top", fontsize=9, transform=axes.transAxes, color="#444444"
    )


def _draw_growth(axes: Any, growth: Growth | NotComputed) -> None:
    title = "Gradient variance against size"
    if isinstance(growth, NotComputed):
        _say(axes, title, str(growth))
        return
    _title(axes, title)
    slopes = {one.series: one for one in growth.slopes if one.angle == "mean"}
    single = all(len(one.series) == 3 for one in growth.circuits)  # of one observable both are the same
    for name, color in ((MEAN, BLUE), (SUM, ORANGE))[: 1 if single else 2]:
        values = [dict(one.series)[name] for one in growth.circuits]
        slope, label = slopes[name], "the observable" if single else name
        if slope.slope is not None and slope.low is not None and slope.high is not None:
            label += f"\nslope {slope.slope:+.2f} [{slope.low:+.2f}, {slope.high:+.2f}] a qubit"
        axes.errorbar(
            growth.qubits,
            [one.value for one in values],
            [2 * one.error for one in values],
            fmt="o-",
            color=color,
            markersize=4,
            linewidth=1.4,
            label=label,
        )
    axes.set_yscale("log", base=2)
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.45)  # room for the legend
    axes.set_xticks(growth.qubits)
    missing = ", ".join(str(size) for size, _ in growth.left_out)
    missing = f"; {missing} not computed" if missing else ""
    axes.set_xlabel(
        f"qubits ({growth.argument} {growth.sizes[0]} to {growth.sizes[-1]}{missing})", fontsize=9
    )
    axes.set_ylabel("variance of a gradient", fontsize=9)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, loc="upper right")


def _draw_gradients(axes: Any, found: Trainability | NotComputed) -> None:
    title = "Gradient variance of each angle"
    axes.set_axisbelow(True)
    if isinstance(found, NotComputed):
        _say(axes, title, str(found))
        return
    _title(axes, title)
    own = [one for one in found.angles if one.kind == "weight"] or list(found.angles)
    kind = own[0].kind
    shown = own[:MOST_BARS]
    places = np.arange(len(shown))
    axes.bar(places, [one.of_sum.value for one in shown], color=BLUE, width=0.7)
    errors = [2 * one.of_sum.error for one in shown]
    axes.errorbar(places, [one.of_sum.value for one in shown], errors, fmt="none", color="black", linewidth=1)
    step = max(1, math.ceil(len(shown) / 7))
    axes.set_xticks(places[::step], [one.name for one in shown][::step], fontsize=8)
    more = f", first {len(shown)} of {len(own)}" if len(own) > len(shown) else ""
    axes.set_xlabel(f"{kind}{more}; --grow shows it against size", fontsize=9)
    axes.set_ylabel("variance, sum of observables", fontsize=9)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)


def _draw_fidelities(axes: Any, found: CircuitAnalysis) -> None:
    title = "Fidelities of pairs of random states"
    if isinstance(found.expressibility, NotComputed):
        _say(axes, title, str(found.expressibility))
        return
    of = "" if found.states.of == WHOLE else f", {len(found.states.qubits)}-qubit light cone"
    _title(axes, title + of)
    first = found.expressibility[0]
    edges = np.linspace(0, 1, len(first.haar) + 1)
    for one, color in zip(found.expressibility, (BLUE, ORANGE)):
        label = f"{one.drawn}: KL {one.divergence.text()}"
        axes.stairs(one.measured, edges, baseline=None, color=color, linewidth=1.3, label=label)
    look = {"color": "black", "linewidth": 1.1, "linestyle": "--", "label": "Haar-random"}
    axes.stairs(first.haar, edges, baseline=None, **look)
    axes.set_yscale("log")
    axes.set_ylim(max(0.3 / first.divergence.samples, 1e-6), 1.5)
    axes.set_xlabel(_fidelity_axis(first), fontsize=9)
    axes.set_ylabel("share of pairs", fontsize=9)
    axes.legend(fontsize=8.5, frameon=False)


def _fidelity_axis(one: Expressibility) -> str:
    if one.bins == "equal width":
        return "fidelity F"
    return f"Haar's probability of a fidelity below F ({one.qubits} qubits)"


def _draw_spectrum(axes: Any, spectra: tuple[InputSpectrum, ...] | NotComputed) -> None:
    title = "Frequencies that inputs reach"
    if isinstance(spectra, NotComputed):
        _say(axes, title, str(spectra))
        return
    own = [one for one in spectra if one.frequencies]
    if not own:
        _say(axes, title, "; ".join(dict.fromkeys(f"{one.name}: {one.note}" for one in spectra)))
        return
    _title(axes, title)
    shown = own[:MOST_INPUTS]
    largest = max(wave.amplitude for one in shown for wave in one.frequencies)
    for row, one in enumerate(shown):
        x = [sign * wave.value for wave in one.frequencies for sign in ((-1, 1) if wave.value else (1,))]
        size = [wave.amplitude for wave in one.frequencies for _ in ((-1, 1) if wave.value else (1,))]
        axes.scatter(
            x, [row] * len(x), s=[12 + 130 * value / largest for value in size], color=BLUE, alpha=0.75
        )
    step = max(1, math.ceil(len(shown) / 12))
    axes.set_yticks(range(0, len(shown), step), [one.name for one in shown][::step], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    values = sorted({wave.value for one in shown for wave in one.frequencies})
    if len(values) <= 4:
        ticks = sorted({0.0, *values, *(-value for value in values if value)})
        axes.set_xticks(ticks, [_radians(tick) for tick in ticks])
    edge = 1.25 * max(values) or 1.0
    axes.set_xlim(-edge, edge)
    left = f"; {len(own) - len(shown)} more inputs" if len(own) > len(shown) else ""
    axes.set_xlabel(f"rad a unit of the input{left}\n(area: amplitude, largest {largest:.2f})", fontsize=9)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _radians(value: float) -> str:
    share = value / math.pi
    if value and abs(share - round(share)) < 1e-9:
        number = round(share)
        return {1: "π", -1: "-π"}.get(number, f"{number}π")
    return f"{value:.3g}"


def _draw_cones(axes: Any, structure: Structure) -> None:
    shown = structure.cones[:MOST_ROWS]
    more = f", first {len(shown)} of {len(structure.cones)}" if len(structure.cones) > len(shown) else ""
    _title(axes, f"Light cones: qubits that an observable sees{more}")
    grid = np.zeros((max(1, len(shown)), structure.num_qubits))
    for row, cone in enumerate(shown):
        grid[row, list(cone.qubits)] = 1.0
    from matplotlib.colors import ListedColormap

    axes.pcolormesh(
        grid, cmap=ListedColormap(["#f2f2f2", BLUE]), edgecolors="white", linewidth=0.8, vmin=0, vmax=1
    )
    axes.set_ylim(max(1, len(shown)), 0)
    step = max(1, math.ceil(len(shown) / 16))
    places = range(0, len(shown), step)
    names = [cone.observable if len(cone.observable) <= 14 else f"{cone.observable[:13]}…" for cone in shown]
    axes.set_yticks([place + 0.5 for place in places], names[::step], fontsize=8)
    stride = max(1, math.ceil(structure.num_qubits / 16))
    axes.set_xticks(
        [qubit + 0.5 for qubit in range(0, structure.num_qubits, stride)],
        [str(qubit) for qubit in range(0, structure.num_qubits, stride)],
        fontsize=8,
    )
    axes.set_xlabel("qubit", fontsize=9)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def _draw_cost(axes: Any, cost: ClassicalCost) -> None:
    title = "Exact value on a classical computer"
    if cost.seconds_one is None or cost.seconds_batched is None or cost.method == "refused":
        _say(axes, title, cost.sentence)
        return
    _title(axes, title)
    rows = [("one sample", cost.seconds_one, BLUE), (f"in batches of {BATCH}", cost.seconds_batched, BLUE)]
    rows += [(f"the same by\n{name}", s, GREY) for name, s, _ in cost.weighed if name != cost.method]
    rows = [(name, max(seconds, 1e-7), color) for name, seconds, color in rows if math.isfinite(seconds)]
    places = np.arange(len(rows))
    seconds = [one for _, one, _ in rows]
    axes.barh(places, seconds, color=[color for _, _, color in rows], height=0.5)
    for place, one in zip(places, seconds):
        axes.text(one * 1.3, place, seconds_text(one), va="center", fontsize=8.5)
    axes.set_yticks(places, [name for name, _, _ in rows], fontsize=8.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xscale("log")
    low, high = min(seconds) / 5, max(seconds)
    axes.set_xlim(low, high * (high / low) ** 0.7)  # room for the times in words
    width = f"contraction width 2^{cost.width:.3g}, " if cost.width is not None else ""
    adds = f"{cost.multiply_adds:,.0f} multiply-adds" if cost.multiply_adds is not None else ""
    axes.set_xlabel(f"seconds a sample, predicted; {cost.method},\n{width}{adds}", fontsize=9)


def _draw_observables(axes: Any, found: CircuitAnalysis) -> None:
    title = "Gradient variance of each observable"
    if isinstance(found.trainability, NotComputed):
        _say(axes, title, str(found.trainability))
        return
    series = found.trainability.series[2:]
    if not series:
        _say(axes, title, "no observable depends on any angle")
        return
    _title(axes, title)
    sizes = {cone.observable: len(cone.qubits) for cone in found.structure.cones}
    x = [sizes[name] for name, _ in series]
    axes.errorbar(
        x,
        [value.value for _, value in series],
        [2 * value.error for _, value in series],
        fmt="o",
        color=GREEN,
        markersize=4.5,
        alpha=0.75,
        linewidth=1,
    )
    values = [value.value for _, value in series]
    if min(values) > 0 and max(values) > 20 * min(values):
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.25 * max(values) or 1.0)
    axes.set_xlim(0, max(x) + 1)
    axes.set_xlabel("qubits of its light cone", fontsize=9)
    axes.set_ylabel("variance of a gradient, mean over angles", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
