"""Which cores answers may use."""

import os
import subprocess
import sys
import time

import pytest

from app.inference.free_cores import LOOK_SECONDS, FreeCores, Reading

START = Reading(clock=10.0, busy=100.0, own=5.0)


@pytest.mark.parametrize(
    ("busy", "own", "free"),
    [(0.0, 0.0, 2), (2.0, 2.0, 2), (0.3, 0.0, 2), (1.3, 1.0, 2), (1.0, 0.0, 1), (2.0, 1.0, 1), (2.0, 1.3, 1), (2.0, 0.0, 1)],
)
def test_own_work_and_a_little_of_others_leave_both_cores(busy: float, own: float, free: int) -> None:
    later = Reading(clock=START.clock + 1, busy=START.busy + busy, own=START.own + own)

    assert START.count_free(later, 2) == free


def test_programs_that_hold_every_core_leave_one() -> None:
    cores = len(os.sched_getaffinity(0))
    looked = FreeCores(cores)
    assert looked.count() == cores

    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        time.sleep(1.0)  # they start
        looked.count()
        time.sleep(2 * LOOK_SECONDS)
        assert looked.count() == 1
    finally:
        for other in others:
            other.kill()
            other.wait()
