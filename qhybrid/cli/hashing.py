"""Progress of reading data files whole, once each, to tell whether they have changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.errors import LiveError

from qhybrid.cli.console import errors


@contextmanager
def hashing_bar() -> Iterator[None]:
    """Show a bar while large data files are read to recognise them; nothing without a terminal."""
    from rich import progress as rich_progress

    from qhybrid.data.digests import hashing_progress

    columns = (
        "{task.description}",
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(binary_units=True),
        rich_progress.TimeRemainingColumn(),
    )
    bar: rich_progress.Progress | None = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        first = bar is None
        if bar is None:
            bar = rich_progress.Progress(*columns, console=errors, transient=True)
            bar.add_task("reading data", total=total)
            with suppress(LiveError):  # another bar is drawn, and Rich draws one at a time
                bar.start()
        bar.update(rich_progress.TaskID(0), completed=done, total=total, refresh=first)
        if done >= total:
            bar.stop()
            bar = None

    if not errors.is_interactive:
        yield
        return
    with hashing_progress(show):
        try:
            yield
        finally:
            if bar is not None:
                bar.stop()
