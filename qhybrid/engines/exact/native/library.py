"""Find and load the compiled library, and say why it is not there."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from qhybrid.errors import EngineError

VARIABLE = "QHYBRID_KERNEL"
"""`torch` switches the compiled kernels off, `baseline` takes the build for any processor."""
CHOICES = ("auto", "torch", "baseline")
NEEDED_FLAGS = frozenset({"avx2", "bmi1", "bmi2", "fma", "f16c", "movbe"})
"""What the build for x86-64-v3 needs, by Linux's names."""
FUNCTIONS = ("values_float32", "values_float64", "gradients_float32", "gradients_float64")


@dataclass(frozen=True)
class Kernels:
    """The state of the compiled kernels on this machine.

    Attributes:
        library: The loaded library, or None.
        build: "v3", "baseline", or "" without a library.
        reason: Why there is none, else "".
    """

    library: ctypes.CDLL | None
    build: str
    reason: str


def kernels() -> Kernels:
    """Return the library to use; each choice of the environment variable is looked for once.

    Raises:
        EngineError: If the variable has an unknown value.
    """
    choice = os.environ.get(VARIABLE, "auto") or "auto"
    if choice not in CHOICES:
        raise EngineError(
            f"Variable `{VARIABLE}` must be one of {', '.join(CHOICES)}, but is {choice!r}. "
            "Fix: leave it out."
        )
    return _found(choice)


@cache
def _found(choice: str) -> Kernels:
    if choice == "torch":
        return Kernels(None, "", f"{VARIABLE}=torch switches them off")
    builds = ["v3", "baseline"] if choice == "auto" and _is_v3() else ["baseline"]
    problem = "this installation has none (no C++ compiler when it was installed)"
    for build in builds:
        path = Path(__file__).parent / _file_name(build)
        if not path.exists():
            continue
        try:
            return Kernels(_declared(ctypes.CDLL(str(path))), build, "")
        except (OSError, AttributeError) as error:
            problem = f"{path.name} cannot be loaded: {error}"
    return Kernels(None, "", problem)


def _file_name(build: str) -> str:
    suffix = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
    return f"qhybrid_kernel_{build}{suffix}"


def _is_v3() -> bool:
    """Return whether the processor executes x86-64-v3; unknown counts as no."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return _has_avx2_elsewhere()
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return set(flags.partition(":")[2].split()) >= NEEDED_FLAGS


def _has_avx2_elsewhere() -> bool:
    """Ask torch, whose own kernels are chosen in the same way; no processor has AVX2 and not the others."""
    import torch

    return torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, count, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    library.qhybrid_step.argtypes = [pointer, pointer]
    library.qhybrid_step.restype = pointer
    library.qhybrid_step_free.argtypes = [pointer]
    library.qhybrid_step_free.restype = None
    called_with = [pointer, count, pointer, count, count, pointer, count]
    for name in FUNCTIONS:
        function = getattr(library, f"qhybrid_{name}")
        if name.startswith("values"):
            function.argtypes = [*called_with, *[pointer] * 5]
        else:
            function.argtypes = [*called_with, *[pointer] * 5, count, count, pointer, pointer]
        function.restype = number
    library.qhybrid_density_plan.argtypes = [pointer, pointer, pointer]
    library.qhybrid_density_plan.restype = pointer
    library.qhybrid_density_free.argtypes = [pointer]
    library.qhybrid_density_free.restype = None
    for name in FUNCTIONS:
        function = getattr(library, f"qhybrid_density_{name}")
        pointers = 5 if name.startswith("values") else 8
        function.argtypes = [pointer, number, count, *[pointer] * pointers]
        function.restype = number
    library.qhybrid_maps_plan.argtypes = [pointer, pointer]
    library.qhybrid_maps_plan.restype = pointer
    library.qhybrid_maps_free.argtypes = [pointer]
    library.qhybrid_maps_free.restype = None
    for name in FUNCTIONS:
        values = name.startswith("values")
        function = getattr(library, f"qhybrid_maps_{name}")
        function.argtypes = [pointer, count, *[pointer] * (7 if values else 9)]
        function.restype = number
        function = getattr(library, f"qhybrid_product_{name}")
        function.argtypes = [pointer, number, number, count, *[pointer] * (2 if values else 3)]
        function.restype = number
    return library
