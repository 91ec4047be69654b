"""Options that the commands of `qhybrid hardware` share, and what follows from them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from qhybrid.api.plan_folders import PlanRequest
from qhybrid.cli.evaluate import check_which
from qhybrid.cli.train import DATA_ROOT_HELP
from qhybrid.errors import HardwareError

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
            help="Error mitigation: none, cheap, standard, strong, pea, or readout, zne, a plugin's name."
        ),
    ] = "cheap"
    set_: Settings = None
    which: Annotated[str, typer.Option(help="Weights of the `best` or of the `last` epoch.")] = "best"
    data_root: Annotated[Path | None, typer.Option(help=DATA_ROOT_HELP)] = None

    def request(self, **others: Any) -> PlanRequest:
        """Return what is asked for.

        Args:
            **others: Fields of `PlanRequest` that are options of some commands only.
        """
        from qhybrid.hardware.settings import mitigation_of

        try:
            mitigation_of(self.mitigation)
        except HardwareError as error:
            raise typer.BadParameter(str(error), param_hint="--mitigation") from error
        return PlanRequest(
            split=self.data,
            limit=self.limit,
            shots=self.shots,
            layers=self.layer,
            mitigation=self.mitigation,
            settings=self.set_ or [],
            which=check_which(self.which),
            data_root=self.data_root,
            **others,
        )


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

    def request(self, **others: Any) -> PlanRequest:
        """Return what is asked for."""
        own = {"backend": self.backend, "max_qpu_seconds": self.max_qpu_seconds, "service": self.service}
        return super().request(**own, **others)


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
