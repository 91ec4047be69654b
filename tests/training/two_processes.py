"""What two processes do together, started by torchrun; `test_several_processes.py` judges what they leave.

The first start does everything, and at the end its process 1 is killed in the middle of a training. The
second start, which is torchrun's, goes on with that training alone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
import yaml
from torch.nn.parallel import DistributedDataParallel

from qhybrid.api.run import joined_run_folder
from qhybrid.config import LossConfig, Recipe, validated
from qhybrid.data.classes import IGNORE_INDEX
from qhybrid.errors import ConfigError, DataError
from qhybrid.models import build_model
from qhybrid.training import train
from qhybrid.training.losses import CrossEntropyDice
from qhybrid.training.ranks import Place, check_alike, from_first, gathered, joined, launched, place, summed
from qhybrid.training.scenes import module
from qhybrid.training.scenes.data_module import EpochSampler, SharedWindows
from qhybrid.training.sync_norm import with_synchronised_norm

MODEL = {
    "name": "qu_net", "variant": "12_1", "in_channels": 2, "num_classes": 3, "image_size": [96, 128],
}  # fmt: skip


def network() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return build_model(MODEL)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Eight images whose ignored pixels are not as many in each half, and a class that one half lacks."""
    random = torch.Generator().manual_seed(7)
    images = torch.randn(8, 2, 96, 128, generator=random)
    labels = torch.randint(2, (8, 96, 128), generator=random)
    labels[0, :4] = 2
    labels[1::2, :54] = IGNORE_INDEX
    return images, labels


def gradients(rows: slice, own: Place) -> dict[str, torch.Tensor]:
    """Return the gradients of the network's weights from some rows of the batch, averaged by DDP."""
    model = network()
    loss = CrossEntropyDice(LossConfig(class_weights=(1.0, 2.0, 4.0)), torch.tensor([0.5, 1.0, 2.0]), summed)
    images, labels = (part[rows] for part in batch())
    wrapped = DistributedDataParallel(model) if own.world > 1 else model
    value = loss(wrapped(images), labels)
    value.backward()
    found = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return {"loss": value.detach(), **found}


def normalised(rows: slice) -> dict[str, torch.Tensor]:
    """Return output, gradients and running values of a batch norm that some rows of a batch pass twice."""
    norm = torch.nn.BatchNorm2d(2)
    part = with_synchronised_norm(torch.nn.Sequential(norm), gpu=False)
    images = batch()[0].double().float()[rows].requires_grad_()
    for _ in range(2):
        found = part(images)
    # Every sample has a weight of its own: ranks have other gradients with respect to the mean.
    weights = torch.arange(8.0)[rows].view(-1, 1, 1, 1)
    (summed((weights * found.square() * found).sum()) / 8).backward()
    layer = part[0]
    return {
        "output": found.detach(), "images": images.grad, "weight": layer.weight.grad, "bias": layer.bias.grad,
        "mean": layer.running_mean, "var": layer.running_var, "evaluated": part.eval()(images).detach(),
    }  # fmt: skip


def error_of(work) -> str:
    try:
        work()
    except (ConfigError, DataError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def fail() -> None:
    raise DataError("the first process has found a mistake")


def together(recipe: dict, data: Path, out: Path, own: Place) -> None:
    rows = slice(own.rank, None, own.world)
    torch.save({"gradients": gradients(rows, own), "norm": normalised(rows)}, out / f"{own.rank}.pt")
    windows = list(range(9))
    sampler = EpochSampler(25, 3, own.rank, own.world)
    few = {**recipe["data"], "patches_per_epoch": 7}
    told = {
        "place": [place().rank, place().world, own.machines],
        "gathered": gathered(torch.tensor([[own.rank], [10 + own.rank]])).flatten().tolist(),
        "from first": from_first(lambda: f"of {place().rank}"),
        "error": error_of(lambda: from_first(fail)),
        "indices": list(sampler),
        "windows": len(SharedWindows(windows, own.rank, own.world)),
        "images": error_of(lambda: run({**recipe, "data": {"dataset": "digits"}}, data, out / "digits")),
        "few": error_of(lambda: run({**recipe, "data": few}, data, out / "few")),
        "alike": error_of(lambda: check_alike({"recipe": "x", "circuits of model": str(own.rank)})),
        "the same": error_of(lambda: check_alike({"recipe": "x"})),
        "restarts": error_of(lambda: joined_run_folder(None, "x").__enter__()),
    }  # fmt: skip
    os.environ["TORCHELASTIC_MAX_RESTARTS"] = "0"
    os.chdir(out)
    with joined_run_folder(None, "named") as folder:
        told["folder"] = str(folder)
        if own.first:
            (folder / "kept").touch()
    (out / f"{own.rank}.json").write_text(json.dumps(told))


def run(content: dict, data: Path, output: Path) -> None:
    train(validated(Recipe, content, "tiny.yaml"), data, output)


def main(recipe: dict, data: Path, out: Path) -> None:
    own, restarts = launched(), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    torch.set_num_threads(1)
    with joined():
        if restarts:
            assert (out / f"{own.rank}.json").is_file(), "the first start has failed"
        else:
            together(recipe, data, out, own)
            run(recipe, data, out / "whole")
        original = module.SegmentationModule.training_step

        def step(self, samples, number):
            if (own.rank, restarts, self.current_epoch, number) == (1, 0, 1, 1):
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, samples, number)

        module.SegmentationModule.training_step = step
        run(recipe, data, out / "cut")


if __name__ == "__main__":
    from qhybrid.errors import QHybridError

    try:
        main(yaml.safe_load(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
    except QHybridError as error:
        sys.exit(f"error: {error}")
