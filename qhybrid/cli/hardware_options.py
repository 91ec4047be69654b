"""Options that the commands of `qhybrid hardware` share, and what follows from them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from qhybrid.api.lookup import find_run
from qhybrid.cli.evaluate import check_which
from qhybrid.cli.train import DATA_ROOT_HELP
from qhybrid.config import apply_overrides, validated
from qhybrid.errors import HardwareError

if TYPE_CHECKING:
    from qhybrid.hardware.model.workload import Workload
    from qhybrid.hardware.settings import HardwareSettings

T = TypeVar("T")
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Other settings, as in mode=job or patience.poll_s=10.")
]


@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """What is to be executed, and how well."""

    data: Annotated[str, typer.Option("--data", help="Split of the run's data set: train, val or test.")] = (
        "test"
    )
    limit: Annotated[int, typer.Option(help="Number of samples, spread over the split.")] = 64
    shots: Annotated[int, typer.Option(help="Executions of every measured circuit and sample.")] = 1024
    layer: Annotated[list[str] | None, typer.Option(help="Quantum layer for the device.")] = None
    mitigation: Annotated[
        str,
        typer.Option(
            help="Error mitigation: none, cheap, standard, strong, or readout, zne, a plugin's name."
        ),
    ] = "cheap"
    set_: Settings = None
    which: Annotated[str, typer.Option(help="Weights of the `best` or of the `last` epoch.")] = "best"
    data_root: Annotated[Path | None, typer.Option(help=DATA_ROOT_HELP)] = None

    def settings(self, **others: Any) -> HardwareSettings:
        """Return the settings of a plan.

        Args:
            **others: Settings that are options of some commands only.

        Raises:
            ConfigError: If a setting is unknown or wrong.
        """
        from qhybrid.hardware.settings import HardwareSettings, mitigation_of

        try:
            mitigation = mitigation_of(self.mitigation)
        except HardwareError as error:
            raise typer.BadParameter(str(error), param_hint="--mitigation") from error
        content: dict[str, Any] = {
            "shots": self.shots,
            "layers": self.layer or None,
            "mitigation": mitigation.model_dump(mode="json"),
            **others,
        }
        content = apply_overrides(content, self.set_ or [], "--set")
        return validated(HardwareSettings, content, "hardware settings")

    def workload(self, run: str) -> Workload:
        """Return model and samples of a run."""
        folder, weights = find_run(run), check_which(self.which)

        from qhybrid.hardware.model.runs import workload_of_run

        return workload_of_run(folder, self.data, self.limit, weights, self.data_root)


@dataclass(frozen=True, kw_only=True)
class PlanOptions(WorkOptions):
    """What is to be executed where, and for how much."""

    backend: Annotated[
        str, typer.Option(help="fake_torino, ..., aer (no noise), or a device of the service.")
    ] = "fake_torino"
    max_qpu_seconds: Annotated[float | None, typer.Option(help="Refuse plans beyond this.")] = None
    service: Annotated[
        str | None, typer.Option(help="Plugin's service that executes; otherwise the backend's own.")
    ] = None

    def settings(self, **others: Any) -> HardwareSettings:
        """Return the settings of a plan."""
        own = {"backend": self.backend, "max_qpu_seconds": self.max_qpu_seconds, "service": self.service}
        return super().settings(**own, **others)

    def fits(self, content: dict[str, Any], run: Path) -> bool:
        """Return whether a plan is what these options ask for.

        Args:
            content: The plan's plan.json.
            run: The run folder.
        """
        from qhybrid.hardware.model.runs import data_hash_of, origin_of
        from qhybrid.hardware.service_kinds import rules_of
        from qhybrid.workspace import data_root

        settings, found = self.settings(), content["settings"]
        wanted = settings.model_dump(mode="json")
        # A plan names its whole instance; whether a mere name is the same one, only the service knows.
        if not rules_of(settings).is_whole_instance(settings.instance):
            wanted["instance"] = found["instance"]
        # A plan names the plugin's service that has its device.
        wanted |= {"service": found["service"]} if "service" in found and self.service is None else {}
        # What the device's delay was, only the plan knows.
        wanted |= {key: found[key] for key in ("device_rep_delay_us",) if key in found}
        origin = json.loads(json.dumps(origin_of(run, self.data, self.limit, check_which(self.which))))
        planned = dict(content["origin"])
        data = planned.pop("data", None)  # plans of earlier versions do not say
        if found != wanted or planned != origin:
            return False
        return data is None or data["hash"] == data_hash_of(origin, run, data_root(self.data_root))


@dataclass(frozen=True, kw_only=True)
class RankOptions(WorkOptions):
    """What devices are ranked for: few samples are enough."""

    limit: Annotated[int, typer.Option(help="Number of samples, spread over the split.")] = 8


def given_options(context: typer.Context, kind: type[WorkOptions]) -> list[str]:
    """Return the names of the options that stand on the command line."""
    names = [field.name for field in fields(kind)]
    return [
        f"--{name.strip('_').replace('_', '-')}"
        for name in names
        if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]


def with_options(kind: type[WorkOptions]) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Return a decorator that gives a command the options of a dataclass; it takes them as `options`.

    Args:
        kind: The dataclass; its fields are annotated as typer's options.
    """
    hints = get_type_hints(kind, include_extras=True)
    inherited = {field.name for field in fields(WorkOptions)}

    def decorate(command: Callable[..., T]) -> Callable[..., T]:
        @wraps(command)
        def run(**arguments: Any) -> T:
            chosen = {field.name: arguments.pop(field.name) for field in fields(kind)}
            return command(**arguments, options=kind(**chosen))

        own = get_type_hints(command, include_extras=True)
        named = inspect.signature(command).parameters
        parameters = [named[name].replace(annotation=own[name]) for name in named if name != "options"]
        # The newest fields first: where comes before how well.
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
            for field in sorted(fields(kind), key=lambda field: field.name in inherited)
        ]
        keyword_only = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in parameters]
        run.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in keyword_only}
        return run

    return decorate
