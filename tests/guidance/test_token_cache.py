"""Token maps on disk: what their key covers, damage, stale files, two processes."""

from __future__ import annotations

import multiprocessing
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qhybrid.guidance import TokenCache
from qhybrid.guidance.cache import token_key

VIT = {"weights": "a" * 64, "config": {"patch_size": 14}, "layers": [5, 8], "scale": 1.0, "transformers": "5"}
SHAPE = (2, 3, 4, 4)


@pytest.fixture
def cache(tmp_path):
    return TokenCache(tmp_path / "tokens")


def key_of(image=None, grid=(4, 4), **changes):
    torch.manual_seed(0)
    return token_key(torch.rand(3, 8, 8) if image is None else image, {**VIT, **changes}, grid)


def test_the_key_covers_all_that_decides_the_content():
    torch.manual_seed(0)
    image = torch.rand(3, 8, 8)
    other = image.clone()
    other[2, 7, 7] += 1e-6
    keys = [
        key_of(),
        key_of(other),
        key_of(image.double()),
        key_of(image.reshape(3, 4, 16)),
        key_of(grid=(4, 5)),
        *(key_of(**{name: "other"}) for name in VIT),
    ]
    assert len(set(keys)) == len(keys) == 5 + len(VIT)
    assert key_of() == keys[0]


def test_what_is_saved_comes_back(cache):
    tokens = torch.randn(SHAPE).half()
    assert cache.load(key_of(), SHAPE) is None
    cache.save(key_of(), tokens)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(cache.load(key_of(), SHAPE), tokens)
        assert cache.load(key_of(scale=2.0), SHAPE) is None


def broken_bytes(file: Path):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


def half_of_it(file: Path):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def no_checksum(file: Path):
    save_file(load_file(file), file)


def other_type(file: Path):
    save_file({"tokens": load_file(file)["tokens"].float()}, file, {"key": file.stem})


@pytest.mark.parametrize("damage", [broken_bytes, half_of_it, no_checksum, other_type])
def test_damaged_files_are_not_read_and_said_so(cache, damage):
    cache.save(key_of(), torch.randn(SHAPE).half())
    damage(cache.file(key_of()))
    with pytest.warns(UserWarning, match=r"is damaged \(.*\): its token maps are computed again"):
        assert cache.load(key_of(), SHAPE) is None
    tokens = torch.randn(SHAPE).half()
    cache.save(key_of(), tokens)
    assert torch.equal(cache.load(key_of(), SHAPE), tokens)


def test_a_file_under_the_name_of_another_tile_is_stale(cache):
    cache.save(key_of(), torch.randn(SHAPE).half())
    stale = cache.file(key_of(scale=2.0))
    stale.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(cache.file(key_of()), stale)
    with pytest.warns(UserWarning, match="of another tile"):
        assert cache.load(key_of(scale=2.0), SHAPE) is None


def test_other_shapes_are_not_given_out(cache):
    cache.save(key_of(), torch.randn(SHAPE).half())
    with pytest.warns(UserWarning, match=r"it has shape \(2, 3, 4, 4\)"):
        assert cache.load(key_of(), (2, 3, 5, 4)) is None


def test_a_cache_without_any_folder_is_said_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QHYBRID_CACHE", str(tmp_path / "file" / "cache"))
    nowhere = TokenCache()
    assert nowhere.load(key_of(), SHAPE) is None
    with pytest.warns(UserWarning, match="not kept on disk from now on: Cannot create .*QHYBRID_CACHE"):
        nowhere.save(key_of(), torch.randn(SHAPE).half())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nowhere.save(key_of(), torch.randn(SHAPE).half())


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path):
    (tmp_path / "tokens").write_text("in the way")
    cache = TokenCache(tmp_path / "tokens")
    with pytest.warns(UserWarning, match="are not kept on disk from now on"):
        cache.save(key_of(), torch.randn(SHAPE).half())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.save(key_of(), torch.randn(SHAPE).half())
    assert cache.load(key_of(), SHAPE) is None


def fill(folder, start, wrong):
    torch.set_num_threads(1)
    cache = TokenCache(folder)
    start.wait()
    for number in range(60):
        key = key_of(grid=(number % 6, 1))
        cache.save(key, torch.full(SHAPE, float(number % 6)).half())
        found = cache.load(key, SHAPE)
        if found is None or not bool((found == number % 6).all()):
            wrong.value += 1


def test_two_processes_may_fill_one_cache(tmp_path):
    context = multiprocessing.get_context("fork")
    start, wrong = context.Barrier(2), context.Value("i", 0)
    workers = [context.Process(target=fill, args=(tmp_path, start, wrong)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert wrong.value == 0
    files = sorted(tmp_path.rglob("*"))
    assert len([file for file in files if file.suffix == ".safetensors"]) == 6
    assert not [file for file in files if ".part" in file.name]
