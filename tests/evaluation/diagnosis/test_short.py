"""The short form at the end of an evaluation: one line, within its time, and no metric changes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from qhybrid.cli.main import execute
from qhybrid.evaluation import evaluate_run, load_subject
from qhybrid.evaluation.diagnosis import short
from qhybrid.evaluation.diagnosis.diagnose import diagnose_run
from qhybrid.evaluation.diagnosis.short import short_diagnosis
from qhybrid.evaluation.diagnosis.trials import verdict_numbers
from qhybrid.evaluation.diagnosis.wording import conclude
from qhybrid.metrics.verdict import judge_all


@pytest.fixture(autouse=True)
def _all_the_time(monkeypatch):
    """A busy machine must not decide how many samples are taken."""
    monkeypatch.setattr(short, "LEAST_SECONDS", 1e9)


def written(found):
    return json.loads((found.folder / "metrics.json").read_text())


def test_metrics_do_not_change(make_image_run, mnist_root):
    folder = make_image_run()
    plain = written(evaluate_run(folder, "test", data_root=mnist_root))
    found = evaluate_run(folder, "test", data_root=mnist_root, diagnose=True)
    more = written(found)
    use = more.pop("circuit_use")
    assert {**more, "seconds": 0} == {**plain, "seconds": 0}
    assert use == found.circuit_use
    assert use["layers"] == ["quanvolution.filter", "head.classifier.circuit"]
    assert use["samples"] == 16
    # The next evaluation without it leaves no line of an older one.
    assert "circuit_use" not in written(evaluate_run(folder, "test", data_root=mnist_root))


def test_numbers_are_those_of_the_whole_diagnosis(known_run, tmp_path):
    folder = known_run()
    use = evaluate_run(folder, "test", data_root=tmp_path, diagnose=True).circuit_use
    whole = diagnose_run(folder, samples=64, data_root=tmp_path).content
    rows = {row["name"]: row["value"] for row in whole["targets"][0]["replaced"]}
    assert use["trained"] == whole["trained"]["value"] == 1.0
    for kind in ("mean", "zero"):  # of permutations the short form has one draw
        assert use["replaced"][kind]["value"] == pytest.approx(rows[kind], abs=1e-12)
    assert use["kind"] == "used"
    assert re.fullmatch(
        r"used: accuracy 100.00 %, outputs replaced: mean [\d.]+ %, zero [\d.]+ %, permuted [\d.]+ % "
        r"\(64 images\)",
        use["line"],
    )


def test_a_blind_model_says_so(known_run, tmp_path):
    folder = known_run("blind", weight=0.0, bias=1.0)
    use = evaluate_run(folder, "test", data_root=tmp_path, diagnose=True).circuit_use
    assert use["line"].startswith("not used: accuracy ")
    assert use["sentence"].startswith("This model does not use its circuit: ")


def line(metric, **differences):
    """Return the line for differences of a metric, one of each unit."""
    verdicts = judge_all(differences, 0.005)
    values = {kind: 0.9 + float(np.mean(one)) for kind, one in differences.items()}
    kind = conclude(verdicts, values, 0.9, metric, "4 windows").kind
    replaced = {one: {"value": values[one], **verdict_numbers(verdicts[one], metric)} for one in differences}
    found = {"kind": kind, "metric": metric, "trained": 0.9, "replaced": replaced, "samples": 4, "asked": 4}
    return short.in_one_line({**found, "counted": "4 windows of 128 px within these scenes, not blended"})


def test_what_is_not_decidable_names_the_limit_of_what_is_open():
    """Not that of what is equivalent, and none where equal units do not say how they scatter."""
    rng = np.random.default_rng(0)
    wide, narrow = rng.normal(0, 0.05, 8), rng.normal(0, 0.0001, 8)
    limit = judge_all(dict(zip("abc", map(np.ndarray.tolist, (wide, narrow, narrow)))), 0.005)["a"].detectable
    open_ones = line("miou", mean=wide.tolist(), zero=narrow.tolist(), permuted=narrow.tolist())
    assert open_ones.startswith(f"use not decidable below {limit:.4f}: mIoU 0.9000")
    equal = line("miou", mean=[0.0] * 4, zero=narrow.tolist(), permuted=narrow.tolist())
    assert equal.startswith("use not decidable by so few: mIoU 0.9000")
    assert equal.endswith("(4 windows of 128 px within these scenes, not blended)")


def test_models_without_circuits_say_nothing(make_run, scenes_root):
    found = evaluate_run(make_run(name="unet"), "test", data_root=scenes_root, diagnose=True)
    assert found.circuit_use is None
    assert "circuit_use" not in written(found)


class Clock:
    """A clock that stands still but for what passes cost."""

    def __init__(self):
        self.now = 0.0
        self.busy = 1.0  # the wall clock in processor time
        self.threads = 1

    def perf_counter(self):
        return self.now * self.busy

    def process_time(self):
        return self.now * self.threads


@pytest.fixture
def clock(monkeypatch):
    """Each image that goes through the model takes a second of work."""
    clock = Clock()
    monkeypatch.setattr(short, "time", clock)
    run = short.SampledUnits.counts

    def counted(units, probe, progress=None):
        clock.now += units.samples
        return run(units, probe, progress)

    monkeypatch.setattr(short.SampledUnits, "counts", counted)
    return clock


@pytest.mark.parametrize(
    ("budget", "samples"),
    [(1000.0, 64), (200.0, 40), (60.0, 10)],
)
def test_it_takes_as_many_samples_as_the_time_allows(known_run, tmp_path, clock, budget, samples):
    subject = load_subject(known_run(), "best", "test", None, tmp_path)
    use = short_diagnosis(subject, 1.0, budget=budget)
    assert clock.now <= budget
    assert use["samples"] <= 64
    assert use["samples"] >= samples
    assert ("as many as the time allows" in use["line"]) == (use["samples"] < 64)


def test_a_busy_machine_costs_no_samples(known_run, tmp_path, clock):
    subject = load_subject(known_run(), "best", "test", None, tmp_path)
    clock.busy = 4.0
    assert short_diagnosis(subject, 1.0, budget=1000.0)["samples"] == 64
    assert clock.perf_counter() > 1000.0
    # But nobody waits for ever, as where all the work is done elsewhere.
    clock.busy = 1000.0
    began = clock.perf_counter()
    use = short_diagnosis(subject, 1.0, budget=40_000.0)
    assert use["samples"] < 64
    assert clock.perf_counter() - began <= short.PATIENCE * 40_000.0


def test_threads_are_not_counted_twice(known_run, tmp_path, clock):
    subject = load_subject(known_run(), "best", "test", None, tmp_path)
    clock.threads = 8
    assert short_diagnosis(subject, 1.0, budget=1000.0)["samples"] == 64


def test_it_gives_up_where_not_even_a_few_fit(known_run, tmp_path, clock):
    subject = load_subject(known_run(), "best", "test", None, tmp_path)
    use = short_diagnosis(subject, 1.0, budget=6.0)
    assert use["line"] == "use not diagnosed: 4 samples take longer than 6 s"
    assert clock.now <= 6.0


def test_a_tenth_of_a_long_evaluation(known_run, tmp_path, clock, monkeypatch):
    monkeypatch.setattr(short, "LEAST_SECONDS", 20.0)
    subject = load_subject(known_run(), "best", "test", None, tmp_path)
    assert short_diagnosis(subject, 30.0)["samples"] < 10  # 20 s
    assert short_diagnosis(subject, 3000.0)["samples"] == 64  # 300 s


def test_an_error_costs_the_line_alone(known_run, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise KeyError("something of a plugin")

    monkeypatch.setattr(short, "judge_replaced", fail)
    found = evaluate_run(known_run(), "test", data_root=tmp_path, diagnose=True)
    assert found["accuracy"] == 1.0
    assert "not diagnosed" in found.circuit_use["line"]


def test_commands_print_the_line(known_run, tmp_path, monkeypatch, capsys):
    folder = known_run()
    monkeypatch.chdir(tmp_path)
    assert execute(["evaluate", str(folder)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("circuit ")]
    assert line.startswith("circuit     used: accuracy 100.00 %")
    assert execute(["evaluate", str(folder), "--no-diagnose"]) == 0
    assert "circuit" not in capsys.readouterr().out
    assert execute(["diagnose", str(folder), "--samples", "40", "--layer", "head.classifier.circuit"]) == 0
    out = capsys.readouterr().out
    assert "This model uses its circuit: " in out
    assert "gradient norms in training: not recorded" in out
    assert execute(["diagnose", str(folder), "--samples", "40", "--layer", "head.classifier.circuit"]) == 0
    assert "read back" in capsys.readouterr().out
    assert execute(["diagnose", str(folder), "--layer", "x"]) == 1
    assert "No quantum layer named x" in capsys.readouterr().err
