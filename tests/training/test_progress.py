"""What a person sees of a training: lines that stay, and a bar that fits."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest
from rich.console import Console

from qhybrid.config import Recipe, validated
from qhybrid.training import train
from qhybrid.training.progress import EpochBar, EpochLines, TimeLeft
from qhybrid.training.run_folder import METRICS

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
ROW = {
    "epoch": 7,
    "train_loss": 1.23456,
    "val_loss": 2.0,
    "val_miou": 0.54321,
    "learning_rate": 0.003,
    "epoch_seconds": 12.34,
}


class Trainer:
    """What the bar asks of a trainer."""

    max_epochs = 10
    current_epoch = 6
    num_training_batches = 4
    num_val_batches = (2,)
    max_steps = -1
    early_stopping_callback = None


def shown(**options) -> str:
    """Drive a bar through one epoch and return all that it writes."""
    text = io.StringIO()
    bar = EpochBar(console=Console(file=text, highlight=False, **options))
    trainer = Trainer()
    bar._trainer = trainer
    bar.on_train_start(trainer, None)
    bar.on_train_epoch_start(trainer)
    for index in range(4):
        bar.on_train_batch_end(trainer, None, None, None, index)
    for index in range(2):
        bar.on_validation_batch_end(trainer, None, None, None, index)
    if bar._bar is not None:
        bar._bar.refresh()
    bar.epoch_ended(ROW, best=True)
    bar.on_train_end()
    return text.getvalue()


def test_elsewhere_than_on_a_terminal_there_are_plain_lines():
    text = shown(width=80)
    assert not CONTROL.search(text)
    assert text.splitlines() == [
        "epoch  train loss  val loss  val mIoU  learning rate  seconds",
        " 7/10      1.2346    2.0000    0.5432       3.00e-03     12.3  best",
    ]


def test_on_a_terminal_the_line_stays_and_the_bar_goes():
    text = shown(width=80, force_terminal=True, legacy_windows=False)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r", "\n")
    assert "epoch 7/10" in plain
    assert "validation 2/2" in plain
    # Three more epochs, each as long as this one so far.
    assert re.search(r"\d:\d\d:\d\d left", plain)
    assert " 7/10      1.2346    2.0000    0.5432       3.00e-03     12.3  best" in plain
    assert max(map(len, plain.splitlines())) <= 80
    # The bar's line is erased, the epoch's is above it.
    assert text.rstrip("\n").endswith("\x1b[2K")


@pytest.mark.parametrize("monitor", ["val_miou", "val_accuracy", "val_soft_iou"])
@pytest.mark.parametrize("epochs", [1, 100, 10_000])
def test_lines_fit_80_columns(monitor, epochs):
    lines = EpochLines(epochs, monitor)
    worst = {
        **ROW,
        "epoch": epochs,
        "train_loss": -123456.789,
        "val_loss": 123456.789,
        "epoch_seconds": 86_400.5,
    }
    line = lines.line({**worst, monitor: 1.0})
    assert len(line) == len(lines.header)
    assert len(f"{line}  best") <= 80


def test_numbers_that_are_missing_are_dashes_not_zeros():
    line = EpochLines(9, "val_miou").line({**ROW, "val_miou": float("nan"), "val_loss": None})
    assert line.split() == ["7/9", "1.2346", "–", "–", "3.00e-03", "12.3"]


def test_without_validation_its_columns_are_left_out():
    lines = EpochLines(9, "val_accuracy", validated=False)
    assert "val" not in lines.header
    assert lines.line(ROW).split() == ["7/9", "1.2346", "3.00e-03", "12.3"]


def test_time_left_counts_the_epochs_of_this_process_alone():
    left = TimeLeft(10, done=4)
    assert left.seconds(0.0, 0.0) is None
    # A quarter of an epoch took 5 s: six epochs of 20 s, less the 5 s.
    assert left.seconds(5.0, 0.25) == pytest.approx(115)
    left.epoch_ended(30.0)
    left.epoch_ended(10.0)
    # Four epochs are left of 20 s each, of the first one 8 s are gone.
    assert left.seconds(8.0, 0.5) == pytest.approx(72)
    # An epoch that takes longer than the mean does not eat the time of the others.
    assert left.seconds(50.0, 0.9) == pytest.approx(60)


def test_a_real_training_prints_a_line_for_each_row_of_its_table(tiny_data, tiny_content, tmp_path, capsys):
    recipe = validated(Recipe, tiny_content(progress=True), "tiny.yaml")
    folder = train(recipe, tiny_data, tmp_path / "run")
    text = capsys.readouterr().out
    assert not CONTROL.search(text)
    head, *lines = text.splitlines()
    assert head.split()[:3] == ["epoch", "train", "loss"]
    table = pd.read_csv(folder / METRICS)
    assert [line.split()[0] for line in lines] == ["1/2", "2/2"]
    assert [line.split()[1] for line in lines] == [f"{value:.4f}" for value in table["train_loss"]]
    assert [line.split()[3] for line in lines] == [f"{value:.4f}" for value in table["val_miou"]]
    # The best epoch is the last one that is marked.
    marked = [line.split()[0] for line in lines if line.endswith("best")]
    assert marked[-1] == f"{table['val_miou'].idxmax() + 1}/2"
    assert max(map(len, lines)) <= 80
