"""A result belongs to its request: one of another job, however alike, is noticed and not used."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ibm_service_state import Fault
from outcome_checks import check_complete, finish
from plan_cases import map_workload, quick

from qhybrid.errors import HardwareError, ServiceError
from qhybrid.hardware.circuits.decoding import decode_chunk, mark_of
from qhybrid.hardware.jobs.collecting import collect_jobs
from qhybrid.hardware.jobs.opening import open_plan
from qhybrid.hardware.jobs.sending import send_open_chunks
from qhybrid.hardware.plan.planning import make_plan
from qhybrid.hardware.pub_results import bits_text


def test_results_of_two_jobs_that_are_exchanged_are_noticed(make_plan, server, service_state, samples):
    """Chunks 0 and 1 hold two points each: their results have equal shapes and other values."""
    plan = make_plan(patience={"retries": 1})
    with (context := plan.context()).ledger:
        send_open_chunks(context)
        service_state.advance()
        first, second, third = service_state.jobs.values()
        first.result, second.result = second.result, first.result
        with pytest.raises(ServiceError, match="belongs to another request"):
            collect_jobs(context)
        assert sorted(context.ledger.results()) == [2]
        first.result, second.result = second.result, first.result
        finish(context)
        check_complete(context, service_state, samples[1])
    assert len(service_state.jobs) == 3
    assert third.executions == 1


def test_a_result_from_another_plan_is_not_taken(make_plan, server, service_state, samples):
    """The job that a tag leads to is of another plan with the same circuit and other angles."""
    plan = make_plan(patience={"retries": 0})
    with (context := plan.context()).ledger:
        send_open_chunks(context)
        service_state.advance()
        for job in service_state.jobs.values():
            mark = mark_of(job.result)
            job.result = job.result.replace(mark, f"{mark[:-32]}{mark[-32:][::-1]}")
        with pytest.raises(ServiceError, match="belongs to another request"):
            collect_jobs(context)
        assert not context.ledger.results()


def test_marks_say_what_was_asked(make_plan):
    """Equal requests have equal marks; other angles, shots, circuits or orders have others."""
    plan = make_plan(limits={"jobs_per_minute": 1000.0})
    with (context := plan.context(Unused())).ledger:
        (chunk,) = context.ledger.chunks()
        job = context.ledger.prepare_job(0)
        packages = [context.package(job, chunk) for _ in range(2)]
    with (other := plan.context(Unused())).ledger:
        other.settings = other.settings.model_copy(update={"shots": 128})
        packages.append(other.package(job, chunk))
    (key, points), *_ = chunk.blocks
    for blocks in ([(key, points[::-1])], [(key, points[:-1])]):
        packages.append(context_package(plan, job, chunk, blocks))
    marks = [package.mark for package in packages]
    assert marks[0] == marks[1]
    assert len(set(marks)) == 4


class Unused:
    """A service that is asked nothing."""

    paid = False


def context_package(plan, job, chunk, blocks):
    from dataclasses import replace

    with (context := plan.context(Unused())).ledger:
        return context.package(job, replace(chunk, blocks=tuple(blocks)))


def test_a_mark_is_not_of_rounding(make_plan):
    """A ledger keeps angles exactly, so marks are of exact values; the next number makes another one."""
    plan = make_plan(limits={"jobs_per_minute": 1000.0})
    with (context := plan.context(Unused())).ledger:
        (chunk,) = context.ledger.chunks()
        job = context.ledger.prepare_job(0)
        first = context.package(job, chunk).mark
        points = context.ledger.points()
        moved = {n: (key, np.nextafter(angles, 9.0)) for n, (key, angles) in points.items()}
        context.ledger.points = lambda: moved
        assert context.package(job, chunk).mark != first


def test_jobs_of_earlier_versions_have_no_marks(server, service_state, tmp_path):
    """A plan that was made before marks existed takes results without one; a plan of today does not."""
    workload = map_workload(1)
    settings = quick(backend="ibm_manila", shots=100, mode="job", patience={"poll_s": 0.01, "retries": 0})
    for is_old in (True, False):
        folder = make_plan(workload, settings, tmp_path / str(is_old))
        content = json.loads((folder / "plan.json").read_text())
        assert content.pop("marked") is True
        if is_old:
            (folder / "plan.json").write_text(json.dumps(content))
        with open_plan(folder, lambda *_: workload) as execution:
            execution.submit()
            service_state.advance()
            job = list(service_state.jobs.values())[-1]
            job.result = job.result.replace(f'"{mark_of(job.result)}"', "null")
            if is_old:
                assert execution.collect() is not None
            else:
                with pytest.raises(ServiceError, match="says of no request"):
                    execution.collect()


def test_fake_devices_mark_their_results_too(tmp_path):
    workload = map_workload(2)
    limits = {"executions": 200, "jobs_per_minute": 1e6}
    patience = {"poll_s": 0.01, "poll_max_s": 0.01, "retries": 0}
    folder = make_plan(workload, quick(shots=100, limits=limits, patience=patience), tmp_path)
    with open_plan(folder, lambda *_: workload) as execution:
        assert execution.submit() == 2
        files = sorted((folder / "jobs").glob("result-*.json"))
        texts = [file.read_text() for file in files]
        for file, text in zip(files, reversed(texts), strict=True):
            file.write_text(text)
        with pytest.raises(ServiceError, match="belongs to another request"):
            execution.collect()
        for file, text in zip(files, texts, strict=True):
            file.write_text(text)
        assert execution.collect() is not None


def test_a_result_that_never_fits_can_be_executed_once_more(make_plan, server, service_state, samples):
    """By `submit --again` alone: a plan must not wait for ever for one of its results."""
    plan = make_plan(patience={"retries": 1})
    with (context := plan.context()).ledger:
        send_open_chunks(context)
        service_state.advance()
        first = next(iter(service_state.jobs.values()))
        first.result = first.result.replace("data", "dat")
        with pytest.raises(ServiceError, match="`submit --again` has it executed, and paid for, once more"):
            collect_jobs(context)
        assert send_open_chunks(context) == 0
        service_state.faults = [Fault("result", "html", times=50)]
        assert send_open_chunks(context, again=True) == 0  # what cannot be fetched now is no such result
        service_state.faults = []
        assert send_open_chunks(context, again=True) == 1
        finish(context)
        check_complete(context, service_state, samples[1])
    assert len(service_state.jobs) == 4


@pytest.mark.parametrize("status", [404, 410])
def test_a_result_that_the_service_keeps_no_longer_can_be_executed_once_more(
    status, make_plan, server, service_state, samples
):
    """A job is done and its result not there, for ever: collected too late, as a rule."""
    plan = make_plan(patience={"retries": 1})
    with (context := plan.context()).ledger:
        send_open_chunks(context)
        service_state.advance()
        first = next(iter(service_state.jobs))
        service_state.lost_results = {first: status}
        with pytest.raises(ServiceError, match=f"{first} .*kept for a limited time.*`submit --again`"):
            collect_jobs(context)
        assert sorted(context.ledger.results()) == [1, 2]
        assert send_open_chunks(context) == 0
        assert send_open_chunks(context, again=True) == 1
        finish(context)
        check_complete(context, service_state, samples[1])
    assert len(service_state.jobs) == 4


@pytest.mark.parametrize("more", ["parameter sets", "bits"])
def test_more_than_was_asked_for_is_not_cut_to_size(more, make_plan, small_prepared):
    """A service without marks can be told by shapes alone: the first rows of another job's are not ours."""
    plan = make_plan(limits={"jobs_per_minute": 1000.0})
    bits = np.zeros((2, plan.settings.shots, 4), dtype=bool)
    padding = {"parameter sets": ((0, 1), (0, 0), (0, 0)), "bits": ((0, 0), (0, 0), (0, 1))}[more]
    count = len(small_prepared.variants)
    decode_chunk(bits_text([bits] * count), [(small_prepared, 2)], plan.settings)
    with pytest.raises(HardwareError, match="came back, not 4 of 2 parameter sets"):
        decode_chunk(bits_text([np.pad(bits, padding)] * count), [(small_prepared, 2)], plan.settings)
