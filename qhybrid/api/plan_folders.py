"""What is asked of a plan, the plans of a run, and the plan that fits a request already."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qhybrid.api.lookup import find_run
from qhybrid.api.recipes import as_list
from qhybrid.config import apply_overrides, validated
from qhybrid.config.reading import with_values
from qhybrid.errors import ConfigError, HardwareError

if TYPE_CHECKING:
    from qhybrid.hardware.model.workload import Workload
    from qhybrid.hardware.settings import HardwareSettings
    from qhybrid.training.run_folder import Which

PLANS = "hardware"
PLAN_FILE = "plan.json"
FINISHED = "results/metrics.json"
CIRCUITS, SAMPLES = "circuits", "samples.safetensors"
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What is to be executed where, how well, and for how much.

    Attributes:
        backend: fake_torino, ..., aer (no noise), or a device of the service.
        split: Split of the run's data set: train, val or test.
        limit: Number of samples, spread over the split.
        shots: Executions of every measured circuit and sample.
        layers: Quantum layers for the device; all if absent.
        mitigation: Error mitigation: none, cheap, standard, strong, or readout, zne, a plugin's name.
        settings: Other settings by dotted key, as in {"patience.poll_s": 10}, or as texts `key=value`.
        max_qpu_seconds: Refuse plans beyond this.
        service: Plugin's service that executes; the backend's own if absent.
        which: Weights of the `best` or of the `last` epoch.
        data_root: Folder of the data sets; QHYBRID_DATA or ./data if absent.
    """

    backend: str = "fake_torino"
    split: str = "test"
    limit: int = 64
    shots: int = 1024
    layers: Sequence[str] | None = None
    mitigation: str = "cheap"
    settings: Mapping[str, Any] | Sequence[str] = ()
    max_qpu_seconds: float | None = None
    service: str | None = None
    which: Which = "best"
    data_root: str | Path | None = None

    def hardware_settings(self) -> HardwareSettings:
        """Return the checked settings of a plan.

        Raises:
            ConfigError: If a setting is unknown or wrong.
            HardwareError: If there is no such mitigation.
        """
        from qhybrid.hardware.settings import HardwareSettings, mitigation_of

        if not isinstance(self.mitigation, str):
            raise ConfigError(f"Argument `mitigation` must be a name, but is {self.mitigation!r}. Fix: none.")
        if isinstance(self.limit, bool) or not hasattr(self.limit, "__index__"):
            raise ConfigError(f"Argument `limit` must be a whole number, but is {self.limit!r}.")
        content: dict[str, Any] = {
            "backend": self.backend,
            "shots": self.shots,
            "layers": as_list(self.layers) if self.layers else None,
            "mitigation": mitigation_of(self.mitigation).model_dump(mode="json"),
            "max_qpu_seconds": self.max_qpu_seconds,
            "service": self.service,
        }
        if isinstance(self.settings, str):
            raise ConfigError(f"settings must be a mapping or several texts, but are {self.settings!r}.")
        if isinstance(self.settings, Mapping):
            content = with_values(content, self.settings, "settings")
        else:
            content = apply_overrides(content, list(self.settings), "--set")
        return validated(HardwareSettings, content, "hardware settings")

    def workload(self, run: Path) -> Workload:
        """Return model and samples of a run."""
        from qhybrid.hardware.model.runs import workload_of_run

        root = None if self.data_root is None else Path(self.data_root)
        return workload_of_run(run, self.split, self.limit, self.which, root)

    def fits(self, content: Mapping[str, Any], run: Path) -> bool:
        """Return whether a plan is what is asked for.

        Args:
            content: The plan's plan.json.
            run: The run folder.
        """
        from qhybrid.hardware.model.runs import OTHERS, data_hash_of, origin_of
        from qhybrid.hardware.service_kinds import rules_of
        from qhybrid.workspace import data_root

        settings, found = self.hardware_settings(), content["settings"]
        wanted = settings.model_dump(mode="json")
        # A plan names its whole instance; whether a mere name is the same one, only the service knows.
        if not rules_of(settings).is_whole_instance(settings.instance):
            wanted["instance"] = found["instance"]
        # A plan names the plugin's service that has its device.
        wanted |= {"service": found["service"]} if "service" in found and self.service is None else {}
        # What the device's delay was, only the plan knows.
        wanted |= {key: found[key] for key in ("device_rep_delay_us",) if key in found}
        origin = json.loads(json.dumps(origin_of(run, self.split, self.limit, self.which)))
        planned = dict(content["origin"])
        # Plans of earlier versions do not say these.
        data, _ = planned.pop("data", None), planned.pop(OTHERS, None)
        if found != wanted or planned != origin:
            return False
        return data is None or data["hash"] == data_hash_of(origin, run, data_root(self.data_root))


def find_plan(given: str | Path) -> Path:
    """Return a plan's folder from its path, or the newest plan of a run.

    Raises:
        HardwareError: If there is none.
    """
    if (Path(given) / PLAN_FILE).is_file():
        return Path(given)
    if (Path(given) / CIRCUITS).is_dir() and (Path(given) / SAMPLES).is_file():
        from qhybrid.hardware.plan.plan_files import read_plan

        read_plan(Path(given))  # what is left of a plan: it says what can be done
    plans = plans_of(find_run(str(given)))
    if not plans:
        raise HardwareError(
            f"{given} must be a plan or a run that has one, but is neither. Fix: qhybrid hardware plan RUN."
        )
    return plans[-1]


def plans_of(run: Path) -> list[Path]:
    """Return the plans of a run, the newest last."""
    from qhybrid.hardware.plan_order import oldest_first

    # Names with a dot in front are folders that a killed process was filling.
    return [file.parent for file in oldest_first((run / PLANS).glob(f"[!.]*/{PLAN_FILE}"))]


def new_plan(run: Path, request: PlanRequest, say: Say = lambda _: None) -> Path:
    """Make a plan and return its folder.

    Args:
        run: The run folder.
        request: What is asked for; it is checked before anything is loaded.
        say: Told what is done.
    """
    settings = request.hardware_settings()
    workload = request.workload(run)

    from qhybrid.hardware.plan.planning import make_plan

    return make_plan(workload, settings, run / PLANS, say)


def plan_of(run: Path, request: PlanRequest, say: Say = lambda _: None) -> Path:
    """Return the plan that fits a request already, or make it.

    Args:
        run: The run folder.
        request: What is asked for.
        say: Told what is done, and of a plan that is there already.
    """
    from qhybrid.hardware.jobs.opening import locked

    plans = run / PLANS
    plans.mkdir(exist_ok=True)
    # The same command twice at once must not make two plans, which would both be paid for.
    with locked(plans):
        known = _known_plan(run, request)
        if known is None:
            return new_plan(run, request, say)
    state = "has results" if (known / FINISHED).is_file() else "goes on"
    say(f"{known.name} {state}; `qhybrid hardware plan` makes a new plan")
    return known


def _known_plan(run: Path, request: PlanRequest) -> Path | None:
    """Return the newest plan of this request: it is not to be paid for twice.

    Where nothing is paid, those with results do not count.
    """
    from qhybrid.hardware.plan.plan_files import read_plan
    from qhybrid.hardware.services.backends import is_paid

    for folder in reversed(plans_of(run)):
        try:
            content = read_plan(folder)
        except HardwareError:
            continue  # of another version: it cannot be gone on with
        free = not is_paid(request.backend, request.service)
        again = free and (folder / FINISHED).is_file()
        if not again and request.fits(content, run):
            return folder
    return None
