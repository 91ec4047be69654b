"""Builds wheel and sdist, installs each in clean environments, and runs the demo there.

    python release/try_install.py                                  # this Python, wheel and sdist
    python release/try_install.py --python python3.12 python3.13
    python release/try_install.py --extras                         # each extra alone

Environments are made below --work (a temporary folder without it) and hold what constraints.txt says. Nothing
of the checkout is seen from inside: commands run in empty folders.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ("test", "bench", "docs")
"""Extras of people who work on the package."""
PROMISED = {
    "encoders": "transformers",
    "loggers": "tensorboard, mlflow",
    "stac": "pystac_client",
    "tune": "optuna",
    "unetpp": "monai",
    "vit": "transformers",
}
"""What each extra makes importable."""
COMMANDS = (
    ("doctor",),
    ("circuits", "list"),
    ("demo", "--set", "training.epochs=1", "--no-diagnose"),
)


def main() -> None:
    """Build, install, run; end with code 1 if something fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", nargs="*", default=[sys.executable], help="interpreters to try")
    parser.add_argument("--extras", action="store_true", help="also each extra in an environment of its own")
    parser.add_argument("--work", type=Path, help="folder for builds and environments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        wheel, sdist = build(work / "dist")
        failed = []
        for python in options.python:
            for file in (wheel, sdist):
                failed += tried(python, work, file, f"{Path(python).name}-{file.suffix[1:]}", COMMANDS)
        for extra in extras() if options.extras else ():
            failed += tried(sys.executable, work, wheel, f"extra-{extra}", (), extra)
    if failed:
        sys.exit("failed: " + "; ".join(failed))


def extras() -> list[str]:
    """Return the extras of users."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [name for name in project["optional-dependencies"] if name not in TOOLS]


def build(target: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel out of it, so that the sdist is known to hold what it takes."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,), (sdist,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return wheel, sdist


def tried(
    python: str, work: Path, file: Path, name: str, commands: tuple[tuple[str, ...], ...], extra: str = ""
) -> list[str]:
    """Install a file in a clean environment and run commands; return what failed."""
    environment, place = work / name, work / f"{name}-work"
    place.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    subprocess.run([python, "-m", "venv", str(environment)], check=True)
    own = environment / "bin" / "python"
    pip = [str(own), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    wanted = f"{file}[{extra}]" if extra else str(file)
    runs = [[*pip, torch_requirement()], [*pip, wanted], [str(own), "-m", "pip", "check"]]
    runs += [[str(environment / "bin" / "qhybrid"), *words] for words in commands]
    if extra:
        runs.append([str(own), "-c", f"import {PROMISED[extra]}"])
    for words in runs:
        clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "QHYBRID_DATA")}
        done = subprocess.run(words, cwd=place, env=clean, capture_output=True, text=True)
        if done.returncode:
            print(
                f"{name}: {' '.join(words[:4])} ...\n{done.stdout[-2000:]}{done.stderr[-2000:]}", flush=True
            )
            return [name]
    print(f"{name}: {file.name} works ({time.perf_counter() - started:.0f} s)", flush=True)
    return []


def torch_requirement() -> str:
    """Return torch's pin: it goes first, since a looser range may bring gigabytes of other builds."""
    (found,) = re.findall(
        r"^torch==\S+", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    return str(found)


if __name__ == "__main__":
    main()
