"""The idx reader, against an independent writer and against damaged files."""

import gzip

import numpy as np
import pytest
from image_folders import write_idx

from qhybrid.data.images.mnist import find_idx, read_idx
from qhybrid.errors import DataError


@pytest.mark.parametrize("name", ["a-idx3-ubyte", "a-idx3-ubyte.gz"])
def test_what_is_written_is_read(tmp_path, name):
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5))
    write_idx(tmp_path / name, values)
    assert find_idx(tmp_path, "a-idx3-ubyte") == tmp_path / name
    assert np.array_equal(read_idx(tmp_path / name, 3), values)


def test_empty_arrays_are_read(tmp_path):
    write_idx(tmp_path / "a", np.zeros((0, 4, 5)))
    assert read_idx(tmp_path / "a", 3).shape == (0, 4, 5)


def test_absent_files(tmp_path):
    assert find_idx(tmp_path, "a") is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], r"promises 60 values \(3 x 4 x 5\), but 59 follow"),
        (lambda content: content + b"\0", "but 61 follow"),
        (lambda content: content[:10], "must be an idx file"),
        (lambda content: b"", "begins with nothing"),
        (lambda content: b"\1" + content[1:], "begins with 01000803"),
        (lambda content: content[:2] + b"\x0d" + content[3:], "begins with 00000d03"),
    ],
)
def test_damaged_files_are_named(tmp_path, change, message):
    write_idx(tmp_path / "a", np.zeros((3, 4, 5)))
    (tmp_path / "a").write_bytes(change((tmp_path / "a").read_bytes()))
    with pytest.raises(DataError, match=message) as error:
        read_idx(tmp_path / "a", 3)
    assert str(tmp_path / "a") in str(error.value)


@pytest.mark.parametrize("cut", [5, 30, -5])
def test_truncated_archives_are_named(tmp_path, cut):
    content = gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 100]) + bytes(np.random.default_rng(0).bytes(100)))
    (tmp_path / "a.gz").write_bytes(content[:cut])
    with pytest.raises(DataError, match=r"a\.gz: cannot be read"):
        read_idx(tmp_path / "a.gz", 1)


def test_other_numbers_of_dimensions_are_refused(tmp_path):
    write_idx(tmp_path / "a", np.zeros(5))
    with pytest.raises(DataError, match=r"3 dimension\(s\)"):
        read_idx(tmp_path / "a", 3)
