"""A process of several that is told to end does so, and says how to go on."""

from __future__ import annotations

import os
import signal

import pytest

from qhybrid.config import Recipe, validated
from qhybrid.errors import TrainingError
from qhybrid.training import ending, train, training_run
from qhybrid.training.ending import EndWhenTold, ending_callbacks
from qhybrid.training.ranks import Place
from qhybrid.training.scenes.module import SegmentationModule


def test_a_single_process_ends_as_ever(tmp_path, monkeypatch):
    assert ending_callbacks(tmp_path) == []
    monkeypatch.setattr(ending, "place", lambda: Place(1, 2, 1, 2))
    (found,) = ending_callbacks(tmp_path)
    assert isinstance(found, EndWhenTold)


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_process_that_is_told_to_end(tiny_data, tmp_path, tiny_content, monkeypatch, epoch):
    """Lightning's handler would send a message to the others, which wait for another one."""
    original = SegmentationModule.training_step

    def step(self, samples, number):
        if (self.current_epoch, number) == (epoch, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, samples, number)

    monkeypatch.setattr(SegmentationModule, "training_step", step)
    monkeypatch.setattr(training_run, "ending_callbacks", lambda output: [EndWhenTold(output)])
    before = signal.getsignal(signal.SIGTERM)
    recipe = validated(Recipe, tiny_content(epochs=2), "tiny.yaml")
    kept = "Complete epochs are kept: `torchrun .* train --resume" if epoch else "No epoch was complete"
    with pytest.raises(TrainingError, match=rf"Process 0 of 1 was told to end \(SIGTERM\): .* {kept}"):
        train(recipe, tiny_data, tmp_path / "run")
    assert signal.getsignal(signal.SIGTERM) == before
    if epoch:
        monkeypatch.setattr(SegmentationModule, "training_step", original)
        train(recipe, tiny_data, tmp_path / "run", resume=True)
        assert len((tmp_path / "run/metrics.csv").read_text().splitlines()) == 3


def test_a_process_that_fails_is_not_ended_before_it_says_why(tiny_data, tmp_path, tiny_content, monkeypatch):
    """Lightning takes its handler away when it fails; torchrun's signal then ends it without a word."""

    def step(self, samples, number):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(SegmentationModule, "training_step", step)
    monkeypatch.setattr(ending, "place", lambda: Place(0, 2, 0, 2))
    monkeypatch.setattr(training_run, "ending_callbacks", lambda output: [EndWhenTold(output)])
    monkeypatch.setattr(training_run, "is_lost", lambda error: "Connection closed" in str(error))
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(TrainingError, match="but another one has ended"):
            train(validated(Recipe, tiny_content(epochs=1), "tiny.yaml"), tiny_data, tmp_path / "run")
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_training_that_ends_well_leaves_the_signal_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(ending, "place", lambda: Place(0, 2, 0, 2))
    before = signal.getsignal(signal.SIGTERM)
    with ending.ending_when_told(tmp_path), pytest.raises(TrainingError, match="was told to end"):
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before
