"""Build hook: compile the package's C++ library if a compiler is there; otherwise the wheel is pure Python.

`python hatch_build.py` compiles it into this checkout. The variable QHYBRID_BUILD_KERNEL is `0` to leave it
out and `1` to fail where it cannot be compiled (for wheels that must have it); CXX names the compiler.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, without the build tool
    BuildHookInterface = object  # type: ignore[assignment, misc]

FOLDER = Path("qhybrid/engines/exact/native")
SOURCES = ("kernel.cpp", "density.cpp", "maps.cpp")
VARIABLE = "QHYBRID_BUILD_KERNEL"
FLAGS = ["-std=c++17", "-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-psabi"]
X86 = {"x86_64", "amd64"}


def library_name(level: str) -> str:
    """Return the file name of a build."""
    suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    return f"qhybrid_kernel_{level}{suffix}"


def levels() -> dict[str, list[str]]:
    """Return the builds for this processor family, with their flags; which one is loaded is decided there."""
    if platform.machine().lower() in X86:
        return {"baseline": [], "v3": ["-march=x86-64-v3"]}
    return {"baseline": []}


def find_compiler() -> str | None:
    """Return a compiler that knows the vector extensions of GCC and Clang, or None."""
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    return next((found for name in wanted if (found := shutil.which(name.split()[0]))), None)


def compile_library(root: Path) -> list[Path]:
    """Compile all builds into the package's folder and return their files.

    Raises:
        RuntimeError: If there is no compiler, or it fails.
    """
    compiler = find_compiler()
    if compiler is None:
        raise RuntimeError("no C++ compiler was found (g++ or clang++, or the one that CXX names)")
    link = ["-shared"] + ([] if sys.platform == "win32" else ["-fPIC", "-pthread"])
    if sys.platform == "win32":
        link += ["-static"]
    folder, files = root / FOLDER, []
    for level, flags in levels().items():
        target = folder / library_name(level)
        with tempfile.TemporaryDirectory() as scratch:
            made = Path(scratch) / target.name
            sources = [str(folder / source) for source in SOURCES]
            command = [compiler, *FLAGS, *flags, *link, *sources, "-o", str(made)]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            if result.returncode:
                raise RuntimeError(f"`{' '.join(command)}` failed: {result.stderr[-2000:]}")
            arriving = target.with_suffix(".part")
            shutil.copyfile(made, arriving)
            arriving.replace(target)
        files.append(target)
    return files


class KernelBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Adds the library to wheels and editable installs."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and mark the wheel as one for this platform; without a compiler change nothing."""
        wanted = os.environ.get(VARIABLE, "")
        if self.target_name != "wheel" or wanted == "0":
            return
        try:
            files = compile_library(Path(self.root))
        except RuntimeError as error:
            if wanted == "1":
                raise
            self.app.display_warning(f"qhybrid is installed without its compiled kernels: {error}")
            return
        for file in files:
            name = str(FOLDER / file.name)
            build_data["force_include"][str(file)] = name
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{_platform_tag()}"


def _platform_tag() -> str:
    from packaging.tags import sys_tags

    return next(iter(sys_tags())).platform


if __name__ == "__main__":
    try:
        for built in compile_library(Path(__file__).resolve().parent):
            sys.stdout.write(f"{built}\n")
    except RuntimeError as problem:
        sys.exit(f"error: {problem}. Fix: install g++ or clang++; without it torch does the same, slower.")
