"""Calls in processes of their own, side by side: one that is killed takes no other with it."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch


@dataclass
class _Started:
    """A process, the number of its call, and what it warns of."""

    process: Any
    number: int
    told: Connection
    open: bool = True

    def tell(self) -> None:
        """Warn of what the process has warned of by now."""
        while self.open and self.told.poll():
            try:
                text = self.told.recv()
            except (EOFError, OSError):  # it has ended, perhaps killed in the middle of a sentence
                self.open = False
                self.told.close()
            else:
                warnings.warn(text, stacklevel=2)


def in_processes(
    work: Callable[..., None], calls: Sequence[tuple[Any, ...]], jobs: int
) -> Iterator[tuple[int, int | None]]:
    """Yield number and exit code of calls as they end, each made in a new process.

    What a process warns users of is warned of here: whoever prints it can tell each thing once.

    Args:
        work: A function of a module.
        calls: Its arguments.
        jobs: Processes at the same time.
    """
    context = _process_context()
    left = list(enumerate(calls))
    running: list[_Started] = []
    try:
        while left or running:
            while left and len(running) < jobs:
                number, arguments = left.pop(0)
                told, telling = context.Pipe(duplex=False)
                process = context.Process(
                    target=_with_variables, args=(dict(os.environ), work, arguments, telling)
                )
                process.start()
                telling.close()
                running.append(_Started(process, number, told))
            wait([*(one.process.sentinel for one in running), *(one.told for one in running if one.open)])
            for one in list(running):
                one.tell()
                if one.process.exitcode is None:
                    continue
                one.process.join()
                one.tell()  # what came in between
                running.remove(one)
                yield one.number, one.process.exitcode
    finally:
        for one in running:
            one.process.terminate()
            one.process.join()


def _process_context() -> Any:
    """Return how processes are started: by a server that has imported all of this, in place of seconds each.

    Beside a GPU each starts anew: CUDA's driver does not survive a fork.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods() or torch.cuda.is_available():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qhybrid.experiments.repeats.run", "qhybrid.training.training_run"])
    return context


def _with_variables(
    variables: Mapping[str, str], work: Callable[..., None], arguments: Sequence[Any], telling: Connection
) -> None:
    """Call a function under the environment of who started this process, not that of the first such call."""
    os.environ.clear()
    os.environ.update(variables)
    shown = warnings.showwarning

    def tell(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, UserWarning):
            with suppress(OSError):  # who started this process may have been killed: the run goes on
                telling.send(str(message))
        else:
            shown(message, category, *place, **more)

    warnings.showwarning = tell
    work(*arguments)
