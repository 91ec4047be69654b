"""Registries, and the three ways in which code of other people gets into them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from qhybrid import plugins
from qhybrid.errors import ConfigError, PluginError
from qhybrid.plugins import Registry, check_plugins, load_plugins, loaded_plugins, loading, name_plugins

SHAPES: Registry[int] = Registry("shape")


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    monkeypatch.setattr(loading, "_PLUGINS", {})
    monkeypatch.setattr(loading, "_STATE", loading._State())
    monkeypatch.setattr(SHAPES, "_entries", {"circle": 0})
    monkeypatch.setattr(SHAPES, "_origins", {"circle": None})
    monkeypatch.setenv(plugins.VARIABLE, "")


@pytest.fixture
def shape_file(tmp_path):
    path = tmp_path / "my_shapes.py"
    path.write_text("from test_plugins import SHAPES\nSHAPES.register('square', 4)\n")
    yield path
    sys.modules.pop("my_shapes", None)


def test_names_near_and_far():
    assert SHAPES.get("circle") == 0
    with pytest.raises(ConfigError, match=r"key: shape 'circel' is unknown.*Did you mean `circle`"):
        SHAPES.get("circel", "key")
    with pytest.raises(ConfigError, match=r"Known shapes: circle\.$"):
        SHAPES.get("xyz")


def test_a_name_is_given_once():
    with pytest.raises(PluginError, match="already named `circle` \\(qhybrid\\)"):
        SHAPES.register("circle", 1)
    SHAPES.register("circle", 1, replace=True)
    assert SHAPES.get("circle") == 1
    with pytest.raises(PluginError, match="must be a word"):
        SHAPES.register(" a", 1)


def test_temporary_entries_go_again():
    with SHAPES.temporarily("circle", 9), SHAPES.temporarily("line", 2):
        assert SHAPES.get("circle") == 9
    assert SHAPES.names() == ("circle",)
    assert SHAPES.get("circle") == 0


def test_a_file_adds_names_and_is_recorded(shape_file):
    name_plugins([str(shape_file)])
    assert SHAPES.get("square") == 4
    (recorded,) = loaded_plugins()
    assert recorded["name"] == "my_shapes"
    assert recorded["adds"] == {"shape": ["square"]}
    assert recorded["version"].startswith("sha256:")
    assert SHAPES.origin("square").name == "my_shapes"
    assert SHAPES.origin("circle") is None


def test_a_module_has_its_own_version(tmp_path, monkeypatch):
    (tmp_path / "shapes_module.py").write_text(
        "__version__ = '1.2'\nfrom test_plugins import SHAPES\nSHAPES.register('cube', 6)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(plugins.VARIABLE, "shapes_module")
    assert "cube" in SHAPES
    assert [one.version for one in load_plugins()] == ["1.2"]
    sys.modules.pop("shapes_module")


def test_the_variable_reaches_child_processes(tmp_path, monkeypatch):
    (tmp_path / "child_shapes.py").write_text("print('loaded in child')\n")
    name_plugins([str(tmp_path / "child_shapes.py")])
    sys.modules.pop("child_shapes")
    code = "from qhybrid.plugins import load_plugins; print(load_plugins()[0].name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["loaded in child", "child_shapes"]


@pytest.mark.parametrize("content", ["raise OSError('no')", "import nothing_of_that_name", "def"])
def test_a_named_plugin_that_fails_is_an_error_and_leaves_nothing(tmp_path, content, monkeypatch):
    path = tmp_path / "broken_shapes.py"
    path.write_text(f"from test_plugins import SHAPES\nSHAPES.register('half', 1)\n{content}\n")
    with pytest.raises(PluginError, match=r"broken_shapes\.py cannot be loaded"):
        name_plugins([str(path)])
    assert "half" not in SHAPES
    monkeypatch.setenv(plugins.VARIABLE, str(path))
    for _ in range(2):  # it stays an error as long as it is named
        with pytest.raises(PluginError, match="cannot be loaded"):
            SHAPES.names()
    monkeypatch.setenv(plugins.VARIABLE, "")
    with pytest.raises(PluginError, match="no such file"):
        load_plugins([str(tmp_path / "absent.py")])


def test_what_a_plugin_imports_of_ours_is_not_its_own(tmp_path):
    """A table of ours that a plugin imports first belongs to us, also after the plugin has failed."""
    path = tmp_path / "early_shapes.py"
    path.write_text(
        "import types\n"
        "from test_plugins import SHAPES\n"
        "module = types.ModuleType('qhybrid.shapes')\n"
        "exec('from test_plugins import SHAPES\\nSHAPES.register(\"oval\", 0)', module.__dict__)\n"
        "SHAPES.register('square', 4)\n"
        "raise RuntimeError('late')\n"
    )
    with pytest.raises(PluginError, match="late"):
        name_plugins([str(path)])
    assert SHAPES.names() == ("circle", "oval")
    assert SHAPES.origin("oval") is None


def test_only_names_that_are_used_are_missed(shape_file):
    name_plugins([str(shape_file)])
    absent = [{**loaded_plugins()[0], "name": "gone", "adds": {"shape": ["hexagon"]}}]
    check_plugins(absent, "meta.json", used={"square"})
    with pytest.raises(PluginError, match="hexagon"):
        check_plugins(absent, "meta.json", used={"hexagon"})


class Point:
    """An installed plugin's entry point."""

    name, value = "there", "there.module"

    class dist:
        name, version = "there-plugin", "3.1"

    def __init__(self, load):
        self.load = load


def test_installed_plugins_are_found_and_broken_ones_only_warn(monkeypatch):
    def broken():
        raise RuntimeError("old interface")

    points = [Point(broken), Point(lambda: SHAPES.register("star", 5))]
    points[0].value = "broken.module"
    monkeypatch.setattr(loading, "entry_points", lambda group: points if group == plugins.GROUP else [])
    with pytest.warns(UserWarning, match="installed but cannot be loaded .*old interface"):
        assert SHAPES.get("star") == 5
    assert [(one.name, one.version) for one in load_plugins()] == [("there-plugin", "3.1")]


def test_runs_name_the_plugin_that_is_missing(shape_file):
    name_plugins([str(shape_file)])
    recorded = loaded_plugins()
    check_plugins(recorded, "meta.json")
    other = [{**recorded[0], "version": "2"}]
    with pytest.warns(UserWarning, match="made with plugin `my_shapes` 2, but sha256"):
        check_plugins(other, "meta.json")
    absent = [{**recorded[0], "name": "gone", "adds": {"shape": ["hexagon"]}}]
    with pytest.raises(PluginError, match=r"adds shape `hexagon`.*--plugin"):
        check_plugins(absent, "meta.json")
