"""Builds wheel and sdist, installs each in clean environments, and runs the demo there.

    python release/try_install.py                                  # this Python, wheel and sdist
    python release/try_install.py --python python3.12 python3.13
    python release/try_install.py --python --extras                # only the extras, each alone

Environments are made below --work (a temporary folder without it) and hold what constraints.txt says. Nothing
of the checkout is seen from inside: commands run in empty folders. All extras are tried in one environment;
what one of them brought is taken out before the next, so that none lives on packages of another.
"""

from __future__ import annotations

import argparse
import json
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
SMALL = (
    *("train", "demo", "--no-diagnose", "--set", "training.epochs=1", "--set", "training.batch_size=4"),
    *("--set", "data.options={train: 1, val: 1, test: 1, size: 64}", "--set", "data.patch_size=32"),
    *("--set", "data.patches_per_epoch=8", "--set"),
)
"""A training of seconds on generated scenes; the model follows."""
VIT = (
    "{model_type: dinov2, hidden_size: 16, num_hidden_layers: 3, num_attention_heads: 2, "
    "image_size: 56, patch_size: 14}"
)
SAVE_VIT = f"""
import torch, transformers, yaml
torch.manual_seed(0)
content = yaml.safe_load({VIT!r})
config = transformers.AutoConfig.for_model(content.pop("model_type"), **content)
transformers.AutoModel.from_config(config).save_pretrained("vit")
"""
SEARCH_STAC = """
import pystac
catalog = pystac.Catalog("scenes", "one")
catalog.normalize_and_save("stac", pystac.CatalogType.SELF_CONTAINED)
import pystac_client
client = pystac_client.Client.from_file("stac/catalog.json")
assert client.id == "scenes"
"""
TRIED: dict[str, tuple[tuple[str, ...], ...]] = {
    "encoders": (
        ("-c", SAVE_VIT),
        (*SMALL, "model={name: hq_unet, widths: [4, 4, 4, 6, 6], encoder: {weights: ./vit}}"),
    ),
    "loggers": (
        (
            "train",
            "digits_cnn",
            "--set",
            "training.epochs=1",
            "--set",
            "training.loggers=[tensorboard, mlflow]",
        ),
    ),
    "stac": (("-c", SEARCH_STAC),),
    "tune": (("tune", "digits_cnn", "--trials", "1", "--set", "training.epochs=1"),),
    "unetpp": ((*SMALL, "model={name: unet_plus_plus, widths: [4, 4, 4, 4, 4]}"),),
    "vit": (
        (
            *SMALL,
            "model={name: unet_vit_concat, widths: [4, 4, 4, 4, 4], "
            f"guidance: {{backbone: random, config: {VIT}, tile: 64, dim: 4, heads: 2}}}}",
        ),
    ),
}
"""What is done with each extra: words of `qhybrid`, or Python code after `-c`. The last one needs it."""
COMMANDS = (
    ("doctor",),
    ("circuits", "list"),
    ("demo", "--set", "training.epochs=1", "--no-diagnose"),
)


def main() -> None:
    """Build, install, run; end with code 1 if something fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--python", nargs="*", default=[sys.executable], help="interpreters to try")
    parser.add_argument("--extras", action="store_true", help="also each extra, alone")
    parser.add_argument("--work", type=Path, help="folder for builds and environments")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = (options.work or Path(temporary)).resolve()
        wheel, sdist = build(work / "dist")
        failed = []
        for python in options.python:
            for file in (wheel, sdist):
                failed += tried(python, work, file, f"{Path(python).name}-{file.suffix[1:]}", COMMANDS)
        if options.extras:
            failed += each_alone(work, wheel)
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


def tried(python: str, work: Path, file: Path, name: str, commands: tuple[tuple[str, ...], ...]) -> list[str]:
    """Install a file in a clean environment and run commands; return what failed."""
    started = time.perf_counter()
    place = Place(python, work, name)
    runs = [place.pip("install", torch_requirement()), place.pip("install", str(file)), place.pip("check")]
    if not place.all_run([*runs, *map(place.command, commands)]):
        return [name]
    print(f"{name}: {file.name} works ({time.perf_counter() - started:.0f} s)", flush=True)
    return []


def each_alone(work: Path, wheel: Path) -> list[str]:
    """Try each extra with nothing of the others there; return those that failed."""
    place, failed = Place(sys.executable, work, "extras"), []
    if not place.all_run([place.pip("install", torch_requirement()), place.pip("install", str(wheel))]):
        return ["extras"]
    bare = place.installed()
    for extra in extras():
        started = time.perf_counter()
        if place.runs(place.command(TRIED[extra][-1])):
            print(f"extra {extra}: what it is for works without it", flush=True)
            failed.append(extra)
        runs = [place.pip("install", f"{wheel}[{extra}]"), place.pip("check")]
        if not place.all_run([*runs, *map(place.command, TRIED[extra])]):
            failed.append(extra)
        brought = place.installed()
        changed = {name for name, version in bare.items() if brought.get(name) != version}
        if changed:
            print(f"extra {extra}: it changes the version of {', '.join(sorted(changed))}", flush=True)
            failed.append(extra)
        names = sorted(set(brought) - set(bare))
        place.all_run([place.pip("uninstall", "--yes", *names)] if names else [])
        print(f"extra {extra}: {len(names)} packages ({time.perf_counter() - started:.0f} s)", flush=True)
    return [f"extra {extra}" for extra in dict.fromkeys(failed)]


class Place:
    """A clean environment, and an empty folder where its commands run."""

    def __init__(self, python: str, work: Path, name: str) -> None:
        self.name, self.bin, self.folder = name, work / name / "bin", work / f"{name}-work"
        self.folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([python, "-m", "venv", str(work / name)], check=True)

    def pip(self, action: str, *words: str) -> list[str]:
        """Return a command of pip; it installs what constraints.txt says."""
        given = ["--quiet", "-c", str(ROOT / "constraints.txt")] if action == "install" else []
        return [str(self.bin / "python"), "-m", "pip", action, *given, *words]

    def command(self, words: tuple[str, ...]) -> list[str]:
        """Return a command of Python (`-c`) or of `qhybrid`."""
        return [str(self.bin / ("python" if words[0] == "-c" else "qhybrid")), *words]

    def installed(self) -> dict[str, str]:
        """Return the versions of the packages that are there, by name."""
        shown = self._done(self.pip("list", "--format=json")).stdout
        return {one["name"]: one["version"] for one in json.loads(shown)}

    def all_run(self, commands: list[list[str]]) -> bool:
        """Say whether all commands end well; the first that does not is shown, and ends them."""
        for words in commands:
            done = self._done(words)
            if done.returncode:
                shown = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
                print(f"{self.name}: {' '.join(words[:4])} ...\n{shown}", flush=True)
                return False
        return True

    def runs(self, words: list[str]) -> bool:
        """Say whether a command ends well, without showing what it says."""
        return not self._done(words).returncode

    def _done(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "QHYBRID_DATA")}
        return subprocess.run(words, cwd=self.folder, env=clean, capture_output=True, text=True)


def torch_requirement() -> str:
    """Return torch's pin: it goes first, since a looser range may bring gigabytes of other builds."""
    (found,) = re.findall(
        r"^torch==\S+", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    return str(found)


if __name__ == "__main__":
    main()
