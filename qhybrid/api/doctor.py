"""What of this machine and installation decides whether qhybrid runs, and how fast."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from qhybrid.cluster import usable_cores
from qhybrid.control_groups import memory_limit
from qhybrid.version import __version__
from qhybrid.workspace import DATA_VARIABLE, cache_dir, data_root

PACKAGES = ("qiskit", "qiskit-aer", "qiskit-ibm-runtime", "torch", "lightning", "rasterio", "numpy")
EXTRAS = {
    "encoders": (("transformers",), "pretrained encoders"),
    "vit": (("transformers",), "a frozen ViT (model.guidance)"),
    "unetpp": (("monai",), "the model unetpp"),
    "stac": (("pystac_client",), "STAC APIs"),
    "tune": (("optuna",), "qhybrid tune, qhybrid ablate --tune"),
    "loggers": (("tensorboard", "mlflow"), "TensorBoard and MLflow"),
}
"""The modules of each extra, and what it is for."""
LEAST_DISK_GIB = 2.0
LEAST_MEMORY_GIB = 4.0
_MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: What it is.
        value: What was found.
        fix: What is missing and how to mend it; empty if all is well.
        hurts: Whether something will not work, or much more slowly, until it is mended.
    """

    topic: str
    value: str
    fix: str = ""
    hurts: bool = False


def examine() -> list[Finding]:
    """Look at everything; one thing that cannot be looked at is a finding of its own."""
    looks: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": _versions,
        "torch": _torch,
        "threads": _threads,
        "kernels": _kernels,
        "Aer": _aer,
        "memory": _memory,
        "disk": _disk,
        "data": _data,
        "IBM account": _account,
        "extras": _extras,
    }
    found: list[Finding] = []
    for topic, look in looks.items():
        try:
            found.extend(look())
        except Exception as error:
            # Whatever is broken here is what the user wants to know; the class names it without its content,
            # which may hold secrets.
            found.append(Finding(topic, f"cannot be examined ({type(error).__name__})", "reinstall it", True))
    return found


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _versions() -> Iterator[Finding]:
    yield Finding("qhybrid", __version__)
    yield Finding("Python", f"{platform.python_version()}, {platform.platform()}")
    found = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in found.items() if version == "missing"]
    fix = f"pip install -c constraints.txt qhybrid brings {', '.join(missing)}" if missing else ""
    yield Finding("packages", ", ".join(f"{name} {one}" for name, one in found.items()), fix, bool(missing))


def _torch() -> Iterator[Finding]:
    import torch

    from qhybrid.training.precision import native_bf16_cpu, native_bf16_gpu

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(one) for one in range(torch.cuda.device_count()))
        yield Finding("device", f"{names} (CUDA {torch.version.cuda})")
        native = native_bf16_gpu()
    else:
        built = torch.version.cuda
        fix = "a driver that fits it, or use the CPU build" if built else ""
        why = f"; torch is built for CUDA {built}, but finds no GPU" if built else ""
        yield Finding("device", f"cpu{why}", fix)
        native = native_bf16_cpu()
    word = "native" if native else "emulated here, slowly: bf16-if-native trains in 32 bit"
    yield Finding("bf16", word)


def _threads() -> Iterator[Finding]:
    import torch

    machine = os.cpu_count() or 1
    cores, threads = usable_cores(), torch.get_num_threads()
    fix = f"OMP_NUM_THREADS={cores}" if threads > cores else ""
    which = f"{cores} cores" if cores == machine else f"{cores} of the machine's {machine} cores allowed"
    shown = f"{which}, {threads} threads of torch"
    yield Finding("threads", shown, fix, bool(fix))
    try:
        busy = os.getloadavg()[0]
    except (OSError, AttributeError):
        return
    if busy > 0.7 * machine:  # it is that of the whole machine
        free = max(1, min(cores, round(machine - busy)))
        text = f"{busy:.1f} of {machine} cores were busy in the last minute"
        yield Finding(
            "load", text, f"OMP_NUM_THREADS={free} until they are free: threads wait for one another"
        )
    policy = {name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")}
    shown = ", ".join(f"{name}={value}" for name, value in policy.items() if value is not None)
    passive = policy["OMP_WAIT_POLICY"] == "PASSIVE" or policy["GOMP_SPINCOUNT"] == "0"
    fix = "" if passive else "OMP_WAIT_POLICY=PASSIVE, in scripts before torch is imported"
    yield Finding("waiting threads", shown or "they spin", fix)


def _kernels() -> Iterator[Finding]:
    from qhybrid.engines.exact.native.library import VARIABLE, kernels

    found = kernels()
    if found.library is not None:
        yield Finding(
            "compiled kernels", f"yes, the build `{found.build}`; {VARIABLE}=torch switches them off"
        )
        return
    chosen = bool(os.environ.get(VARIABLE))
    fix = "" if chosen else "install g++ or clang++, then qhybrid (checkout: python hatch_build.py)"
    slow = "circuits run in torch, with the same values, small ones 10 times slower"
    yield Finding("compiled kernels", f"no: {found.reason}; {slow}", fix, not chosen)


def _aer() -> Iterator[Finding]:
    from qhybrid.engines.aer.installed import aer_methods

    methods, devices = aer_methods()
    yield Finding("Aer", f"{', '.join(devices)}: {', '.join(methods)}")


def _memory() -> Iterator[Finding]:
    if not _MEMORY.is_file():
        return
    lines = (line.split() for line in _MEMORY.read_text(encoding="ascii").splitlines())
    sizes = {line[0].rstrip(":"): int(line[1]) / 1024**2 for line in lines if len(line) > 1}
    total, free, note = sizes["MemTotal"], sizes["MemAvailable"], ""
    if (group := memory_limit()) is not None and group.limit / 1024**3 < total:
        note = f", by the limit of a container or job; the machine has {total:.1f}"
        total, free = group.limit / 1024**3, min(free, (group.limit - group.used) / 1024**3)
    short = free < LEAST_MEMORY_GIB
    fix = "smaller training.batch_size, or stop other programs" if short else ""
    yield Finding("memory", f"{free:.1f} of {total:.1f} GiB free{note}", fix)


def _disk() -> Iterator[Finding]:
    cache = cache_dir()
    for topic, folder in (("disk (here)", Path.cwd()), ("disk (cache)", cache)):
        free = shutil.disk_usage(folder).free / 1024**3
        short = free < LEAST_DISK_GIB
        place = f", {cache}; QHYBRID_CACHE moves it" if folder == cache else ""
        yield Finding(topic, f"{free:.1f} GiB free{place}", "make room: runs need it" if short else "", short)


def _data() -> Iterator[Finding]:
    root = data_root()
    given = f"{DATA_VARIABLE}={os.environ[DATA_VARIABLE]}" if os.environ.get(DATA_VARIABLE) else "./data"
    if not root.is_dir():
        fix = f"set {DATA_VARIABLE}, or give --data-root; generated scenes and digits need none"
        yield Finding("data", f"{given} is not there", fix)
        return
    folders = sorted(one.name for one in root.iterdir() if one.is_dir() and not one.name.startswith("."))
    shown = ", ".join(folders[:8]) + (f" and {len(folders) - 8} more" if len(folders) > 8 else "")
    yield Finding("data", f"{given}: {shown or 'no folders'}")


def _account() -> Iterator[Finding]:
    from qhybrid.hardware.services.ibm.accounts import saved_accounts

    found = saved_accounts()
    if not found:
        fix = "QiskitRuntimeService.save_account(token=...), for real devices alone: docs/hardware.md"
        yield Finding("IBM account", "none; fake devices need none", fix)
        return
    names = [f"{one.origin} ({one.channel or 'no channel'})" for one in found]
    lacking = [one.origin for one in found if not one.instance]
    fix = f"name an instance in {', '.join(lacking)}: plans keep to one" if lacking else ""
    yield Finding("IBM account", f"{', '.join(names)}; not tried", fix)


def _extras() -> Iterator[Finding]:
    missing = [extra for extra, (modules, _) in EXTRAS.items() if not all(map(find_spec, modules))]
    there = [extra for extra in EXTRAS if extra not in missing]
    fix = "; ".join(f"pip install 'qhybrid[{extra}]' for {EXTRAS[extra][1]}" for extra in missing)
    yield Finding("extras", ", ".join(there) or "none", fix)
