"""The identity of data: every byte that decides pixels counts, and where files lie does not."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio

from qhybrid.data import digests
from qhybrid.data.digests import file_digests, hashing_progress
from qhybrid.data.identity import file_identity, scenes_identity
from qhybrid.data.scenes import Scene
from qhybrid.errors import DataError
from qhybrid.workspace import cache_dir


def write(file: Path, values: np.ndarray, **profile) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = values.shape
    size = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    with rasterio.open(file, "w", **{"driver": "GTiff", "crs": "EPSG:2180", **size, **profile}) as target:
        target.write(values)
    return file


def pixels(seed=0, count=1, size=32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, size, size)).astype(np.uint8)


def vrt(file: Path, *sources: str, relative=1) -> Path:
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}"><SimpleSource><SourceFilename relativeToVRT='
        f'"{relative}">{name}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>'
        for number, name in enumerate(sources, start=1)
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'<VRTDataset rasterXSize="32" rasterYSize="32">{bands}</VRTDataset>')
    return file


def rewrite(file: Path, values: np.ndarray) -> None:
    """Change pixels in place."""
    with rasterio.open(file, "r+") as target:
        target.write(values)


@pytest.fixture
def unhurried(monkeypatch):
    """Remember digests of files that were just written."""
    monkeypatch.setattr(digests, "SETTLED", -1)


@pytest.fixture
def read_files(monkeypatch):
    """Names of the files that were hashed."""
    found = []
    original = digests._digest

    def counted(file, *arguments):
        found.append(file.name)
        return original(file, *arguments)

    monkeypatch.setattr(digests, "_digest", counted)
    return found


class TestWhatCounts:
    def test_a_single_file_has_the_hash_of_its_bytes(self, tmp_path):
        file = write(tmp_path / "a.tif", pixels())
        assert file_identity(file) == hashlib.sha256(file.read_bytes()).hexdigest()
        assert file_identity(str(file)) == file_identity(file)

    @pytest.mark.parametrize("place", [0.0, 0.3, 0.71, 1.0])
    def test_every_byte_of_a_large_file_counts(self, tmp_path, place):
        file = tmp_path / "a.bin"
        content = bytearray(os.urandom(3_000_000))
        file.write_bytes(content)
        before = file_identity(file)
        content[int(place * (len(content) - 1))] ^= 1
        file.write_bytes(content)
        assert file_identity(file) != before

    @pytest.mark.parametrize(
        "name",
        ["a.tif.msk", "a.tif.aux.xml", "a.tif.ovr", "a.tfw", "a.tifw", "a.TFW", "a.wld", "a.prj", "a.hdr"],
    )
    def test_a_file_beside_it_counts_when_it_comes_changes_and_goes(self, tmp_path, name):
        file = write(tmp_path / "a.tif", pixels())
        alone = file_identity(file)
        beside = tmp_path / name
        if name == "a.tif.msk":
            write(beside, pixels(1), photometric="minisblack")
        else:
            beside.write_text("<PAMDataset></PAMDataset>" if name.endswith("xml") else "1\n0\n0\n-1\n5\n5\n")
        there = file_identity(file)
        beside.write_bytes(beside.read_bytes() + b" ")
        changed = file_identity(file)
        beside.unlink()
        assert len({alone, there, changed}) == 3
        assert file_identity(file) == alone

    def test_files_of_other_images_do_not_count(self, tmp_path):
        file = write(tmp_path / "a.tif", pixels())
        before = file_identity(file)
        write(tmp_path / "ab.tif", pixels(1))
        for name in ("ab.tfw", "ab.tif.msk", "a.txt", "b.tif.aux.xml"):
            (tmp_path / name).write_text("1")
        assert file_identity(file) == before

    def test_sources_behind_a_vrt_count_at_any_depth(self, tmp_path):
        source = write(tmp_path / "raw" / "one.tif", pixels())
        write(tmp_path / "raw" / "two.tif", pixels(1))
        vrt(tmp_path / "inner" / "i.vrt", "../raw/one.tif")
        outer = vrt(tmp_path / "images" / "a.vrt", "../inner/i.vrt", "../raw/two.tif")
        before = file_identity(outer)
        rewrite(source, pixels(7))
        changed = file_identity(outer)
        (tmp_path / "raw" / "one.tif.aux.xml").write_text("<PAMDataset/>")
        assert len({before, changed, file_identity(outer)}) == 3

    def test_swapped_sources_are_other_data(self, tmp_path):
        one, two = (write(tmp_path / name, pixels(seed)) for seed, name in enumerate(("one.tif", "two.tif")))
        whole = vrt(tmp_path / "a.vrt", "one.tif", "two.tif")
        before = file_identity(whole)
        one.rename(tmp_path / "x.tif")
        two.rename(one)
        (tmp_path / "x.tif").rename(two)
        assert file_identity(whole) != before

    @pytest.mark.parametrize("kind", ["ComplexSource", "KernelFilteredSource", "NoDataSource"])
    def test_all_kinds_of_sources_count(self, tmp_path, kind):
        source = write(tmp_path / "one.tif", pixels())
        whole = vrt(tmp_path / "a.vrt", "one.tif")
        whole.write_text(whole.read_text().replace("SimpleSource", kind))
        before = file_identity(whole)
        rewrite(source, pixels(3))
        assert file_identity(whole) != before

    def test_an_absolute_source_counts(self, tmp_path):
        source = write(tmp_path / "raw" / "one.tif", pixels())
        whole = vrt(tmp_path / "images" / "a.vrt", str(source), relative=0)
        before = file_identity(whole)
        rewrite(source, pixels(3))
        assert file_identity(whole) != before

    def test_the_place_and_the_name_do_not_count(self, tmp_path):
        write(tmp_path / "here" / "raw" / "one.tif", pixels())
        vrt(tmp_path / "here" / "images" / "a.vrt", "../raw/one.tif")
        write(tmp_path / "here" / "images" / "b.tif", pixels(2))
        (tmp_path / "here" / "images" / "b.tif.aux.xml").write_text("<PAMDataset/>")
        shutil.copytree(tmp_path / "here", tmp_path / "there")
        for name in ("a.vrt", "b.tif"):
            copy = tmp_path / "there" / "images" / name
            assert file_identity(copy) == file_identity(tmp_path / "here" / "images" / name)
        folder = tmp_path / "there" / "images"
        (folder / "b.tif").rename(folder / "c.tif")
        (folder / "b.tif.aux.xml").rename(folder / "c.tif.aux.xml")
        assert file_identity(folder / "c.tif") == file_identity(tmp_path / "here" / "images" / "b.tif")

    def test_all_parts_of_a_shapefile_count(self, tmp_path):
        for end in ("shp", "shx", "dbf", "cpg"):
            (tmp_path / f"a.{end}").write_text(end)
        found = {file_identity(tmp_path / "a.shp")}
        (tmp_path / "a.dbf").write_text("dbF")
        found.add(file_identity(tmp_path / "a.shp"))
        (tmp_path / "a.gpkg").write_text("gpkg")
        alone = file_identity(tmp_path / "a.gpkg")
        (tmp_path / "a.gpkg-wal").touch()  # as long as somebody reads
        assert file_identity(tmp_path / "a.gpkg") == alone
        (tmp_path / "a.gpkg-wal").write_text("not yet in the file")
        assert len(found | {alone, file_identity(tmp_path / "a.gpkg")}) == 4

    def test_an_archive_counts_and_the_place_in_it(self, tmp_path):
        for name in ("a", "b"):
            write(tmp_path / f"{name}.tif", pixels())
        archive = tmp_path / "all.zip"

        def pack(**content):
            with zipfile.ZipFile(archive, "w") as target:
                for name, file in content.items():
                    target.write(tmp_path / f"{file}.tif", f"{name}.tif")
            return [file_identity(f"/vsizip/{archive}/{name}.tif") for name in content]

        first, second = pack(a="a", b="b")
        assert first != second
        rewrite(tmp_path / "a.tif", pixels(5))
        assert pack(a="a", b="b")[0] != first
        assert file_identity("/vsizip/nowhere.zip/a.tif") is None

    def test_a_missing_file_is_an_error(self, tmp_path):
        with pytest.raises(DataError, match=r"a\.tif: must be a file, but is missing"):
            file_identity(tmp_path / "a.tif")

    def test_scenes_have_names_windows_and_the_newest_change(self, tmp_path):
        image = write(tmp_path / "a.tif", pixels())
        mask = write(tmp_path / "m.tif", pixels(1))
        scene = Scene("a", image, mask, "here")
        found = scenes_identity([scene])
        assert found.files == {str(file): file_identity(file) for file in (image, mask)}
        assert found.newest_change == pytest.approx(time.time(), abs=60)
        others = [
            [Scene("b", image, mask, "here")],
            [Scene("a", image, None, "here")],
            [Scene("a", image, mask, "here", (0, 0, 8, 8))],
            [Scene("a", mask, image, "here")],
            [scene, scene],
        ]
        assert len({found.hash, *(scenes_identity(one).hash for one in others)}) == 6
        assert scenes_identity([Scene("a", image, mask, "elsewhere")]).hash == found.hash
        unknown = scenes_identity([Scene("a", Path("/vsis3/bucket/a.tif"), mask, "here")])
        assert (unknown.hash, unknown.newest_change) == (None, None)


class TestRemembering:
    def test_a_file_is_read_once(self, tmp_path, read_files, unhurried):
        file = write(tmp_path / "a.tif", pixels())
        first = file_identity(file)
        assert file_identity(file) == first
        assert read_files == ["a.tif"]

    @pytest.mark.parametrize("restored", [False, True])
    def test_a_change_in_place_is_seen(self, tmp_path, unhurried, restored):
        """Of the same size, and even where somebody puts the old time back."""
        file = tmp_path / "a.bin"
        file.write_bytes(b"one")
        before, first = file.stat(), file_digests([file])
        with file.open("r+b") as handle:
            handle.write(b"two")
        if restored:
            os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert file_digests([file]) != first
        assert file_digests([file])[file] == hashlib.sha256(b"two").hexdigest()

    def test_a_file_that_was_just_written_is_not_remembered(self, tmp_path, read_files):
        """It may be written again within one tick of the file system's clock."""
        file = tmp_path / "a.bin"
        file.write_bytes(b"one")
        for _ in range(2):
            file_digests([file])
        assert read_files == ["a.bin", "a.bin"]

    def test_another_file_under_the_same_name_is_seen(self, tmp_path, unhurried):
        file, other = tmp_path / "a.bin", tmp_path / "b.bin"
        file.write_bytes(b"one")
        other.write_bytes(b"two")
        first = file_digests([file])[file]
        os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
        other.replace(file)
        assert file_digests([file])[file] != first

    def test_a_file_that_changes_while_it_is_read_is_an_error(self, tmp_path, monkeypatch):
        file, ticks = tmp_path / "a.bin", iter(range(100))
        file.write_bytes(b"one")
        monkeypatch.setattr(digests, "_mark", lambda path: (3, next(ticks), 0, 0, 0))
        with pytest.raises(DataError, match="changes while it is read"):
            file_digests([file])

    def test_many_may_remember_at_once(self, tmp_path, read_files, unhurried):
        files = [tmp_path / f"{number}.bin" for number in range(60)]
        for number, file in enumerate(files):
            file.write_bytes(str(number).encode())
        expected = {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda start: file_digests(files[start:]), range(8)))
        assert all(part.items() <= expected.items() for part in found)
        read_files.clear()
        assert file_digests(files) == expected
        assert not read_files

    def test_a_damaged_memory_is_begun_anew(self, tmp_path, read_files, unhurried):
        file = tmp_path / "a.bin"
        file.write_bytes(b"one")
        (cache_dir() / digests.MEMORY).write_bytes(b"no database" * 100)
        for _ in range(2):
            assert file_digests([file])[file] == hashlib.sha256(b"one").hexdigest()
        assert read_files == ["a.bin"]
        with sqlite3.connect(cache_dir() / digests.MEMORY) as database:
            assert database.execute("SELECT count(*) FROM digests").fetchone() == (1,)

    def test_without_a_cache_folder_digests_are_right(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_bytes(b"one")
        monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path / "file" / "no"))
        assert file_digests([tmp_path / "file"])[tmp_path / "file"] == hashlib.sha256(b"one").hexdigest()

    def test_progress_is_told_of_much_to_read(self, tmp_path, monkeypatch, unhurried):
        monkeypatch.setattr(digests, "_SHOWN_FROM", 1)
        files = [tmp_path / "a.bin", tmp_path / "b.bin"]
        for file in files:
            file.write_bytes(bytes(3 * 2**20))
        told = []
        with hashing_progress(lambda done, total: told.append((done / 2**20, total / 2**20))):
            file_digests(files)
            assert told == [(done, 6) for done in range(1, 7)]
            file_digests(files)
        assert len(told) == 6


SERVER = """
import http.server, pathlib, sys
folder = sys.argv[1]
class Handler(http.server.SimpleHTTPRequestHandler):
    def end_headers(self):
        tag = pathlib.Path(folder, "tag").read_text()
        if tag:
            self.send_header("ETag", tag)
        super().end_headers()
    def log_message(self, *_):
        pass
make = lambda *arguments: Handler(*arguments, directory=folder)
with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make) as server:
    print(server.server_port, flush=True)
    server.serve_forever()
"""
"""In a process of its own: GDAL does not let others work while it waits for an answer."""


@pytest.fixture
def served(tmp_path):
    """Return the address of an image, and a function that sets the ETag it is served with."""
    folder = tmp_path / "served"
    write(folder / "a.tif", pixels())
    (folder / "tag").write_text('"1"')
    with subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE) as server:
        port = int(server.stdout.readline())
        yield f"http://127.0.0.1:{port}/a.tif", (folder / "tag").write_text
        server.kill()


def test_a_url_is_known_by_its_etag(served):
    url, set_tag = served
    first = file_identity(url)
    assert first is not None
    assert file_identity(f"/vsicurl/{url}") == first
    set_tag('"2"')
    assert file_identity(url) not in (None, first)
    for tag in ("", 'W/"1"'):
        set_tag(tag)
        assert file_identity(url) is None
    set_tag('"1"')
    assert file_identity(url) == first


def test_a_url_behind_a_vrt_counts(served, tmp_path):
    url, set_tag = served
    whole = vrt(tmp_path / "a.vrt", f"/vsicurl/{url}", relative=0)
    first = file_identity(whole)
    set_tag('"2"')
    assert file_identity(whole) not in (None, first)
    set_tag("")
    assert file_identity(whole) is None
