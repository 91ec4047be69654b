import multiprocessing
import os
import pickle
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from qhybrid.config import ClassConfig, DataConfig
from qhybrid.data.locations import (
    GdalPath,
    as_location,
    gdal_name,
    is_remote,
    join_location,
    list_files,
    local_file,
)
from qhybrid.data.raster import RasterReader, raster_info, read_window
from qhybrid.data.scene_datasets import open_dataset
from qhybrid.data.scenes import SceneReader
from qhybrid.errors import DataError, DatasetNotFoundError

CLASSES = (
    ClassConfig(name="field", values=(1,), color="#c8b060"),
    ClassConfig(name="wood", values=(2, 7), color="#206020"),
    ClassConfig(name="town", values=(3,), color="#a03020"),
)

URL = "https://host.org/a//b/x.tif?sig=1//2"


class RangeHandler(BaseHTTPRequestHandler):
    """Serves files of a folder, parts of them when a range is asked for; notes how many bytes."""

    def __init__(self, folder, sent, *args):
        self.folder, self.sent = folder, sent
        super().__init__(*args)

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        file = self.folder / self.path.lstrip("/").split("?")[0]
        if not file.is_file():
            self.send_error(404)
            return
        content, asked = file.read_bytes(), self.headers.get("Range")
        total = len(content)
        if asked:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            stop = min(int(end) + 1 if end else total, total)
            content = content[int(start) : stop]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{total}")
        else:
            self.send_response(200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            with self.sent.open("a") as log:
                log.write(f"{len(content)}\n")
            self.wfile.write(content)

    def log_message(self, *args):
        pass


def serve(folder, sent, port):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(RangeHandler, folder, sent))
    port.send(server.server_port)
    server.serve_forever()


@pytest.fixture
def server(tmp_path):
    """Return (address, folder, file of bytes sent) of a server of files with range requests.

    It is a process of its own: GDAL keeps Python's lock while it opens a file.
    """
    folder, sent = tmp_path / "served", tmp_path / "sent.txt"
    folder.mkdir()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(folder, sent, there), daemon=True)
    process.start()
    yield f"http://127.0.0.1:{here.recv()}", folder, sent
    process.terminate()
    process.join()


def test_a_url_keeps_its_slashes():
    place = as_location(URL)
    assert isinstance(place, Path)
    assert str(place) == os.fspath(place) == f"{place}" == URL
    assert gdal_name(place) == f"/vsicurl/{URL}"
    assert str(pickle.loads(pickle.dumps(place))) == URL  # noqa: S301
    assert as_location(place) is place
    assert {place: 1}[as_location(URL)] == 1
    assert as_location("https://host.org/a/x.tif").stem == "x"
    assert str(as_location("https://host.org/a/x.tif").parent) == "https://host.org/a"
    # Code that made a plain path of it is understood all the same.
    assert gdal_name(Path("https://host.org/a/x.tif")) == "/vsicurl/https://host.org/a/x.tif"
    assert gdal_name(Path("/vsicurl/https://host.org/x.tif")) == "/vsicurl/https://host.org/x.tif"


@pytest.mark.parametrize(
    ("place", "name", "remote", "file"),
    [
        ("a/b.tif", "a/b.tif", False, "a/b.tif"),
        ("file:///data/a%20b.tif", "/data/a b.tif", False, "/data/a b.tif"),
        ("file://localhost/data/b.tif", "/data/b.tif", False, "/data/b.tif"),
        ("/vsizip//data/x.zip/a/b.tif", "/vsizip//data/x.zip/a/b.tif", False, "/data/x.zip"),
        ("/vsizip/x.ZIP/b.tif", "/vsizip/x.ZIP/b.tif", False, "x.ZIP"),
        ("/vsizip/{/data/x.zipped}/b.tif", "/vsizip/{/data/x.zipped}/b.tif", False, "/data/x.zipped"),
        ("/vsigzip//data/x.tif.gz", "/vsigzip//data/x.tif.gz", False, "/data/x.tif.gz"),
        ("/vsitar//data/x.tar.gz/b.tif", "/vsitar//data/x.tar.gz/b.tif", False, "/data/x.tar.gz"),
        ("s3://bucket/key/x.tif", "/vsis3/bucket/key/x.tif", True, None),
        ("gs://bucket/x.tif", "/vsigs/bucket/x.tif", True, None),
        ("/vsis3/bucket/x.tif", "/vsis3/bucket/x.tif", True, None),
        ("HTTP://host/x.tif", "/vsicurl/http://host/x.tif", True, None),
        ("/vsizip//vsicurl/https://h/x.zip/b.tif", "/vsizip//vsicurl/https://h/x.zip/b.tif", True, None),
        ("/vsimem/x.tif", "/vsimem/x.tif", False, None),
    ],
)
def test_names(place, name, remote, file):
    assert gdal_name(place) == name
    assert is_remote(place) is remote
    assert local_file(place) == (None if file is None else Path(file))


def test_joining():
    assert join_location(Path("/data"), "a/b.tif") == Path("/data/a/b.tif")
    assert join_location(Path("/data"), "/else/b.tif") == Path("/else/b.tif")
    assert str(join_location(Path("/data"), URL)) == URL
    assert str(join_location(GdalPath("/vsizip//x.zip"), "a/b.tif")) == "/vsizip//x.zip/a/b.tif"
    assert str(GdalPath("https://host/folder/") / "a.tif") == "https://host/folder/a.tif"


def test_a_raster_in_a_zip_archive(tmp_path, make_raster):
    values = np.arange(48, dtype=np.uint8).reshape(6, 8)
    file = make_raster(tmp_path / "a.tif", values)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(file, "inner/a.tif")
        archive.write(file, "inner/.hidden.tif")
    place = f"/vsizip/{tmp_path}/all.zip/inner/a.tif"
    assert raster_info(place).shape == (6, 8)
    assert str(raster_info(place).path) == place
    np.testing.assert_array_equal(read_window(place, (0, 0, 6, 8))[0][0], values)
    assert [str(one) for one in list_files(GdalPath(f"/vsizip/{tmp_path}/all.zip"), "")] == [place]
    with pytest.raises(
        DataError, match=r"inner/b\.tif: is missing or cannot be opened.*name inside the archive"
    ):
        raster_info(f"/vsizip/{tmp_path}/all.zip/inner/b.tif")
    with pytest.raises(DataError, match=r"missing\.zip/a\.tif: must be a raster file, but is missing"):
        raster_info(f"/vsizip/{tmp_path}/missing.zip/a.tif")
    with pytest.raises(DatasetNotFoundError, match=r"missing\.zip: must be a folder of rasters.*Fix: look"):
        list_files(GdalPath(f"/vsizip/{tmp_path}/missing.zip"), "Fix: look.")


def test_a_window_of_a_file_on_a_server_without_the_rest(server, make_raster):
    address, folder, sent = server
    values = np.random.default_rng(0).integers(0, 255, (2048, 2048), dtype=np.uint8)
    file = make_raster(folder / "big.tif", values, tiled=True, blockxsize=256, blockysize=256)
    with RasterReader(f"{address}/big.tif") as reader:
        assert str(reader.path) == f"{address}/big.tif"
        data, valid = pickle.loads(pickle.dumps(reader)).read((300, 400, 50, 60))  # noqa: S301
    np.testing.assert_array_equal(data[0], values[300:350, 400:460])
    assert valid.all()
    assert sum(map(int, sent.read_text().split())) < file.stat().st_size / 4


def test_scenes_of_a_server_in_a_list(server, make_raster, tmp_path):
    address, folder, _ = server
    values = np.arange(1, 1601, dtype=np.uint16).reshape(40, 40)
    make_raster(folder / "a.tif", values)
    make_raster(tmp_path / "set" / "m.tif", np.full((40, 40), 7, np.uint8))
    (tmp_path / "set" / "list.csv").write_text(f"image,mask,split\n{address}/a.tif,m.tif,train\n")
    config = DataConfig(dataset="geotiff_folder", root="set", classes=CLASSES, options={"pairs": "list.csv"})
    dataset = open_dataset(config, tmp_path)
    (scene,) = dataset.scenes("train")
    assert (scene.id, str(scene.image)) == ("a", f"{address}/a.tif")
    reader = SceneReader(scene, dataset.classes)
    np.testing.assert_array_equal(reader.read((5, 5, 10, 10))[0][0], values[5:15, 5:15])
    assert (reader.read_labels((5, 5, 10, 10)) == 1).all()


def test_what_a_server_does_not_have_is_an_error(server):
    address, *_ = server
    with pytest.raises(
        DataError, match=rf"{address}/none\.tif: is missing or cannot be opened.*Fix: check the address"
    ):
        raster_info(f"{address}/none.tif")
    assert os.environ["GDAL_HTTP_CONNECTTIMEOUT"] == "10"


def test_a_server_that_does_not_answer_is_an_error(monkeypatch):
    import socket

    monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "1")
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    with socket.socket() as silent:  # accepts connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(DataError, match="is missing or cannot be opened"):
            raster_info(f"http://127.0.0.1:{silent.getsockname()[1]}/x.tif")
