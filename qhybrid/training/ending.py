"""How a process of several ends when it is told to (SIGTERM), by a queue, a launcher, or `kill`.

Lightning's own handler sends the others a message in the middle of a step, in which they wait for something
else: then all of them wait for hours. Here the process ends, and the others notice.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback

from qhybrid.errors import TrainingError
from qhybrid.training.ranks import place
from qhybrid.training.run_folder import RESUME_STATE


class EndWhenTold(Callback):
    """Ends training with an error on SIGTERM.

    Args:
        output: The run folder.
    """

    def __init__(self, output: Path) -> None:
        self._output = output

    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        """Take the place of Lightning's handler, which it has just put there, and takes away at the end."""
        self._listen()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """The same, where nothing is validated first."""
        self._listen()

    def _listen(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.end)

    def end(self, *_: Any) -> None:
        """End with an error; a signal handler.

        Raises:
            TrainingError: Always.
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # launchers say it again while this one ends
        own = place()
        raise TrainingError(
            f"Process {own.rank} of {own.world} was told to end (SIGTERM): by a queue, a person, or torchrun "
            f"after the end of another one. {kept_epochs(self._output)}"
        )


@contextmanager
def ending_when_told(output: Path) -> Iterator[None]:
    """Have SIGTERM end a process of several with an error, before and after Lightning listens to it, too.

    A process that fails ignores it from then on: it ends anyway, and says why, while a launcher that has seen
    another one end tells it to.

    Args:
        output: The run folder.
    """
    if place().world == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, EndWhenTold(output).end)
    try:
        yield
    except BaseException:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    signal.signal(signal.SIGTERM, before)


def ending_callbacks(output: Path) -> list[Callback]:
    """Return what ends a process of several; a single one ends as Lightning has it."""
    return [EndWhenTold(output)] if place().world > 1 else []


def kept_epochs(output: Path) -> str:
    """Return what to say of the epochs that are kept, and how to go on."""
    if (output / RESUME_STATE).is_file():
        return (
            f"Complete epochs are kept: `torchrun --nproc-per-node {place().local_world} ... -m qhybrid.cli "
            f"train --resume {output}` goes on with them."
        )
    return "No epoch was complete: start again."
