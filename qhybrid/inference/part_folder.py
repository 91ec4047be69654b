"""A map that is being made: finished rows on disk, so that a killed process goes on where it stopped.

Beside the map `map.tif` a hidden folder `.map.tif.part` holds one uncompressed file a raster and state.json:
what is mapped by what (a hash), and how far the raw files are complete. Where several processes make a map,
bands of rows wait beside them until those above are there. Rows are written before the state that counts
them, and writing them again gives the same bytes, so that any moment is one to go on from.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qhybrid.errors import WorkspaceError
from qhybrid.workspace import locked, write_text

CHECKPOINT_SECONDS = 2.0
"""Time between two notes of how far the rows are complete."""
STATE = "state.json"
BAND = "band_"
"""How files begin that hold rows below the complete ones, of maps that several processes make."""
_FORMAT = 1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_BYTES = 32 << 20

Position = tuple[int, int]
"""First column of a strip, and the first of its rows that is not complete."""


def part_path(output: Path) -> Path:
    """Return the folder of a map that is being made."""
    return output.with_name(f".{output.name}.part")


class RawRaster:
    """Pixels of one raster in an uncompressed file, row by row, in each row band by band.

    Args:
        path: The file; it is made with its full size, so that a full disk is found out at the start.
        bands: Number of bands.
        height: Rows.
        width: Columns.
        dtype: Number type.
    """

    def __init__(self, path: Path, bands: int, height: int, width: int, dtype: str) -> None:
        self._bands, self._height, self._width = bands, height, width
        self._dtype = np.dtype(dtype)
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        size = bands * height * width * self._dtype.itemsize
        if os.fstat(self._handle).st_size != size:
            try:
                _allocate(self._handle, size)
            except OSError as error:
                os.close(self._handle)
                raise _full_disk(path, size, error) from error

    def opened_like(self, path: Path, height: int, width: int) -> RawRaster:
        """Return another file of the same bands and number type."""
        return RawRaster(path, self._bands, height, width, self._dtype.name)

    def _offset(self, row: int, band: int, col: int) -> int:
        return ((row * self._bands + band) * self._width + col) * self._dtype.itemsize

    def write(self, values: NDArray[Any], row: int, col: int) -> None:
        """Write values of shape (bands, h, w) or (h, w)."""
        block = values if values.ndim == 3 else values[None]
        lines = np.ascontiguousarray(block.transpose(1, 0, 2), dtype=self._dtype)
        if lines.shape[2] == self._width:
            self._put(lines, self._offset(row, 0, 0))
            return
        for index, line in enumerate(lines):
            for band, part in enumerate(line):
                self._put(part, self._offset(row + index, band, col))

    def _put(self, values: NDArray[Any], offset: int) -> None:
        rest = memoryview(values.data).cast("B")
        try:
            while rest:
                done = os.pwrite(self._handle, rest, offset)
                rest, offset = rest[done:], offset + done
        except OSError as error:
            raise _full_disk(self._path, len(rest), error) from error

    def chunks(self, block: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """Yield (row, column, values (bands, h, w)) of rectangles that begin at multiples of `block`."""
        line = self._bands * self._width * self._dtype.itemsize
        columns = self._width
        if block * line > _READ_BYTES:
            columns = max(_READ_BYTES // (block * line // self._width) // block, 1) * block
        for row in range(0, self._height, block):
            count = min(block, self._height - row)
            for col in range(0, self._width, columns):
                yield row, col, self._get(row, count, col, min(columns, self._width - col))

    def _get(self, row: int, count: int, col: int, width: int) -> NDArray[Any]:
        lines = np.empty((count, self._bands, width), dtype=self._dtype)
        if width == self._width:
            self._fill(lines, self._offset(row, 0, 0))
        else:
            for index in range(count):
                for band in range(self._bands):
                    self._fill(lines[index, band], self._offset(row + index, band, col))
        return lines.transpose(1, 0, 2)

    def _fill(self, values: NDArray[Any], offset: int) -> None:
        rest = memoryview(values.data).cast("B")
        while rest:
            done = os.preadv(self._handle, [rest], offset)
            if done == 0:
                raise WorkspaceError(f"{self._path}: is shorter than it was made. Fix: remove its folder.")
            rest, offset = rest[done:], offset + done

    def flush(self) -> None:
        """Have the system put all that was written on the disk."""
        try:
            os.fsync(self._handle)
        except OSError as error:
            raise _full_disk(self._path, 0, error) from error

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _allocate(handle: int, size: int) -> None:
    """Give a file its full size, with room on the disk where the system can promise it."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, size)
            return
    except OSError as error:
        if error.errno in _FULL:
            raise
    os.ftruncate(handle, size)


def _full_disk(path: Path, size: int, error: OSError) -> WorkspaceError:
    if error.errno in _FULL:
        return WorkspaceError(
            f"{path.parent.parent}: the disk must have room for a map in work, but {path.name} needs "
            f"{size / 2**20:,.1f} MiB more than there are ({error.strerror}). Fix: free disk space and give "
            "the same command again."
        )
    return WorkspaceError(f"{path}: cannot be written ({error.strerror}).")


class PartFolder:
    """The folder of a map in work; see `open_part`."""

    def __init__(self, path: Path, key: str, position: Position | None) -> None:
        self.path = path
        self.key = key
        self.position: Position = position or (0, 0)
        self.resumed = position is not None
        self.rasters: list[RawRaster] = []
        self._noted = time.monotonic()

    def raster(self, bands: int, height: int, width: int, dtype: str) -> RawRaster:
        """Return the next raster of the map: a new one, or the one that was begun."""
        found = RawRaster(self.path / f"{len(self.rasters)}.raw", bands, height, width, dtype)
        self.rasters.append(found)
        return found

    def note(self, position: Position, force: bool = False) -> None:
        """Remember that all before a position is complete; done at once or every few seconds."""
        self.position = position
        if not force and time.monotonic() - self._noted < CHECKPOINT_SECONDS:
            return
        for raster in self.rasters:
            raster.flush()
        state = {"format": _FORMAT, "key": self.key, "position": list(position)}
        write_text(self.path / STATE, json.dumps(state))
        self._noted = time.monotonic()


def read_state(output: Path, key: str) -> Position | None:
    """Return how far a map in work is, if there is one and it is the same map; else None."""
    try:
        state = json.loads((part_path(output) / STATE).read_text(encoding="utf-8"))
        if state["format"] != _FORMAT or state["key"] != key:
            return None
        col, row = state["position"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(col), int(row)


@contextmanager
def open_part(output: Path, key: str) -> Iterator[PartFolder]:
    """Go on with a map, or begin it anew where there is none in work or it was another one.

    Args:
        output: The map.
        key: Hash of all that decides its content.

    Yields:
        The folder, which no other process works on. It is removed when the block ends without an error, and
        on errors before anything was complete or that would come again; it stays, to go on from, when
        the process is interrupted or killed or the disk is full.

    Raises:
        WorkspaceError: If it cannot be written, or another process makes the same map.
    """
    folder = part_path(output)
    made = _made_parents(folder)
    with locked(folder):
        position = read_state(output, key)
        if position is None:
            _empty(folder)
        part = PartFolder(folder, key, position)
        keep = False
        try:
            if position is None:
                part.note((0, 0), force=True)
            yield part
        except (KeyboardInterrupt, WorkspaceError) as error:
            keep = part.position > (0, 0) or any(folder.glob(f"{BAND}*"))
            if keep and isinstance(error, KeyboardInterrupt):
                part.note(part.position, force=True)
            raise
        finally:
            for raster in part.rasters:
                raster.close()
            if not keep:
                shutil.rmtree(folder, ignore_errors=True)
                _remove_empty(made)


@contextmanager
def work_path(file: Path) -> Iterator[Path]:
    """Give a path in a hidden folder to write to, and move what was written to its place at the end.

    A process that is killed leaves the folder; the next one for the same file removes it. A temporary file
    beside it would stay, with a name of its own each time.

    Args:
        file: The final file.

    Raises:
        WorkspaceError: If the folder cannot be written, or another process writes the same file.
    """
    folder = part_path(file)
    made = _made_parents(folder)
    with locked(folder):
        try:
            _empty(folder)
            yield folder / file.name
            (folder / file.name).replace(file)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            _remove_empty(made)


def _made_parents(folder: Path) -> list[Path]:
    """Make a folder and those above it; return the ones above that were not there, the deepest first."""
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"Cannot write in {folder.parent}: {error}. Fix: choose a folder.") from error
    return made


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # it holds the map
            return


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        if file.name != ".lock":
            file.unlink()
