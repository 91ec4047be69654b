"""The package's names: what is listed is there, and asking for nothing loads nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import qhybrid
from qhybrid import api


def test_every_listed_name_is_there():
    for name in qhybrid.__all__:
        assert getattr(qhybrid, name) is not None
    assert set(qhybrid.__all__) - {"__version__"} <= set(api.__all__)
    assert set(qhybrid.__all__) <= set(dir(qhybrid))


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = qhybrid.trian


def test_importing_the_package_loads_neither_torch_nor_qiskit():
    heavy = "('torch', 'qiskit', 'pandas', 'lightning')"
    code = f"import sys, qhybrid; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_only_training_loads_lightning():
    """It takes seconds and 150 MiB, which maps, evaluations, reports and plans do without."""
    rooms = "inference, evaluation.evaluate, report, hardware.jobs.execution, experiments.sweeps, api.studies"
    modules = ", ".join(f"qhybrid.{room}" for room in rooms.split(", "))
    code = f"import sys, {modules}; print([n for n in ('lightning', 'torchmetrics') if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
