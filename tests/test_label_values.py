import json

import pytest
import yaml
from readme import CHECKOUT, blocks

from qhybrid.config import DataConfig, validated
from qhybrid.config.label_values import LabelColor, ValueRange, ambiguous_values, parse_label_value
from qhybrid.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (7, 7),
        ("#FF8000", LabelColor(0xFF8000)),
        ("0-127", ValueRange(0, 127)),
        ("-10 - -1", ValueRange(-10, -1)),
        ("0.25-0.5", ValueRange(0.25, 0.5)),
        ("wood", "wood"),
        ("2020-01-01", "2020-01-01"),
    ],
)
def test_values_are_told_apart(value, meaning):
    assert parse_label_value(value) == meaning


@pytest.mark.parametrize(
    ("text", "inside", "outside", "code"),
    [
        ("3-5", (3, 5), (2, 6, 2.999), 3),
        (">=2", (2, 1e9), (1.999,), 2),
        (">2", (2.001,), (2,), 3),
        ("<=2", (2, -1e9), (2.001,), 2),
        ("<2", (1.999,), (2,), 1),
        ("0.25-0.5", (0.25, 0.5), (0, 1), None),
        ("0.5-1.5", (1,), (2,), 1),
    ],
)
def test_ranges(text, inside, outside, code):
    values = parse_label_value(text)
    assert all(number in values for number in inside)
    assert not any(number in values for number in outside)
    assert values.code == code


def test_ranges_that_share_one_number_or_none():
    assert ambiguous_values([["<0.5"], [">=0.5"]]) == []
    assert ambiguous_values([["<=0.5"], [">=0.5"]]) == ["<=0.5", ">=0.5"]
    assert ambiguous_values([["0-5", 3], [6], [7, 7]]) == [7]


def config(**keys):
    entries = [{"name": "a", "values": ["#ffff00"], "color": "#000000"}]
    return validated(DataConfig, {"dataset": "x", "classes": entries, **keys}, "recipe.yaml")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "quotes"),
        ("#ff00", "#rrggbb"),
        ("9-3", "lower end"),
        (1.5, "valid integer"),
    ],
)
def test_values_that_mean_nothing_are_refused(value, message):
    with pytest.raises(ConfigError, match=message):
        config(ignore_values=[value])


def test_whole_numbers_as_text_are_numbers_but_codes_with_zeros_are_text():
    assert config(ignore_values=["12", "-3", "012"]).ignore_values == (12, -3, "012")


def test_new_keys_are_written_where_they_are_used():
    plain = json.loads(config().model_dump_json())
    assert not {"color_tolerance", "fit_masks", "vector"} & set(plain)
    used = config(color_tolerance=9, fit_masks=True, vector={"polygons": "a"})
    assert DataConfig.model_validate_json(used.model_dump_json()) == used
    assert DataConfig.model_validate(plain) == config()


@pytest.mark.parametrize("block", blocks("yaml", (CHECKOUT / "docs" / "labels.md").read_text()))
def test_the_page_about_labels_shows_valid_recipes(block):
    section = validated(DataConfig, yaml.safe_load(block)["data"], "docs/labels.md")
    assert all(entry.values or section.vector for entry in section.classes)
