"""A few random schedules of faults, cancels at every stage, and fifty identical starts at once.

`make faults` runs as many schedules as one likes; ledger.jsonl says which were.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.conftest import dataset_id
from tests.faults.faulty_run import ENDED, FaultyRun
from tests.faults.oracle import check_folder
from tests.faults.schedule import draw

SEEDS = (2, 6, 7)
"""Killed servers and trainers, copies, a model that is gone, a full disk (where this machine lets us mount one), a damaged
checkpoint."""


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyRun]:
    from tests.engine.tiny import write_llama

    run = FaultyRun(tmp_path_factory.mktemp("faults") / "run", write_llama(tmp_path_factory.mktemp("models") / "tiny-llama"))
    run.run_undisturbed()
    yield run
    run.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_goes_wrong_the_job_ends_as_if_nothing_had(faulty: FaultyRun, seed: int) -> None:
    assert faulty.run(draw(seed)) == []


def test_a_cancel_at_any_stage_ends_the_job_once_and_for_good(faulty: FaultyRun) -> None:
    dataset = dataset_id(faulty.server.client)
    stages = [1, 2, 3, 4, 5, 8, 14, 58]
    """Events after which the cancel comes: queued, starting, running, tokenising, loading, training twice, saving."""
    jobs = [faulty.start(dataset) for _ in stages]
    for job_id, stage in zip(jobs, stages, strict=True):
        faulty.wait_for_event(job_id, stage)
        first = faulty.post(job_id, "cancel").status_code
        end = faulty.finish(job_id)
        assert (first, end) in ((200, "cancelled"), (200, "succeeded"), (409, "succeeded"))
        assert faulty.post(job_id, "cancel").status_code == (200 if end == "cancelled" else 409)
        statuses = [event.status for event in faulty.folder(job_id).read_events() if event.kind == "status_changed"]
        assert sum(status in ENDED for status in statuses) == 1 and faulty.status(job_id) == end
    faulty.wait(faulty.is_idle, "a trainer's process stays")
    assert check_folder(faulty.server.data_dir) == []


def test_fifty_identical_starts_at_once_are_one_job(faulty: FaultyRun) -> None:
    body = {**faulty.body, "dataset_id": dataset_id(faulty.server.client), "num_epochs": 1}
    before = set(faulty.folders())

    def start(_: int) -> str:
        answer = faulty.server.client.post("/api/start-finetuning", json=body, headers={"Idempotency-Key": "once"})
        assert answer.status_code == 201, answer.text
        job_id: str = answer.json()["job_id"]
        return job_id

    with ThreadPoolExecutor(50) as pool:
        (job_id,) = set(pool.map(start, range(50)))
    assert set(faulty.folders()) - before == {job_id}
    assert faulty.finish(job_id) == "succeeded"
    faulty.wait(faulty.is_idle, "the trainer's process stays")
    assert check_folder(faulty.server.data_dir) == []
