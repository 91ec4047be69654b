import stat
import zipfile
from collections import namedtuple

import pytest

from qhybrid.data import download
from qhybrid.data.archives import extract_zip
from qhybrid.errors import DataError, WorkspaceError


def archive(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in members:
            bundle.writestr(name, content)
    return path


def link(name, target):
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member, target


def test_files_and_folders_come_out(tmp_path):
    members = [("images/", b""), ("images/one.tif", b"1" * 5000), ("train.txt", b"x")]
    source = archive(tmp_path / "a.zip", members)
    folder = extract_zip(source, tmp_path / "out", required=("images/",), max_bytes=6000)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    assert names == ["images", "images/one.tif", "train.txt"]
    assert (folder / "images" / "one.tif").read_bytes() == b"1" * 5000


@pytest.mark.parametrize(
    "name",
    ["../evil.txt", "a/../../evil.txt", "/etc/evil.txt", "C:/evil.txt", "a\\..\\..\\evil.txt", "C:evil.txt"],
)
def test_members_that_leave_the_folder_are_refused(tmp_path, name):
    source = archive(tmp_path / "a.zip", [("fine.txt", b"1"), (name, b"2")])
    with pytest.raises(DataError, match=r"a.zip: member .*must lie inside the folder.*Nothing was unpacked"):
        extract_zip(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_links_are_refused(tmp_path):
    source = archive(tmp_path / "a.zip", [link("door", "/etc"), ("door/evil.txt", b"x")])
    with pytest.raises(DataError, match="is a link"):
        extract_zip(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_size_is_bounded_by_the_limit_and_the_disk(tmp_path, monkeypatch):
    source = archive(tmp_path / "a.zip", [("zeros", b"\0" * 5_000_000)])
    assert source.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"at most 1,000 bytes, but would to 5,000,000"):
        extract_zip(source, tmp_path / "out", max_bytes=1000)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage(1 << 40, 0, 64 << 20))
    with pytest.raises(WorkspaceError, match="disk space"):
        extract_zip(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_truncated_archives_leave_nothing(tmp_path, kept):
    source = archive(tmp_path / "a.zip", [("x", bytes(range(256)) * 40), ("y", b"1" * 100)])
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=r"a.zip: is not a usable zip archive"):
        extract_zip(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_a_flipped_bit_is_noticed_and_leaves_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_STORED) as bundle:
        bundle.writestr("first", b"1")
        bundle.writestr("x", b"A" * 1000)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[content.index(b"A" * 100) + 50] ^= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="not a usable zip archive"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip"]


def test_missing_members_doubles_and_folders_in_use(tmp_path):
    source = archive(tmp_path / "a.zip", [("x", b"1")])
    with pytest.raises(DataError, match="must contain images/"):
        extract_zip(source, tmp_path / "out", required=("images/",))
    double = archive(tmp_path / "b.zip", [("x", b"1"), ("X", b"2")])
    with pytest.raises(DataError, match="occur twice"):
        extract_zip(double, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(WorkspaceError, match="not empty"):
        extract_zip(source, tmp_path / "out")
    with pytest.raises(DataError, match="must be a zip archive, but is missing"):
        extract_zip(tmp_path / "none.zip", tmp_path / "o")
