"""What tests look for in a page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

EMPTY = {"meta", "link", "img", "br", "hr", "input", "path", "use", "rect", "circle", "line"}


class Page(HTMLParser):
    """Reads a page, and fails on tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.headings: list[str] = []
        self.tags: dict[str, int] = {}
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags[tag] = self.tags.get(tag, 0) + 1
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "action", "data"):
                self.references.append(value)
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in EMPTY:
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data.strip())


def outside_references(page: Page, text: str) -> list[str]:
    """Return what the page would fetch from elsewhere."""
    found = [one for one in page.references if not one.startswith(("data:", "#"))]
    found += re.findall(r"@import[^;]*;|url\((?!#|['\"]?data:)[^)]*\)", text)
    return found
