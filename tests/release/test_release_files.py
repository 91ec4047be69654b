"""What a release consists of says the same everywhere: versions, dependencies, licences."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from qhybrid.version import __version__

CHECKOUT = Path(__file__).parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
CONDA = {"torch": ["pytorch"], "matplotlib": ["matplotlib-base"], "dask": ["dask", "distributed"]}
"""Names on conda-forge where they are not those of PyPI."""
REFUSED = re.compile(r"\bA?GPL|SSPL|BUSL|Commons-Clause|LicenseRef-(?!Matplotlib)")
"""Licences that a package under Apache-2.0 cannot bring along."""


def test_one_version():
    assert PROJECT["version"] == __version__
    assert yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())["version"] == __version__
    recipe = (CHECKOUT / "release" / "conda" / "recipe.yaml").read_text()
    assert yaml.safe_load(recipe)["context"]["version"] == __version__


def test_continuous_integration_calls_targets_that_are_there():
    jobs = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE))
    called = {step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}
    assert called == {"make test", "make docs", "make audit"}
    assert {command.removeprefix("make ") for command in called} <= targets
    for job in jobs.values():
        (python,) = [
            one["with"]["python-version"] for one in job["steps"] if "python-version" in one.get("with", {})
        ]
        assert f">={python}" == PROJECT["requires-python"]


def test_citation_has_what_the_format_demands():
    content = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(content)
    assert content["license"] == PROJECT["license"]


def test_conda_recipe_has_the_dependencies_of_the_package():
    recipe = yaml.safe_load((CHECKOUT / "release" / "conda" / "recipe.yaml").read_text())
    wanted = ["python"]
    for text in PROJECT["dependencies"]:
        one = Requirement(text)
        for name in CONDA.get(one.name, [one.name]):
            limits = (
                text.removeprefix(one.name).partition("]")[2] if one.extras else text.removeprefix(one.name)
            )
            wanted.append(f"{name} {limits}")
    assert recipe["requirements"]["run"] == wanted
    assert PROJECT["requires-python"] == f">={recipe['context']['python_min']}"
    (entry,) = recipe["build"]["python"]["entry_points"]
    assert entry == f"qhybrid = {PROJECT['scripts']['qhybrid']}"


def test_what_is_imported_is_declared():
    """Not only brought along by a dependency that may leave it out one day."""
    every = (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    declared = {canonicalize_name(Requirement(text).name) for texts in every for text in texts}
    declared |= {"distributed"}  # dask[distributed]
    provided = packages_distributions()
    missing = set()
    for file in (CHECKOUT / "qhybrid").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for top in {name.partition(".")[0] for name in names} - {"qhybrid", *sys.stdlib_module_names}:
                if not {canonicalize_name(one) for one in provided.get(top, [top])} & declared:
                    missing.add(top)
    assert not missing


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the page is that of Python 3.11")
@pytest.mark.skipif(sys.platform != "linux", reason="the page is that of Linux")
def test_dependencies_and_their_licences():
    write = runpy.run_path(str(CHECKOUT / "docs" / "write_dependencies.py"))
    page = (CHECKOUT / "docs" / "dependencies.md").read_text()
    assert page == write["page"](), "run: python docs/write_dependencies.py"
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) > 100
    assert not [row for row in rows if REFUSED.search(row[2])]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (CHECKOUT / "constraints.txt").read_text(), re.MULTILINE))
    pinned = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    assert not [name for name, version, _ in rows if name in pinned and pinned[name] != version]


@pytest.mark.parametrize(
    "needed", ["pyproject.toml", "constraints.txt", "hatch_build.py", "README.md", "qhybrid", "runs"]
)
def test_the_image_is_built_of_files_that_the_builder_gets(needed):
    copied = re.findall(r"^COPY (?!--from)(.*)$", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE)
    sources = [word for line in copied for word in line.split()[:-1]]
    assert {"pyproject.toml", "constraints.txt", "hatch_build.py", "README.md", "qhybrid"} <= set(sources)
    allowed = re.findall(r"^!(\S+)", (CHECKOUT / ".dockerignore").read_text(), re.MULTILINE)
    for source in sources:
        assert (CHECKOUT / source).exists(), source
        assert [one for one in allowed if one.split("/")[0] == source], source


def test_the_image_holds_neither_secrets_nor_a_compiler_and_runs_as_a_user():
    last = (CHECKOUT / "Dockerfile").read_text().split("\nFROM ")[-1]
    assert "g++" not in last
    (user,) = re.findall(r"^USER (.*)$", last, re.MULTILINE)
    assert int(user) > 0  # Kubernetes' runAsNonRoot takes no name
    assert f"useradd --uid {user} " in last
    assert not re.search(
        r"^(ARG|ENV) .*(TOKEN|SECRET|PASSWORD)", (CHECKOUT / "Dockerfile").read_text(), re.MULTILINE
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not there")
def test_the_image_builds():
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("docker is there, but its service does not run")
    subprocess.run(["docker", "build", "--tag", "qhybrid-test", str(CHECKOUT)], check=True)
    shown = subprocess.run(
        ["docker", "run", "--rm", "qhybrid-test", "circuits", "list"], capture_output=True, check=True
    )
    assert b"hq_unet_qcnn" in shown.stdout


def test_every_extra_of_users_is_tried():
    tried = runpy.run_path(str(CHECKOUT / "release" / "try_install.py"))
    assert set(tried["TRIED"]) == set(tried["extras"]())


@pytest.mark.slow
def test_wheel_and_sdist_install_and_run_the_demo_in_clean_environments():
    """Takes many minutes and downloads all dependencies."""
    subprocess.run([sys.executable, str(CHECKOUT / "release" / "try_install.py")], check=True)
