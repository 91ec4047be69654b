"""Writes docs/dependencies.md: what an installation brings along, with versions and licences.

    python docs/write_dependencies.py

Versions are those of constraints.txt, licences those that the packages state of themselves, as SPDX
expressions (https://spdx.org/licenses). A test compares the page with what this writes, and refuses licences
that a package under Apache-2.0 cannot be handed out with.
"""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TARGET = Path(__file__).with_name("dependencies.md")
TOOLS = ("test", "bench", "docs")
"""Extras of people who work on the package: they are not part of what users install."""

STATED = {
    "antlr4-python3-runtime": "BSD-3-Clause",
    "cligj": "BSD-3-Clause",
    "gitdb": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "matplotlib": "LicenseRef-Matplotlib",
    "mpmath": "BSD-3-Clause",
    "partd": "BSD-3-Clause",
    "pyasn1-modules": "BSD-2-Clause",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "rasterio": "BSD-3-Clause",
    "sqlparse": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
    "zict": "BSD-3-Clause",
}
"""Licences of packages whose own words are no SPDX expression and say less, read in their licence files."""

WORDS = (
    (r"apache", "Apache-2.0"),
    (r"mpl|mozilla", "MPL-2.0"),
    (r"bsd.?2|2.?clause", "BSD-2-Clause"),
    (r"bsd.?3|3.?clause|new bsd", "BSD-3-Clause"),
    (r"\bisc\b", "ISC"),
    (r"\bmit\b", "MIT"),
    (r"psf|python software foundation", "PSF-2.0"),
    (r"bsd", "BSD-3-Clause"),
)
"""What is looked for in words that are no expression, in this order."""

HEADER = """\
# Dependencies and their licences

What `pip install qhybrid` brings along, and what each extra adds, at the versions of constraints.txt on Linux
with Python 3.11. Licences are SPDX expressions as the packages state them; qhybrid's own is Apache-2.0.
Packages that only tests, benchmarks or documentation need are left out. This page is written by
`python docs/write_dependencies.py`.
"""


def licence_of(name: str) -> str:
    """Return the licence of an installed package as an SPDX expression.

    Raises:
        ValueError: If its own words do not say it.
    """
    found = metadata.metadata(name)
    if expression := found.get("License-Expression"):
        return str(expression)
    if stated := STATED.get(canonicalize_name(name)):
        return stated
    text = str(found.get("License") or "")
    classifiers = [one.split("::")[-1] for one in found.get_all("Classifier") or [] if "License ::" in one]
    for words in (text if len(text) < 80 else "", *classifiers, text[:200]):
        if " AND " in words or " OR " in words:
            return words
        for pattern, licence in WORDS:
            if re.search(pattern, words, re.IGNORECASE):
                return licence
    raise ValueError(
        f"{name}: the licence must be known, but its metadata do not say it. Fix: STATED in {__file__}."
    )


def closure(requirements: list[str]) -> set[str]:
    """Return the names of all packages that requirements bring along, themselves included."""
    found: set[str] = set()
    open_ones = [(Requirement(text), "") for text in requirements]
    seen = set()
    while open_ones:
        requirement, extra = open_ones.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        found.add(name)
        for wanted in ("", *sorted(requirement.extras)):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                needs = metadata.distribution(name).requires or []
                open_ones += [(Requirement(text), wanted) for text in needs]
    return found


def tables() -> dict[str, set[str]]:
    """Return the packages of the plain installation, and those that each extra adds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    plain = closure(project["dependencies"])
    found = {"": plain}
    for extra, needs in project["optional-dependencies"].items():
        if extra not in TOOLS:
            found[extra] = closure(needs) - plain
    return found


def page() -> str:
    """Return the whole page."""
    parts = [HEADER]
    for extra, names in tables().items():
        parts.append(f"## Extra `{extra}`\n" if extra else "## Always\n")
        if not names:
            parts.append("Nothing more.\n")
            continue
        rows = [
            f"| {name} | {metadata.version(name).split('+')[0]} | {licence_of(name)} |"
            for name in sorted(names)
        ]
        parts.append("\n".join(["| package | version | licence |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
    print(f"wrote {TARGET}")
