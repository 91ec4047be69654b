"""Executes the notebooks and stores them with small outputs: `python docs/run_notebooks.py [NAME ...]`.

Kept are printed text and pictures; warnings, HTML twins of tables, and whatever names a place of this machine
are left out. Needs the extra `docs`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
OBJECT = re.compile(r"<(matplotlib\.|Figure size)")


def text_of(output: dict[str, Any]) -> str:
    """Return what an output says, without colours; empty for warnings and objects."""
    if output.get("name") == "stderr":
        return ""
    text = output.get("text", output.get("data", {}).get("text/plain", ""))
    text = ANSI.sub("", text if isinstance(text, str) else "".join(text))
    return "" if OBJECT.match(text) else text.rstrip() + "\n"


def small_outputs(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the outputs of a cell: text in one piece, then pictures."""
    text = "".join(text_of(one) for one in outputs).rstrip()
    kept: list[dict[str, Any]] = []
    if text:
        kept.append({"output_type": "stream", "name": "stdout", "text": text + "\n"})
    for one in outputs:
        picture = one.get("data", {}).get("image/png")
        if picture is not None:
            kept.append({"output_type": "display_data", "metadata": {}, "data": {"image/png": picture}})
    return kept


def main() -> None:
    """Execute the notebooks that are named, or all."""
    import nbclient
    import nbformat

    for name in sys.argv[1:] or sorted(file.stem for file in FOLDER.glob("*.ipynb")):
        file = FOLDER / f"{name}.ipynb"
        content = nbformat.read(file, as_version=4)
        nbclient.NotebookClient(content, timeout=600).execute()
        for cell in content.cells:
            cell.metadata.clear()
            if cell.cell_type == "code":
                cell.outputs = [nbformat.from_dict(one) for one in small_outputs(cell.outputs)]
        content.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        nbformat.write(content, file)


if __name__ == "__main__":
    main()
