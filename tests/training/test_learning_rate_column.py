"""metrics.csv and the terminal have the learning rate that an epoch's last step was made with."""

import pandas as pd
import pytest

from qhybrid.config import Recipe, TrainingConfig, validated
from qhybrid.training import train
from qhybrid.training.optimizer import learning_rate_factor


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_last_step_has_a_rate(tmp_path, tiny_data, tiny_content, schedule):
    content = tiny_content(epochs=2)
    content["training"] |= {"schedule": schedule, "learning_rate": 0.01, "warmup": 0.0}
    run = train(validated(Recipe, content, "test"), tiny_data, tmp_path / "run", test=False)
    table = pd.read_csv(run / "metrics.csv")
    config = TrainingConfig(schedule=schedule, warmup=0.0, learning_rate=0.01)
    total = int(table["step"].iloc[-1])
    rates = [0.01 * learning_rate_factor(step - 1, total, config) for step in table["step"]]
    assert table["learning_rate"].tolist() == pytest.approx(rates)
    assert table["learning_rate"].iloc[-1] > 0
