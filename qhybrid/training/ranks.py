"""Training on several processes: who is who, and what they tell each other.

`torchrun` starts the processes and names each by a rank, from 0. Rank 0 alone writes files. Batches are dealt
like cards: of a batch of B x W samples rank r has samples r, r + W, r + 2 W, ..., so that W processes with a
batch of B take the steps of one process with a batch of B x W.

Whatever is summed over a batch is summed over all ranks. The loss is then that of the whole batch on every
rank. Backwards the gradients with respect to such a sum are summed over the ranks too: with a loss that all W
ranks compute alike, each rank then has W times the gradient of its samples, and their average, which DDP
takes, is the gradient of the whole batch.
"""

from __future__ import annotations

import datetime
import itertools
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from qhybrid.errors import ConfigError, QHybridError, TrainingError

T = TypeVar("T")
JOIN_SECONDS = 600.0
"""How long processes wait in a step for others that are there, as for the frozen ViT's tiles; a dead one is
noticed at once."""
LOOKS_A_SECOND = 10
WAIT_HOURS = 12
"""How long processes wait for others that are there, such as for the tiles of a frozen ViT."""
_LOST = (
    "gloo",
    "nccl",
    "connection closed by peer",
    "connection reset by peer",
    "processgroup",
    "broken pipe",
)


@dataclass(frozen=True)
class Place:
    """Which of the processes of a training this one is.

    Attributes:
        rank: Number of the process, from 0.
        world: Number of processes.
        local_rank: Number of the process on its machine, from 0.
        local_world: Number of processes on its machine.
        may_restart: Whether the launcher starts all processes again after a failure.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    may_restart: bool = False

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks to the user."""
        return self.rank == 0

    @property
    def machines(self) -> int:
        """Number of machines."""
        return self.world // self.local_world


def launched() -> Place:
    """Return the place that `torchrun` has given this process; that of a single one without it.

    Raises:
        ConfigError: If machines have unequal numbers of processes.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Place()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    rank, world, local_rank, local_world = (int(os.environ.get(name, 0)) for name in names)
    again = int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", 0)) > 0
    place = Place(rank, max(world, 1), local_rank, max(local_world, 1), again)
    if place.world % place.local_world:
        raise ConfigError(
            f"All machines must have as many processes, but this one has {place.local_world} of "
            f"{place.world}. Fix: give `torchrun` the same --nproc-per-node everywhere."
        )
    return place


def place() -> Place:
    """Return the place of this process among those that are joined; that of a single one where none are."""
    return launched() if _together() else Place()


def _together() -> bool:
    return bool(distributed.is_available() and distributed.is_initialized())


@contextmanager
def joined() -> Iterator[Place]:
    """Join the processes that `torchrun` has started; nothing for a single one, or where they are joined.

    Raises:
        TrainingError: If they cannot be joined.
    """
    own = launched()
    if own.world == 1 or _together():
        _warn_of_tasks_alone()
        yield own
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(own.local_rank % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    try:
        store, rank, world = next(rendezvous("env://"))
        fresh = PrefixStore(_token(store, own), store)
        distributed.init_process_group(
            backend, store=fresh, rank=rank, world_size=world, timeout=datetime.timedelta(hours=WAIT_HOURS)
        )
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"Process {own.rank} of {own.world} must reach the others, but does not: {error}. Fix: check "
            "--rdzv-endpoint (or --master-addr) and the firewall."
        ) from error
    try:
        yield own
    finally:
        if _together():
            distributed.destroy_process_group()


def _warn_of_tasks_alone() -> None:
    """Warn where `srun` has started several tasks without `torchrun`: each would train the same by itself."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if "TORCHELASTIC_RUN_ID" not in os.environ and tasks.isdecimal() and int(tasks) > 1:
        warnings.warn(
            f"srun has started {tasks} tasks, and each of them trains by itself. To train together, have "
            "srun start one `torchrun` a machine: docs/examples/cluster/train.sbatch.",
            stacklevel=4,
        )


class _Summed(torch.autograd.Function):
    """The sum over all ranks, and on the way back the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.detach().clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].detach().clone()
        distributed.all_reduce(total)
        return total


def _token(store: Any, own: Place) -> str:
    """Return a word that all processes of this start agree on, and none of an earlier one.

    torchrun (2.13) keeps one store over restarts, in which the addresses of processes that have died wait for
    those that come after them. Rank 0 forgets all greetings and answers those that come from then on; a
    greeting that it forgot too early is sent again.
    """
    mine = uuid.uuid4().hex
    if own.first:
        for rank in range(1, own.world):
            store.delete_key(f"hello/{rank}")
        for rank in range(1, own.world):
            store.set(f"answer/{store.get(f'hello/{rank}').decode()}", mine)
        return mine
    begun = time.monotonic()
    for look in itertools.count():
        if look % LOOKS_A_SECOND == 0:
            store.set(f"hello/{own.rank}", mine)
        if store.check([f"answer/{mine}"]):
            return str(store.get(f"answer/{mine}").decode())
        if time.monotonic() - begun > JOIN_SECONDS:
            break
        time.sleep(1 / LOOKS_A_SECOND)
    raise RuntimeError(f"process 0 has not answered for {JOIN_SECONDS:g} seconds")


def summed(value: Tensor) -> Tensor:
    """Return the sum of a tensor over all ranks, of equal shapes; itself for a single process.

    Gradients are summed in the same way, so that all ranks must go back through it.
    """
    if not _together():
        return value
    result: Tensor = _Summed.apply(value)  # type: ignore[no-untyped-call]
    return result


def gathered(value: Tensor) -> Tensor:
    """Return the rows (B, ...) of all ranks, (B W, ...), in the order of the whole batch.

    Gradients are those of `summed`.
    """
    own = place()
    if own.world == 1:
        return value
    rows = value.new_zeros((len(value) * own.world, *value.shape[1:]))
    rows[own.rank :: own.world] = value
    return summed(rows)


def from_first(work: Callable[[], T]) -> T:
    """Have rank 0 do something, and return on all ranks what it has returned.

    Raises:
        QHybridError: On all ranks, the error that rank 0 had.
    """
    if not _together():
        return work()
    told: list[Any] = [None, None]
    try:
        if place().first:
            told[0] = work()
    except QHybridError as error:
        told[1] = error
        raise
    finally:
        distributed.broadcast_object_list(told, src=0)
    if isinstance(told[1], QHybridError):
        raise told[1]
    result: T = told[0]
    return result


def check_alike(parts: Mapping[str, str]) -> None:
    """Check that all ranks have the same: on machines that share no files, names may stand for other things.

    Args:
        parts: What this rank has, by what it is called in messages.

    Raises:
        ConfigError: On all ranks, if one has something else.
    """
    own = place()
    if own.world == 1:
        return
    found: list[Any] = [None] * own.world
    distributed.all_gather_object(found, dict(parts))
    for rank, other in enumerate(found):
        names = sorted(
            name for name in found[0].keys() | other.keys() if found[0].get(name) != other.get(name)
        )
        if names:
            raise ConfigError(
                f"All processes of a training must have the same {', '.join(names)}, but process {rank} has "
                "others than process 0. Fix: start all of them in the same folder of a file system that the "
                "machines share, with the same versions."
            )


def check_alone(what: str) -> None:
    """Check that this is no training by several processes.

    Args:
        what: What only a single process does.

    Raises:
        ConfigError: If `torchrun` has started several.
    """
    own = launched()
    if own.world > 1:
        raise ConfigError(
            f"{what} must be called in one process, but torchrun has started {own.world}. Fix: give the "
            "command without torchrun."
        )


def check_restarts(own: Place, output: object) -> None:
    """Check that processes that are started again would find the run that they were started with.

    Args:
        own: The place of this process.
        output: The run folder that was given; None for a new one.

    Raises:
        ConfigError: If each start would begin a run in a new folder.
    """
    if own.may_restart and output is None:
        raise ConfigError(
            "A training that torchrun may restart needs a run folder of a known name, to go on in it. Fix: "
            "give --output (argument `output`), or leave out --max-restarts."
        )


def is_lost(error: BaseException) -> bool:
    """Return whether an error means that another process has gone."""
    if isinstance(error, distributed.DistError):
        return True
    return _together() and isinstance(error, RuntimeError) and any(one in str(error).lower() for one in _LOST)
