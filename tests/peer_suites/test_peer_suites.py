"""The suites of Qiskit and Qiskit Machine Learning with our estimator, gradient and layer inside.

Marked slow: it downloads the source distributions of the installed versions, and needs `ddt` and the package
index. Every test that fails with our parts must fail with theirs too, or be explained in differences.yaml; an
explanation that no test needs any more is a failure as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

HERE = Path(__file__).resolve().parent
SUITES = {
    "qiskit": ["test/python/primitives/test_statevector_estimator.py"],
    "qiskit-machine-learning": [
        "test/neural_networks/test_estimator_qnn.py",
        "test/neural_networks/test_effective_dimension.py",
        "test/connectors",
        "test/gradients/test_estimator_gradient.py",
        "test/algorithms/classifiers/test_neural_network_classifier.py",
        "test/algorithms/regressors",
    ],
}
"""Test files by package."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=SUITES)
def suite(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    pytest.importorskip("ddt")
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    words = ["pip", "download", "--quiet", "--no-deps", "--no-binary", name, f"{name}=={version(name)}"]
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True)
    found = list(folder.glob("*.tar.gz"))
    if not found:
        pytest.skip(f"the source distribution of {name} is not to be had: {done.stderr.strip()[-200:]}")
    with tarfile.open(found[0]) as archive:
        members = [member for member in archive.getmembers() if "/test/" in member.name]
        archive.extractall(folder, members=members, filter="data")
    return name, next(path for path in folder.iterdir() if path.is_dir())


def outcomes(name: str, folder: Path, *, ours: bool) -> dict[str, str]:
    """Return the message of every test that failed, and "" for every one that passed."""
    report = folder / f"{'ours' if ours else 'theirs'}.xml"
    root = HERE.parents[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(HERE)]),
        "OMP_NUM_THREADS": "1",
    }
    words = [
        "-m",
        "pytest",
        "-q",
        "-W",
        "ignore",
        f"--junitxml={report}",
        *(["-p", "our_parts"] if ours else []),
    ]
    subprocess.run([sys.executable, *words, *SUITES[name]], cwd=folder, env=environment, capture_output=True)
    found = {}
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        if case.find("skipped") is not None:
            continue
        wrong = [part for kind in ("failure", "error") for part in case.findall(kind)]
        text = wrong[0].get("message", "failed") or "failed" if wrong else ""
        key = f"{case.get('classname')}.{case.get('name')}"
        found[key] = found.get(key) or text
    return found


def test_our_parts_pass_the_suite(suite: tuple[str, Path]) -> None:
    name, folder = suite
    theirs, ours = outcomes(name, folder, ours=False), outcomes(name, folder, ours=True)
    explained = yaml.safe_load((HERE / "differences.yaml").read_text())[name] or {}
    assert len(ours) > 5
    assert set(ours) == set(theirs)
    failed = {test: text for test, text in ours.items() if text and not theirs[test]}
    assert {test: text for test, text in failed.items() if test not in explained} == {}
    assert sorted(set(explained) - set(failed)) == []
