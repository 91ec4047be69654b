"""What the site has besides docs/: files of the checkout as pages, notebooks, and links that lead to them.

MkDocs calls `on_config`, `on_files` and `on_page_markdown`. Nothing is copied by hand: files of the checkout
keep their places.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "runs/LOG.md": "log.md",
    "noise_profiles/README.md": "noise_profiles.md",
}
"""Files outside docs/ that are pages of the site, and their places in it."""
FIGURES = ("results/", "log.md", "changelog.md", "dependencies.md")
"""Pages of numbers and of what happened, which come last in a search."""
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def notebook_page(content: dict[str, Any]) -> str:
    """Return a notebook as Markdown: text, code, and what the code has printed or drawn."""
    parts = []
    for cell in content["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                picture = "".join(data["image/png"]).replace("\n", "")
                parts.append(f'<img alt="figure" src="data:image/png;base64,{picture}">')
            elif "text" in output or "text/plain" in data:
                text = "".join(output.get("text", data.get("text/plain", "")))
                parts.append(f"```text\n{text.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def named(entries: list[Any]) -> set[str]:
    """Return the pages that a menu names."""
    values = [next(iter(one.values())) if isinstance(one, dict) else one for one in entries]
    return {page for one in values for page in (named(one) if isinstance(one, list) else {one})}


def on_config(config: Any) -> Any:
    """Add pages that the menu does not name to the end of its sections Results and Reference."""
    sections = {name: pages for one in config.nav if isinstance(one, dict) for name, pages in one.items()}
    root = Path(config.docs_dir)
    known = named(config.nav)
    for file in sorted(root.rglob("*.md")):
        page = file.relative_to(root).as_posix()
        if page not in known:
            sections["Results" if page.startswith("results/") else "Reference"].append(page)
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie outside docs/."""
    for source, target in PAGES.items():
        files.append(File.generated(config, target, content=(CHECKOUT / source).read_text(encoding="utf-8")))
    for notebook in sorted((CHECKOUT / "notebooks").glob("*.ipynb")):
        page = notebook_page(json.loads(notebook.read_text(encoding="utf-8")))
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=page))
    return files


def source_of(page: str) -> str:
    """Return where a page of the site lies in the checkout."""
    outside = {target: source for source, target in PAGES.items()}
    if page in outside:
        return outside[page]
    return page if page.startswith("notebooks/") else f"docs/{page}"


def page_of(source: str) -> str | None:
    """Return the page or file of the site that a path of the checkout is, None if it is none."""
    if source in PAGES:
        return PAGES[source]
    if source == "README.md":
        return "index.md"
    if source.startswith("notebooks/") and source.endswith(".ipynb"):
        return f"{source.removesuffix('.ipynb')}.md"
    if source.startswith("docs/") and (CHECKOUT / source).is_file():
        return source.removeprefix("docs/")
    return None


def relinked(markdown: str, page: str) -> str:
    """Return a page whose links fit the site; what exists in the checkout alone becomes plain text.

    Links to what exists nowhere stay, so that the strict build finds them.
    """
    here = posixpath.dirname(source_of(page))

    def change(found: re.Match[str]) -> str:
        mark, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        if not target or ":" in target or target.startswith("/"):
            return found[0]
        source = posixpath.normpath(posixpath.join(here, target))
        there = page_of(source)
        if there is not None:
            return f"{mark}[{text}]({posixpath.relpath(there, posixpath.dirname(page) or '.')}{anchor})"
        return text if (CHECKOUT / source).exists() else found[0]

    # Code keeps what looks like a link.
    pieces = re.split(r"(^```.*?^```$|`[^`\n]+`)", markdown, flags=re.MULTILINE | re.DOTALL)
    joined, held = "", {}
    for number, piece in enumerate(pieces):
        if number % 2:
            held[f"\x00{number}\x00"] = piece
            joined += f"\x00{number}\x00"
        else:
            joined += piece
    return re.sub(r"\x00\d+\x00", lambda found: held[found[0]], LINK.sub(change, joined))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Mend the links of a page before it is rendered; let searches find explanations before figures.

    Pages of figures have no list of their chapters at the right: their tables need the room.
    """
    if page.file.src_uri.startswith(FIGURES):
        page.meta.setdefault("search", {"boost": 0.3})
        page.meta.setdefault("hide", ["toc"])
    return relinked(markdown, page.file.src_uri)
