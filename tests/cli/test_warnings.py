"""Warnings are lines of their own, and each is said once by a command."""

import warnings

from qhybrid.cli.console import tell_warnings


def test_one_warning_is_told_once(capsys):
    for _ in range(2):  # two commands of one process
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            tell_warnings()
            for _ in range(3):
                warnings.warn("10 of 10 scene(s) have no georeference", stacklevel=1)
            warnings.warn("another", stacklevel=1)
        told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
        assert told == ["warning: 10 of 10 scene(s) have no georeference", "warning: another"]
