"""`bf16-if-native` becomes what the machine can do, and stays that in the run's own recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qhybrid.config import load_recipe
from qhybrid.training import precision, train
from qhybrid.training.precision import native_bf16_cpu, with_resolved_precision
from qhybrid.training.run_folder import read_recipe
from qhybrid.workspace import starter_root

DIGITS = starter_root() / "runs" / "digits_cnn.yaml"
CPU = ["training.accelerator=cpu"]


@pytest.mark.parametrize(("flag", "native"), [("avx512_bf16", True), ("amx_bf16", True), ("avx2", False)])
def test_native_formats_are_read_off_the_processor(monkeypatch, flag, native):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", flag: True})
    assert native_bf16_cpu() is native


def test_this_processor_agrees_with_the_operating_system():
    try:
        words = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        pytest.skip("no /proc/cpuinfo")
    assert native_bf16_cpu() == bool(words & {"avx512_bf16", "amx_bf16", "bf16"})


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_the_run_keeps_what_it_was_trained_in(monkeypatch, tmp_path, native, expected):
    monkeypatch.setattr(precision, "native_bf16_cpu", lambda: native)
    settings = [*CPU, "training.precision=bf16-if-native", "training.epochs=1", "training.progress=false"]
    recipe = load_recipe(DIGITS, settings)
    run = train(recipe, tmp_path, tmp_path / "run")
    assert read_recipe(run).training.precision == expected
    # Resuming elsewhere goes on in that format.
    monkeypatch.setattr(precision, "native_bf16_cpu", lambda: not native)
    assert with_resolved_precision(read_recipe(run)).training.precision == expected


@pytest.mark.parametrize("given", ["auto", "32-true", "bf16-mixed"])
def test_other_values_are_left_alone(given):
    recipe = load_recipe(DIGITS, [*CPU, f"training.precision={given}"])
    assert with_resolved_precision(recipe) == recipe
