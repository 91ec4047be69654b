"""The documentation as a site: it builds strictly, and works without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from readme import CHECKOUT

NEEDED = ("mkdocs", "material", "mkdocstrings")
missing = [name for name in NEEDED if find_spec(name) is None]
pytestmark = pytest.mark.skipif(
    bool(missing), reason=f"the extra `docs` is not installed ({', '.join(missing)})"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return folder


class Addresses(HTMLParser):
    """Collects what a page loads, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        found = dict(attrs)
        if tag in ("script", "img", "iframe") and found.get("src"):
            self.loaded.append(found["src"])
        if tag == "link" and found.get("href") and found.get("rel") not in ("next", "prev"):
            self.loaded.append(found["href"])
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])


def pages(site: Path) -> dict[Path, Addresses]:
    return {
        page: Addresses(page.read_text()) for page in sorted(site.rglob("*.html")) if page.name != "404.html"
    }


def test_no_page_needs_a_network(site):
    found = pages(site)
    assert len(found) > 40
    outside = {
        (page.name, one)
        for page, held in found.items()
        for one in held.loaded
        if re.match(r"(https?:)?//", one)
    }
    assert outside == set()
    css = "".join(file.read_text() for file in site.rglob("*.css"))
    assert not re.search(r"url\(['\"]?(https?:)?//", css)


def test_all_links_and_files_are_there(site):
    for page, held in pages(site).items():
        for one in (*held.loaded, *held.links):
            path = one.split("#")[0].split("?")[0]
            if path and ":" not in one:
                assert (page.parent / path).exists(), (page.relative_to(site), one)
                assert not (page.parent / path).is_dir(), "a folder does not open from file://"


def test_search_works_without_a_server(site):
    index = (site / "search" / "search_index.js").read_text()
    assert "light cone" in index
    assert "expectation value" in index


def test_every_page_of_the_menu_is_there(site):
    def targets(entries):
        for entry in entries:
            value = next(iter(entry.values())) if isinstance(entry, dict) else entry
            yield from targets(value) if isinstance(value, list) else [value]

    listed = list(targets(yaml.safe_load((CHECKOUT / "mkdocs.yml").read_text())["nav"]))
    assert len(listed) > 40
    for one in listed:
        name = re.sub(r"README\.md$", "index.md", one)
        assert (site / name).with_suffix(".html").is_file(), one
    for notebook in (CHECKOUT / "notebooks").glob("*.ipynb"):
        assert f"notebooks/{notebook.stem}.md" in listed


def test_api_pages_have_docstrings(site):
    text = (site / "reference" / "api.html").read_text()
    for name in ("train", "Run", "sweep", "make_engine", "CircuitSpec", "judge", "JobService"):
        assert re.search(rf'id="qhybrid\.[\w.]*\b{name}"', text), name
    assert "A name in ./runs or of the package, a file, a mapping, or a recipe." in re.sub(
        r"<[^>]+>", "", text
    )
