"""What finished jobs say about predicted seconds."""

import math
from dataclasses import replace

import pytest

from app.contracts.plan import Plan
from app.contracts.record import JobRecord
from app.planner.correction import (
    NARROWEST,
    Correction,
    FinishedTime,
    describe_correction,
    find_correction,
    find_weighted_median,
    list_times,
)
from app.planner.fit import make_plan
from tests.unit.planner.test_fit import device, plan_request

JOB = FinishedTime("cpu", "A processor", "bfloat16", "calibrated", 600.0, 600.0, None)


def correct(times: list[FinishedTime], **changes: object) -> Correction:
    wanted = {"device": "cpu", "device_name": "A processor", "dtype": "bfloat16", "method": "calibrated"} | changes
    return find_correction(times, **wanted)  # type: ignore[arg-type]


def took(ratio: float, **changes: object) -> FinishedTime:
    return replace(JOB, measured_seconds=600.0 * ratio, **changes)  # type: ignore[arg-type]


def test_without_a_finished_job_nothing_changes() -> None:
    assert correct([]) == Correction()
    assert Correction().spread(1.25) == 1.25
    assert describe_correction(Correction()) == []


def test_the_factor_comes_closer_to_what_jobs_took_with_each_further_one() -> None:
    factors = [correct([took(0.6)] * count).factor for count in (1, 2, 5, 20)]
    assert factors == sorted(factors, reverse=True)
    assert 0.75 < factors[0] < 0.85
    assert 0.6 < factors[-1] < 0.67


def test_one_job_that_went_astray_hardly_counts() -> None:
    usual = [took(1.0)] * 6
    assert correct([*usual[:3], took(50.0), *usual[3:]]).factor == pytest.approx(1.0, abs=0.02)


def test_new_jobs_outweigh_old_ones() -> None:
    assert correct([took(2.0)] * 15 + [took(1.0)] * 12).factor < 1.1


def test_a_job_of_seconds_counts_less_than_one_of_minutes() -> None:
    short = replace(JOB, planned_seconds=4.0, measured_seconds=8.0)
    assert 1 < correct([short]).factor < correct([took(2.0)]).factor


def test_only_jobs_of_the_same_device_and_method_count_and_other_precisions_count_less() -> None:
    for other in (
        took(2.0, device="cuda"),
        took(2.0, device_name="Another processor"),
        took(2.0, method="table"),
    ):
        assert correct([other]).jobs == 0
    assert 1 < correct([took(2.0, dtype="float32")]).factor < correct([took(2.0)]).factor


def test_a_job_planned_with_an_earlier_calibration_is_compared_with_the_present_one() -> None:
    slow_moment = took(0.5, step_factor=2.0)
    assert correct([slow_moment], step_factor=1.0).factor == pytest.approx(1.0)
    assert correct([slow_moment], step_factor=2.0).factor < 0.8


def test_p90_narrows_when_jobs_meet_their_plans_and_widens_when_they_scatter() -> None:
    steady, scattered = correct([took(1.0)] * 15), correct([took(ratio) for ratio in (0.5, 2.0, 1.0, 0.6, 1.8) * 3])
    assert NARROWEST <= steady.spread(1.25) < 1.25 < scattered.spread(1.25)
    assert correct([took(1.0)]).spread(1.25) > steady.spread(1.25)


def test_the_corrected_seconds_are_what_the_next_jobs_take() -> None:
    """Of log-normal jobs that take 0.7 of their plan, half stay below the corrected P50 and nine of ten below P90."""
    quantiles = [0.25, -1.28, 0.52, -0.52, 0.84, 0.0, -0.84, 1.28, -0.25]
    times = [took(0.7 * math.exp(0.2 * quantile)) for quantile in quantiles * 4]
    found = correct(times)
    p90 = found.factor * found.spread(1.25)
    assert found.factor == pytest.approx(0.7, rel=0.12)
    assert sum(time.measured_seconds / 600 <= p90 for time in times) / len(times) >= 0.85


def test_the_weighted_median_lies_where_half_of_the_weight_lies_below() -> None:
    assert find_weighted_median([3.0, 1.0, 2.0], [1, 1, 1]) == 2.0
    assert find_weighted_median([1.0, 5.0], [1, 1]) == 3.0
    assert find_weighted_median([1.0, 5.0], [9, 1]) < 2.0
    with pytest.raises(ValueError, match="no values"):
        find_weighted_median([], [])


def record_of(measured: float | None, **changes: object) -> JobRecord:
    fields = {
        "job_id": "job-1", "name": "a job", "model_id": "gpt2", "device_id": "cpu", "device_kind": "cpu", "dtype": "bfloat16",
        "quantization": "none", "gradient_checkpointing": False, "memory_method": "traced", "time_method": "calibrated",
        "finished_at": "2026-11-22T12:00:00.000Z", "planned_peak_bytes": 1, "measured_peak_bytes": 1, "planned_seconds": 80.0,
        "planned_seconds_p90": 100.0, "measured_seconds": measured,
    }  # fmt: skip
    return JobRecord.model_validate(fields | changes)


def test_a_plan_that_was_corrected_is_compared_without_its_correction() -> None:
    found = list_times([record_of(80.0, time_factor=0.8), record_of(None)])
    assert [(time.planned_seconds, time.measured_seconds) for time in found] == [(100.0, 80.0)]


def plan_for(finished: tuple[FinishedTime, ...] = ()) -> Plan:
    return make_plan(replace(plan_request("gpt2", device(24)), finished=finished))


def test_a_plan_is_corrected_says_so_and_remembers_by_how_much() -> None:
    plain = plan_for()
    job = took(1.5, device="cuda", device_name=plain.time_basis.device_name, method=plain.time_method)
    finished = (replace(job, dtype=plain.resolved["dtype"].value),) * 8
    corrected = plan_for(finished=finished)
    basis = corrected.time_basis
    assert (basis.jobs, plain.time_basis.jobs) == (8, 0)
    assert corrected.seconds_p50 == pytest.approx(plain.seconds_p50 * basis.factor)
    assert 1.3 < basis.factor < 1.5
    notice = next(reason for reason in corrected.reasons if reason.code == "time_corrected")
    assert notice.key == "time_corrected.slower" and notice.params == {"jobs": 8, "percent": round(100 * (basis.factor - 1))}
