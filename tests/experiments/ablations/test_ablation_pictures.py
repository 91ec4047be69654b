"""The picture of an ablation shows near arms also where another one is far away."""

from __future__ import annotations

from itertools import pairwise

import pytest
from matplotlib.figure import Figure

from qhybrid.experiments.ablations.pictures import PLAIN, draw_arms, judged_arms


def result_of(*differences: float) -> dict:
    """An ablation of accuracy whose arms differ by so much, with two seeds around each."""
    arms = [{"arm": "as_is", "metrics": {"accuracy": {"mean": 0.9}}}]
    for number, mean in enumerate(differences):
        values = [mean - 0.001, mean + 0.001]
        found = {"kind": "different", "text": "different", "mean": mean, "values": values}
        arms.append({"arm": f"arm{number}", "difference": {**found, "low": values[0], "high": values[1]}})
    return {
        "name": "x", "model": "y", "metric": "accuracy", "margin": 0.005, "folds": [], "arms": arms
    }  # fmt: skip


def drawn(*differences: float):
    axes = Figure().subplots()
    result = result_of(*differences)
    draw_arms(axes, result, judged_arms(result), PLAIN)
    return axes


@pytest.mark.parametrize("far", [-0.49, 0.49])
def test_an_arm_that_is_far_away_stands_at_the_edge(far):
    axes = drawn(0.002, far, -0.004)
    low, high = axes.get_xlim()
    assert -1 < low < -0.5
    assert high == -low
    (said,) = [text for text in axes.texts if "beyond the axis" in text.get_text()]
    assert said.get_text() == f"{100 * far:+.2f}, beyond the axis"
    assert low < said.xy[0] < high
    assert (said.xy[0] > 0) == (far > 0)


def test_arms_of_one_size_are_all_on_the_axis():
    axes = drawn(-0.02, 0.03, -0.1)
    low, high = axes.get_xlim()
    assert low < -10.1 < 10.1 < high
    assert not [text for text in axes.texts if "beyond" in text.get_text()]
    means = sorted(float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "D")
    assert means == pytest.approx([-10, -2, 3])


def test_arms_that_are_all_far_beyond_the_margin_are_on_the_axis():
    axes = drawn(-0.19, -0.14, -0.16)
    low, high = axes.get_xlim()
    assert low < -19.1 < 19.1 < high
    assert not [text for text in axes.texts if "beyond the axis" in text.get_text()]


def test_numbers_below_the_axis_do_not_run_into_each_other(tmp_path):
    """Differences of a mean IoU have four digits."""
    figure = Figure(figsize=(9.2, 4), layout="constrained")
    axes = figure.subplots()
    result = {**result_of(0.001, -0.008, 0.0085), "metric": "miou", "folds": [1, 2]}
    result["arms"][0]["metrics"]["miou"] = {"mean": 0.445}
    for arm in result["arms"][1:]:
        arm["arm"] = "no_entanglement"
        arm["difference"]["text"] = "not decidable: this design finds differences above 0.0116 only"
    draw_arms(axes, result, judged_arms(result), PLAIN)
    figure.savefig(tmp_path / "x.png")
    low, high = axes.get_xlim()
    labels = [label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
    boxes = [label.get_window_extent() for label in labels]
    assert len(boxes) > 3
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))
