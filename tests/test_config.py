"""Recipes: what is accepted, what is refused, and whether the message names file and key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from qhybrid.config import (
    ClassConfig,
    DataConfig,
    LossConfig,
    Recipe,
    apply_overrides,
    load_recipe,
    read_yaml,
    to_yaml,
    validated,
)
from qhybrid.errors import ConfigError

SMALLEST = "name: tiny\ndata: {dataset: synthetic}\nmodel: {name: unet}\n"
RED = {"name": "a", "values": [1], "color": "#ff0000"}
BLUE = {"name": "b", "values": [2], "color": "#0000ff"}


@pytest.fixture
def recipe_file(tmp_path):
    def write(text: str = SMALLEST) -> Path:
        file = tmp_path / "recipe.yaml"
        file.write_text(text)
        return file

    return write


def test_names_with_underscores_are_text(recipe_file):
    recipe = load_recipe(recipe_file(), ["model.variant=12_1", "training.epochs=1_000", "seed=7"])
    assert recipe.model["variant"] == "12_1"
    assert (recipe.training.epochs, recipe.seed) == (1000, 7)
    assert yaml.safe_load(to_yaml(recipe))["model"]["variant"] == "12_1"


def test_words_that_yaml_takes_for_true_and_false_may_be_keys(recipe_file):
    """`off` names the experts that a mixture leaves out, and a class may be called `no`."""
    recipe = load_recipe(recipe_file(), ["model.part={off: [a], 'on': b}"])
    assert recipe.model["part"] == {"off": ["a"], "on": "b"}
    file = recipe_file()
    file.write_text("a: {off: [x], No: 1, yes: true, ON: off}\n")
    assert read_yaml(file) == {"a": {"off": ["x"], "No": 1, "yes": True, "ON": False}}
    file.write_text("off: 1\n'off': 2\n")
    with pytest.raises(ConfigError, match="key `off` is given twice"):
        read_yaml(file)


def test_smallest_recipe_has_documented_defaults(recipe_file):
    recipe = load_recipe(recipe_file())
    assert (recipe.name, recipe.seed, recipe.data.patch_size, recipe.engine.kind) == ("tiny", 0, 128, "exact")
    assert recipe.training.loss.class_weights == "sqrt_balanced"
    assert recipe.prediction.overlap == 0.5


def test_recipe_survives_writing_and_reading(recipe_file, tmp_path):
    recipe = load_recipe(
        recipe_file(),
        ["data.bands=[3,1]", "training.loss.class_weights=[1,2]", f"data.classes={[RED, BLUE]}"],
    )
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(recipe))
    assert load_recipe(again) == recipe
    assert recipe.data.bands == (3, 1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epoch=3", r"recipe\.yaml: key `training\.epoch` is unknown\. Did you mean `epochs`\?"),
        ("zzz=3", r"key `zzz` is unknown\. Known keys: name, description"),
        ("data.augmentation.flipp=true", r"Did you mean `flip`\?"),
        (
            "data.classes=[{nam: a, values: [1], color: '#000000'}]",
            r"`data\.classes\.0\.nam` is unknown.*`name`",
        ),
        ("training.epochs=0", r"key `training\.epochs`: .*greater than or equal to 1 \(given: 0\)"),
        ("training.learning_rate=.nan", r"`training\.learning_rate`: .*finite"),
        ("training.learning_rate=.inf", r"`training\.learning_rate`: .*finite"),
        ("training.warmup=1", r"`training\.warmup`: .*less than 1"),
        ("data.patch_size=8", r"`data\.patch_size`"),
        ("data.bands=[0]", r"`data\.bands`: band numbers count from 1"),
        ("data.bands=[]", r"`data\.bands`: band numbers count from 1"),
        ("data.classes=[{name: a, values: [], color: '#000000'}]", r"`data\.classes\.0\.values`"),
        ("data.classes=[{name: a, values: [1], color: red}]", r"`data\.classes\.0\.color`"),
        ("model={}", r"key `model`: key `name` is missing"),
        ("model=3", r"key `model`"),
        ("name=../elsewhere", r"key `name`"),
        ("seed=-1", r"key `seed`"),
        ("training.schedule=linear", r"`training\.schedule`: .*'constant' or 'cosine'"),
        ("training.loggers=[wandb]", r"`training\.loggers\.0`"),
        ("training.loss.class_weights=[1, -1]", r"key `training\.loss\.class_weights\.1`: .*\(given: -1\)"),
        ("training.loss.class_weights=[0, 0]", r"class_weights are all 0"),
        (
            "training.loss={cross_entropy: 0, dice: 0}",
            r"key `training\.loss`: cross_entropy and dice are both 0",
        ),
        ("engine.shots=0", r"`engine\.shots`"),
        ("engine.shots=1.5", r"`engine\.shots`"),
        ("engine.shots=true", r"`engine\.shots`: must be a number, but is true"),
        ("engine.seed=-1", r"`engine\.seed`"),
        ("engine.seed=abc", r"`engine\.seed`"),
    ],
)
def test_bad_values_name_file_key_and_value(recipe_file, setting, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(recipe_file(), [setting])


def test_every_problem_is_listed_at_once(recipe_file):
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe_file("name: tiny\nmodel: {name: unet}\nseed: x\n"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "key `data` is missing" in str(caught.value)
    assert "key `seed`" in str(caught.value)


def test_one_mask_value_cannot_mean_two_classes():
    with pytest.raises(ConfigError, match=r"mask value\(s\) \[1\] stand for more than one class"):
        validated(DataConfig, {"dataset": "x", "classes": [RED, {**BLUE, "values": [1, 2]}]}, "file")
    with pytest.raises(ConfigError, match=r"\[1\] stand for more than one class"):
        validated(DataConfig, {"dataset": "x", "classes": [RED], "ignore_values": [1]}, "file")


def test_class_names_differ():
    with pytest.raises(ConfigError, match="class names must differ, but are a, a"):
        validated(DataConfig, {"dataset": "x", "classes": [RED, {**BLUE, "name": "a"}]}, "file")


def test_sections_cannot_be_changed_afterwards():
    entry = validated(ClassConfig, RED, "file")
    with pytest.raises(ValueError, match="frozen"):
        entry.name = "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "key `name` is given twice"),
        ("data: {root: a, root: b}\n", "key `root` is given twice"),
        ("a: !!python/object/apply:os.system ['touch harm']\n", "is not valid YAML"),
        ("a: !!python/name:os.system\n", "is not valid YAML"),
        ("a: [1,\n", "is not valid YAML"),
        ("inputs: [x[*]]\n", "put text that holds brackets, .* in quotes"),
        ("- 1\n- 2\n", "must be a mapping with text keys, but is list"),
        ("1: a\n", "must be a mapping with text keys"),
        ("", "but is NoneType"),
        ("a: " + "[" * 5000 + "]" * 5000, "is not valid YAML: .* more than 100 deep"),
        ("- " * 50_000 + "a", "is not valid YAML: .* more than 100 deep"),  # libyaml's recursion has no limit
    ],
)
def test_unusable_yaml_is_refused_with_the_file_name(recipe_file, text, message):
    file = recipe_file(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(file)
    assert str(file) in str(caught.value)


def test_yaml_with_other_encodings_is_refused(tmp_path):
    file = tmp_path / "latin.yaml"
    file.write_bytes("name: Größe".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not valid YAML"):
        read_yaml(file)


def test_missing_recipe_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml: cannot be read \(No such file"):
        load_recipe(tmp_path / "nothing.yaml")


def test_merge_keys_are_not_duplicates(recipe_file):
    file = recipe_file("base: &base {x: 1, y: 2}\nother:\n  <<: *base\n  y: 3\n")
    assert read_yaml(file)["other"] == {"x": 1, "y": 3}


def test_overrides_leave_the_original_alone():
    content = {"training": {"epochs": 1}}
    changed = apply_overrides(content, ["training.epochs=5", "data.options.deep.key=[1, a]", "seed=3"])
    assert content == {"training": {"epochs": 1}}
    assert changed == {"training": {"epochs": 5}, "data": {"options": {"deep": {"key": [1, "a"]}}}, "seed": 3}


@pytest.mark.parametrize("setting", ["epochs", "=3", ".epochs=3", "training..epochs=3", "training.=3"])
def test_settings_without_key_or_value_are_refused(setting):
    with pytest.raises(ConfigError, match=r"must look like key\.sub=value"):
        apply_overrides({}, [setting])


def test_settings_go_through_sections_alone():
    with pytest.raises(ConfigError, match="`epochs` is not a section"):
        apply_overrides({"training": {"epochs": 1}}, ["training.epochs.more=1"])
    with pytest.raises(ConfigError, match="is not valid YAML"):
        apply_overrides({}, ["a=[1"])


def test_scientific_notation_without_a_point_is_a_number(recipe_file):
    # YAML 1.1 reads 1e-4 as text; the recipe must take it as the number the user meant.
    assert load_recipe(recipe_file(), ["training.learning_rate=1e-4"]).training.learning_rate == 1e-4


@given(
    cross_entropy=st.floats(0, 10),
    dice=st.floats(0, 10),
    weights=st.one_of(st.just("balanced"), st.lists(st.floats(0.1, 9), min_size=1, max_size=6)),
    seed=st.integers(0, 2**63),
)
def test_any_valid_recipe_round_trips(cross_entropy, dice, weights, seed):
    loss = {"cross_entropy": cross_entropy, "dice": dice + 0.1, "class_weights": weights}
    recipe = validated(
        Recipe,
        {**yaml.safe_load(SMALLEST), "seed": seed, "training": {"loss": loss}},
        "generated",
    )
    assert validated(Recipe, yaml.safe_load(to_yaml(recipe)), "written") == recipe
    assert validated(LossConfig, loss, "loss") == recipe.training.loss
