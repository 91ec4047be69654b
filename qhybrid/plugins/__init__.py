"""Kinds of things by name, ours and those that other people's code adds.

A `Registry` holds one kind of thing: circuits, models, data sets, metrics, and so on. Code of other people
comes in through the entry point group `qhybrid.plugins` of an installed package, through modules that
QHYBRID_PLUGINS names (separated by commas; a module or a .py file), or through `--plugin`, which sets
that variable for the command and its worker processes. It never comes in because a run folder says so.

Plugins are imported at the first look-up of any name.
"""

from qhybrid.plugins.loading import (
    GROUP,
    VARIABLE,
    load_plugins,
    name_plugins,
    named_plugins,
    resolved,
    temporary_plugins,
)
from qhybrid.plugins.records import check_plugins, loaded_plugins, words
from qhybrid.plugins.registry import Plugin, Registry, near_name

__all__ = [
    "GROUP",
    "VARIABLE",
    "Plugin",
    "Registry",
    "check_plugins",
    "load_plugins",
    "loaded_plugins",
    "name_plugins",
    "named_plugins",
    "near_name",
    "resolved",
    "temporary_plugins",
    "words",
]
