"""Engines and mitigations: one table each, which config, sweeps, reports and hardware read."""

from __future__ import annotations

import pandas as pd
import pytest

from qhybrid.config import EngineConfig, Recipe, validated
from qhybrid.config.sweeps import SweepGrid
from qhybrid.engine_kinds import ENGINES, engine_label
from qhybrid.engines import DeviceForm, list_engines, make_engine, register_engine, register_mitigation
from qhybrid.engines.exact.engine import ExactEngine
from qhybrid.errors import ConfigError, EngineError, HardwareError, PluginError
from qhybrid.experiments.sweeps.cells import Conditions, SweepRun, cell_key
from qhybrid.experiments.sweeps.engines import cell_engine, shots_of_estimate
from qhybrid.hardware.settings import LEVELS, HardwareSettings, Mitigation, describe_mitigation, mitigation_of
from qhybrid.mitigations import MITIGATIONS, mitigation_label
from qhybrid.noise import NoiseProfile
from qhybrid.noise.library import IDEAL, profile_files, profile_label
from qhybrid.report.labels import executed_by, noise_label
from qhybrid.report.mitigation_charts import mitigation_looks

SETTINGS = {
    "split": "test", "samples": None, "trajectories": 7, "transpile_seed": 0,
    "zne": {"scales": [1, 2, 3], "extrapolation": "linear"},
}  # fmt: skip
NOISE = NoiseProfile.depolarizing(p_1q=0.01, p_2q=0.02)


@pytest.fixture
def tables():
    """Entries that a test adds go again."""
    with ENGINES.restored(), MITIGATIONS.restored():
        yield


@pytest.mark.parametrize("table", [ENGINES, MITIGATIONS], ids=["engines", "mitigations"])
def test_every_name_has_a_label_of_its_own_and_a_description(table):
    labels = [entry.label for _, entry in table.items()]
    assert all(labels)
    assert len(set(labels)) == len(labels)
    assert all(entry.description for _, entry in table.items())


def test_reports_show_the_labels_of_the_tables():
    assert [executed_by(name) for name in ENGINES.names()] == [ENGINES.get(n).label for n in ENGINES.names()]
    assert executed_by("trained") == "as trained"
    assert engine_label("of_a_plugin") == "of_a_plugin"
    rows = pd.DataFrame({"mitigation": ["none", "unheard_of"]})
    looks = mitigation_looks(rows)
    assert list(looks) == [*(entry.label for _, entry in MITIGATIONS.items()), "unheard_of"]
    assert len({(look.color, look.style) for look in looks.values()}) == len(looks)
    row = {"profile": "a/b/mine.yaml", "scale": 2.0, "mapping": "all_to_all"}
    assert noise_label(row) == "mine x 2"


def test_every_profile_has_one_label_by_name_and_by_file():
    found = profile_files()
    assert IDEAL in found
    for name, file in found.items():
        assert profile_label(name) == profile_label(str(file)) == name


def test_wrong_names_answer_with_a_near_one():
    with pytest.raises(ConfigError, match="engine 'exakt' is unknown.*Did you mean `exact`"):
        validated(EngineConfig, {"kind": "exakt"}, "--engine")
    with pytest.raises(ConfigError, match=r"key `engine\.kind`.*Did you mean `routed`"):
        validated(Recipe, {"name": "a", "data": {}, "model": {}, "engine": {"kind": "routet"}}, "r.yaml")
    with pytest.raises(EngineError, match="Argument `kind`: engine 'aerr'.*Did you mean `aer`"):
        make_engine("aerr")
    with pytest.raises(ConfigError, match="Did you mean `exact`"):
        validated(SweepGrid, {"engines": ["exakt"]}, "s.yaml")
    with pytest.raises(ConfigError, match="'routed' cannot be used in a sweep.*exact, aer_density_matrix"):
        validated(SweepGrid, {"engines": ["routed"]}, "s.yaml")
    with pytest.raises(ConfigError, match="Did you mean `readout_zne`"):
        validated(SweepGrid, {"mitigations": ["readout-zne"]}, "s.yaml")
    with pytest.raises(HardwareError, match="`readot` is unknown. Did you mean `readout`"):
        mitigation_of("readot")


def test_names_that_stand_for_options_make_that_engine():
    found = make_engine("aer_density_matrix", noise=NOISE).describe()
    assert found == make_engine("aer", noise=NOISE, method="density_matrix").describe()
    with pytest.raises(EngineError, match="`method`, which it would ignore"):
        make_engine("aer_density_matrix", method="statevector")


def test_an_engine_of_a_plugin_serves_recipes_and_sweeps(tables):
    class Own(ExactEngine):
        """The exact engine under another name."""

    register_engine("own", Own, label="my own")
    assert "own" in list_engines()
    assert EngineConfig(kind="own").kind == "own"
    assert validated(SweepGrid, {"engines": ["own"]}, "s.yaml").engines == ("own",)
    engine = cell_engine(Conditions("own", "d", shots=5, seed=1), NOISE, SETTINGS, "weights")
    assert type(engine) is Own
    assert executed_by("own") == "my own"
    with pytest.raises(PluginError, match="already named `own`"):
        register_engine("own", Own)
    register_engine("small", lambda noise=None: Own(noise=noise))
    with pytest.raises(ConfigError, match="'small' cannot be used in a sweep"):
        validated(SweepGrid, {"engines": ["small"]}, "s.yaml")


def test_trajectories_of_a_plugin_get_their_number_and_a_seed(tables):
    given = {}

    def make(noise=None, shots=None, seed=None, trajectories=None):
        given.update(shots=shots, seed=seed is not None, trajectories=trajectories)
        return ExactEngine(noise=noise)

    register_engine("jumps", make, trajectories=True)
    cell_engine(Conditions("jumps", "d", seed=0), NOISE, SETTINGS, "weights")
    assert given == {"shots": None, "seed": True, "trajectories": 7}
    cell_engine(Conditions("jumps", "d", shots=5, seed=0), NOISE, SETTINGS, "weights")
    assert given == {"shots": 5, "seed": True, "trajectories": None}


def wrap(make, profile):
    return make(profile, 0)


def key_of(mitigation):
    run = SweepRun("a", "runs/a", {"weights": "w"}, {"engine": {}})
    return cell_key(run, Conditions("exact", "d", mitigation=mitigation), NOISE, SETTINGS)


def test_shots_and_keys_of_cells_follow_the_table(tables):
    register_mitigation("thrice", wrap, label="three times", executions=3)
    shots = [
        shots_of_estimate(Conditions("exact", "d", shots=10, mitigation=name), SETTINGS)
        for name in ("none", "readout", "zne", "readout_zne", "thrice")
    ]
    assert shots == [10, 10, 30, 30, 30]
    assert shots_of_estimate(Conditions("exact", "d", shots=10, mitigation="thrice"), SETTINGS, False) == 10
    first = key_of("thrice")
    register_mitigation("thrice", wrap, label="three times", executions=3, version=2, replace=True)
    assert key_of("thrice") != first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": ""}, "must have a label of its own"),
        ({"label": "zero-noise extrapolation"}, "as `zne` has"),
        ({"executions": 0}, "at least 1"),
        ({"version": 0}, "at least 1"),
        ({"device": DeviceForm(folds=(1, 2))}, "odd numbers"),
        ({"device": DeviceForm(folds=(3, 5))}, "odd numbers"),
        ({"device": DeviceForm(folds=(1,))}, "odd numbers"),
    ],
)
def test_what_a_mitigation_must_say(changes, message, tables):
    with pytest.raises(PluginError, match=message):
        register_mitigation("mine", wrap, **{"label": "mine", **changes})
    assert "mine" not in MITIGATIONS


def test_hardware_reads_the_same_table(tables):
    assert mitigation_of("cheap") == LEVELS["cheap"]
    assert mitigation_of("readout") == Mitigation(readout=True)
    assert mitigation_of("zne") == Mitigation(readout=False, zne=(1, 3))
    assert mitigation_of("readout_zne") == Mitigation(readout=True, zne=(1, 3))
    register_mitigation("engines_only", wrap, label="engines only")
    with pytest.raises(HardwareError, match="`engines_only` has no form for hardware.*cheap, .*readout"):
        mitigation_of("engines_only")
    with pytest.raises(ConfigError, match="engines_only"):
        validated(HardwareSettings, {"backend": "aer", "mitigation": "engines_only"}, "settings")
    form = DeviceForm(folds=(1, 3), estimate=lambda readings: (readings.means[0], readings.variances[0]))
    register_mitigation("both", wrap, label="my method", device=form)
    assert mitigation_of("both") == Mitigation(readout=False, zne=(1, 3), method="both")
    with pytest.raises(ConfigError, match=r"zne must be \[1, 3\] for mitigation `both`"):
        validated(Mitigation, {"method": "both"}, "settings")


def test_plans_name_their_mitigation_as_reports_do(tables):
    assert describe_mitigation({"readout": False}) == "no mitigation"
    strong = describe_mitigation(LEVELS["strong"].model_dump())
    parts = ("dynamical decoupling", "twirled gates", "twirled read-outs")
    assert strong == ", ".join(("read-out correction", *parts, "zero-noise extrapolation"))
    assert describe_mitigation({"gate_twirling": True, "zne": [1, 3]}) == (
        "twirled gates, zero-noise extrapolation"
    )
    register_mitigation("mine", wrap, label="my method", device=DeviceForm(estimate=lambda readings: None))
    assert describe_mitigation(mitigation_of("mine").model_dump()) == mitigation_label("mine") == "my method"


def test_plans_without_plugins_look_as_before():
    content = HardwareSettings(backend="aer").model_dump(mode="json")
    assert "service" not in content
    assert "method" not in content["mitigation"]
