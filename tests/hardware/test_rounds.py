"""Points are bought once; jobs stay within their limits; the price is the formula's."""

from __future__ import annotations

import numpy as np
import pytest

from qhybrid.errors import HardwareError
from qhybrid.hardware.ledger import Chunk, Ledger, Request
from qhybrid.hardware.plan.rounds import chunk_bytes, job_seconds, plan_round
from qhybrid.hardware.services.ibm.rules import RULES
from qhybrid.hardware.settings import HardwareSettings, Mitigation


def requests_of(key, angles):
    return [Request(index, "layer", 0, key, row[None]) for index, row in enumerate(angles)]


def settings_of(**limits):
    return HardwareSettings(backend="fake_manila", shots=100, copies=1, limits=limits)


def test_equal_parameter_sets_are_bought_once(small_prepared, samples):
    angles, _ = samples
    circuits = {small_prepared.key: small_prepared}
    first = plan_round(0, requests_of(small_prepared.key, angles), {}, 0, circuits, settings_of())
    assert len(first.points) == 5
    assert first.requests[5].points == first.requests[0].points
    known = {number: (key, row) for number, key, row in first.points}
    again = plan_round(1, requests_of(small_prepared.key, angles[:2]), known, 1, circuits, settings_of())
    assert not again.points
    assert not again.chunks
    assert [request.points for request in again.requests] == [(0,), (1,)]


def test_both_zeros_are_one_parameter(small_prepared, samples):
    angles = np.zeros((2, samples[0].shape[1]))
    angles[1] = -0.0
    circuits = {small_prepared.key: small_prepared}
    found = plan_round(0, requests_of(small_prepared.key, angles), {}, 0, circuits, settings_of())
    assert len(found.points) == 1


@pytest.mark.parametrize(
    ("limits", "sizes"),
    [
        ({}, [5]),
        ({"executions": 400}, [2, 2, 1]),
        ({"executions": 200}, [1] * 5),
        ({"bytes": 9000}, None),
        ({"pubs": 2}, [5]),
    ],
)
def test_jobs_stay_within_limits(small_prepared, samples, limits, sizes):
    circuits = {small_prepared.key: small_prepared}
    settings = settings_of(**limits)
    found = plan_round(0, requests_of(small_prepared.key, samples[0]), {}, 0, circuits, settings)
    counted = [sum(len(points) for _, points in chunk.blocks) for chunk in found.chunks]
    assert sum(counted) == 5
    assert sizes is None or counted == sizes
    for chunk in found.chunks:
        executions = sum(small_prepared.executions(len(points), 100) for _, points in chunk.blocks)
        assert executions <= settings.limits.executions
        assert chunk_bytes(chunk, circuits) <= settings.limits.bytes
    assert [chunk.number for chunk in found.chunks] == list(range(len(found.chunks)))


def test_jobs_stay_within_the_instructions_of_a_qubit(small_prepared, samples):
    circuits = {small_prepared.key: small_prepared}
    each = RULES.instructions(small_prepared)
    settings = settings_of(instructions=2 * each)
    found = plan_round(0, requests_of(small_prepared.key, samples[0]), {}, 0, circuits, settings)
    assert [len(chunk.blocks[0][1]) for chunk in found.chunks] == [2, 2, 1]


def test_a_point_beyond_the_limits_is_an_error(small_prepared, samples):
    with pytest.raises(HardwareError, match="must fit a job"):
        plan_round(
            0,
            requests_of(small_prepared.key, samples[0]),
            {},
            0,
            {small_prepared.key: small_prepared},
            settings_of(executions=199),
        )


def test_price_is_overhead_and_executions(small_prepared):
    settings = settings_of()
    seconds = job_seconds([(small_prepared.key, (0, 1, 2))], {small_prepared.key: small_prepared}, settings)
    assert seconds == pytest.approx(2.0 + 3 * 2 * 100 * (250e-6 + small_prepared.seconds))


def test_ledger_gives_back_what_was_entered(small_prepared, samples, tmp_path):
    found = plan_round(
        0,
        requests_of(small_prepared.key, samples[0]),
        {},
        0,
        {small_prepared.key: small_prepared},
        settings_of(),
    )
    with Ledger(tmp_path / "ledger.sqlite", "plan") as ledger:
        ledger.begin()
        ledger.add_round(found.requests, found.points, found.chunks)
    with Ledger(tmp_path / "ledger.sqlite", "plan") as ledger:
        assert ledger.chunks() == list(found.chunks)
        for stored, entered in zip(ledger.requests(), found.requests, strict=True):
            assert (stored.key, stored.points) == (entered.key, entered.points)
            assert np.array_equal(stored.angles, entered.angles)
        assert {number: key for number, (key, _) in ledger.points().items()} == dict.fromkeys(
            range(5), small_prepared.key
        )


def test_a_round_is_entered_whole_or_not_at_all(small_prepared, samples, tmp_path):
    found = plan_round(
        0,
        requests_of(small_prepared.key, samples[0]),
        {},
        0,
        {small_prepared.key: small_prepared},
        settings_of(),
    )
    twice = [*found.requests, found.requests[0]]
    with Ledger(tmp_path / "ledger.sqlite", "plan") as ledger:
        ledger.begin()
        with pytest.raises(Exception, match="UNIQUE"):
            ledger.add_round(twice, found.points, found.chunks)
        assert not ledger.requests()
        assert not ledger.points()
        assert not ledger.chunks()


def test_a_chunk_has_one_unfinished_job_and_one_result(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", "plan") as ledger:
        ledger.begin()
        ledger.add_round([], [], [Chunk(0, 0, (("circuit", (0,)),), 1.0)])
        job = ledger.prepare_job(0)
        with pytest.raises(HardwareError, match="has a job already"):
            ledger.prepare_job(0)
        ledger.store_result(job, "a", "raw")
        with pytest.raises(Exception, match="UNIQUE"):
            ledger.store_result(job, "b", "other")
        assert ledger.results() == {0: "raw"}


def test_other_files_are_no_ledgers(tmp_path):
    (tmp_path / "ledger.sqlite").write_text("something else, long enough to be looked at " * 50)
    with pytest.raises(HardwareError, match="cannot be used as a ledger"):
        Ledger(tmp_path / "ledger.sqlite", "plan")


@pytest.mark.parametrize("factors", [[1], [2, 3], [3, 3]])
def test_folding_factors_are_odd_and_several(factors):
    with pytest.raises(ValueError, match="odd"):
        Mitigation(zne=factors)
