"""Status has one door, and it lets no illegal move through."""

import itertools

import pytest

from app.contracts.status import NEXT, JobStatus
from app.jobs.lifecycle import IllegalMove, switch_status
from app.storage.tables import JobRow

MOVES = list(itertools.product(JobStatus, JobStatus))


@pytest.mark.parametrize("old, new", MOVES, ids=[f"{old}-{new}" for old, new in MOVES])
def test_every_pair_of_states_moves_or_is_refused_as_the_contract_says(old: JobStatus, new: JobStatus) -> None:
    row = JobRow(job_id="a", status=old.value, started_at=None, finished_at=None)
    if new is old:
        assert switch_status(row, new, "t") is False
    elif new in NEXT[old]:
        assert switch_status(row, new, "t") is True
        assert row.status == new
        assert (row.finished_at == "t") is new.terminal
        assert (row.started_at == "t") is (new is JobStatus.RUNNING)
    else:
        with pytest.raises(IllegalMove, match=f"is {old.value} and cannot become {new.value}"):
            switch_status(row, new, "t")
        assert row.status == old
