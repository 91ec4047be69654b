"""The command line before any command runs: help, version, speed, and how errors look."""

from __future__ import annotations

import gc
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from qhybrid.cli import main
from qhybrid.cli.console import console, duration, errors, say_table, seconds_left, stage_bars
from qhybrid.cli.main import execute
from qhybrid.version import __version__

COMMANDS = ("init", "demo", "data", "circuits", "train", "evaluate", "predict", "doctor")
HEAVY = ("torch", "qiskit", "rasterio", "matplotlib", "lightning", "kornia", "pandas")


def test_help_lists_all_commands_and_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from qhybrid.cli.main import execute\n"
        "code = execute(['--help'])\n"
        f"print('HEAVY', sorted(set({HEAVY}) & set(sys.modules)), code)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.rstrip().endswith("HEAVY [] 0")
    for command in COMMANDS:
        assert f" {command} " in answer.stdout


@pytest.mark.parametrize(
    "command", [[name] for name in COMMANDS] + [["data", "tile"], ["data", "synthetic"], ["circuits", "show"]]
)
def test_every_command_has_help(command, capsys):
    assert execute([*command, "--help"]) == 0
    assert "Usage: qhybrid" in capsys.readouterr().out


def test_version(capsys):
    assert execute(["--version"]) == 0
    assert capsys.readouterr().out == f"qhybrid {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["train", "--nothing"], ["train", "a", "--resume", "b"], ["train"]]
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    assert execute(arguments) == 2
    assert "Usage: qhybrid" in capsys.readouterr().err


def test_errors_are_one_message_without_traceback(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QHYBRID_DEBUG", raising=False)
    assert execute(["train", "nowhere.yaml"]) == 1
    answer = capsys.readouterr()
    assert answer.out == ""
    assert answer.err.startswith("error: Recipe nowhere.yaml must be")
    assert "Traceback" not in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize("how", ["option", "variable"])
def test_debug_shows_the_traceback(how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["train", "nowhere.yaml"]
    if how == "option":
        arguments.insert(0, "--debug")
    else:
        monkeypatch.setenv("QHYBRID_DEBUG", "1")
    with pytest.raises(main.QHybridError, match=r"nowhere\.yaml"):
        execute(arguments)


def test_markup_in_messages_is_printed_as_it_is(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert execute(["train", "[red]x[/red]"]) == 1
    assert "Recipe [red]x[/red] must be" in capsys.readouterr().err


def test_interrupt_exits_with_130(monkeypatch, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("qhybrid.workspace.lay_out_starter", interrupt)
    assert execute(["init", str(tmp_path)]) == 130


def test_script_entry_point_exits_with_the_code(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["qhybrid", "evaluate", "nowhere"])
    with pytest.raises(SystemExit) as stop:
        main.run()
    assert stop.value.code == 1


def _page_faults(preparation: str) -> int:
    """Return how often a fresh process must map memory for one tensor of 64 MiB."""
    code = (
        "import resource, torch\n"
        f"{preparation}\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "torch.ones(1 << 24)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != main.LARGE_PAGES}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return int(answer.stdout)


def test_tensors_lie_in_large_pages(monkeypatch):
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not switch.is_file() or "[never]" in switch.read_text():
        pytest.skip("this system has no transparent large pages")
    small = _page_faults("pass")
    large = _page_faults("from qhybrid.cli.main import use_large_pages; use_large_pages()")
    assert large < small / 4 or small < 1000  # a system that always gives large pages

    monkeypatch.setenv(main.LARGE_PAGES, "0")
    main.use_large_pages()
    assert os.environ[main.LARGE_PAGES] == "0"


def test_time_left_is_that_of_the_parts_done_in_this_time():
    assert seconds_left(30.0, 3, 7) == 70.0
    assert seconds_left(30.0, 0, 7) is None
    assert seconds_left(30.0, 3, None) is None
    assert duration(3723.4) == "1:02:03"


def test_bars_show_the_time_left_in_80_columns_and_nothing_without_a_terminal(monkeypatch):
    for terminal in (True, False):
        text = io.StringIO()
        drawn = Console(file=text, width=80, force_terminal=terminal, legacy_windows=False)
        monkeypatch.setattr("qhybrid.cli.console.errors", drawn)
        with stage_bars() as show:
            show("a scene whose name is longer than any terminal is wide " * 2, 0, 1000)
            show("a scene whose name is longer than any terminal is wide " * 2, 999, 1000)
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue()).replace("\r", "\n")
        assert max(map(len, plain.splitlines()), default=0) <= 80
        assert ("999/1000" in plain, "0:00:00 left" in plain) == (terminal, terminal)
        assert terminal or text.getvalue() == ""


def test_warnings_are_lines_without_the_place_in_the_code():
    code = (
        "import sys, warnings\n"
        "from qhybrid.cli import main\n"
        "def warn(words):\n"
        "    warnings.warn('[scene] has no place ' + 100 * '-', UserWarning)\n"
        "    warnings.warn('old', FutureWarning)\n"
        "    return 0\n"
        "main.execute = warn\n"
        "main.run()\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    own, other = answer.stderr.splitlines()[:2]
    assert own == "warning: [scene] has no place " + 100 * "-"
    assert other.endswith("FutureWarning: old")


def test_garbage_is_looked_for_seldom_or_as_seldom_as_the_user_says():
    before = gc.get_threshold()
    try:
        for given, expected in (((700, 10, 10), 10_000), ((50_000, 5, 5), 50_000)):
            gc.set_threshold(*given)
            main.collect_seldom()
            assert gc.get_threshold() == (expected, *given[1:])
    finally:
        gc.set_threshold(*before)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("how", [{}, {"no_wrap": True}, {"overflow": "fold"}])
def test_tables_are_printed_whole_in_any_terminal(width, how, monkeypatch):
    names = ["wald [red]", "[/x] wasser", "road :car:", "a_long_name_without_a_place_to_break"]
    numbers = ["-12.3456 +12.3456", "1,234,567", "0.0123"]
    table = Table(title="[bold]")
    for head in ("class", "first", "second", "third"):
        table.add_column(head, **how)
    for name in names:
        table.add_row(name, *numbers)
    drawn = Console(file=io.StringIO(), width=width, markup=False, emoji=False)
    monkeypatch.setattr("qhybrid.cli.console.console", drawn)
    say_table(table)
    assert drawn.width == width
    printed = drawn.file.getvalue()
    assert "…" not in printed
    assert "[bold]" in printed
    rows = [line.split("│")[1:-1] for line in printed.splitlines() if line.startswith("│")]
    columns = ["".join(row[place] for row in rows).replace(" ", "") for place in range(4)]
    assert columns[0] == "".join(names).replace(" ", "")
    assert columns[1:] == [number.replace(" ", "") * len(names) for number in numbers]


def test_names_that_look_like_markup_are_printed_as_they_are():
    for one in (console, errors):
        assert one.render_str("wald [red] [/x] :car:").plain == "wald [red] [/x] :car:"
