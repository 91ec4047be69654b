"""Which scenes a cell was computed on is part of its key."""

from __future__ import annotations

import pytest

from qhybrid.evaluation.subject.scenes import sampled_digest


@pytest.mark.parametrize("size", [0, 1, 5_000, 2**14, 1_000_000, 3_000_000])
def test_the_content_of_an_image_counts(size, tmp_path):
    file, copy = tmp_path / "scene.tif", tmp_path / "copy.tif"
    content = bytes(number * 31 % 251 for number in range(min(size, 50_000))) * (size // 50_000 or 1)
    for path in (file, copy):
        path.write_bytes(content)
    assert sampled_digest(copy) == sampled_digest(file)
    # Other pixels in a file of the same size, all over it or at either end.
    changed = [bytes(255 - value for value in content)]
    if content:
        changed += [b"\xff" + content[1:], content[:-1] + b"\xff"]
    for other in changed if content else []:
        copy.write_bytes(other)
        assert sampled_digest(copy) != sampled_digest(file)
    copy.write_bytes(content + b"x")
    assert sampled_digest(copy) != sampled_digest(file)
