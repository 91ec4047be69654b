"""Seeds: the same in every process, different for different parts."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from qhybrid.seeding import derive_seed, numpy_generator, torch_generator

PARTS = st.lists(st.one_of(st.integers(), st.text(max_size=8)), max_size=4)


def test_value_is_fixed_forever():
    # Changing it would change every patch, so resumed runs would not continue as they began.
    digest = hashlib.sha256(b"int:7\x1fstr:patch\x1fint:3").digest()
    assert derive_seed(7, "patch", 3) == int.from_bytes(digest[:8], "big") >> 1


def test_other_processes_get_the_same_seed():
    code = "from qhybrid.seeding import derive_seed; print(derive_seed(1, 'a', 2))"
    environment = {"PYTHONHASHSEED": "77"}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert int(answer.stdout) == derive_seed(1, "a", 2)


@given(PARTS, PARTS)
def test_seeds_are_equal_exactly_when_parts_are(first, second):
    assert (derive_seed(*first) == derive_seed(*second)) == (first == second)
    assert 0 <= derive_seed(*first) < 2**63


def test_numbers_and_texts_of_numpy_are_the_same_parts():
    assert derive_seed(np.int64(7), np.str_("patch"), np.uint8(3)) == derive_seed(7, "patch", 3)


def test_integer_and_text_are_different_parts():
    assert derive_seed(1) != derive_seed("1")
    assert derive_seed("ab", "c") != derive_seed("a", "bc")


def test_generators_repeat_and_leave_global_state_alone():
    before = torch.random.get_rng_state()
    assert numpy_generator(1, "a").random() == numpy_generator(1, "a").random()
    assert numpy_generator(1, "a").random() != numpy_generator(1, "b").random()
    first, second = (torch.rand(4, generator=torch_generator(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.random.get_rng_state())
