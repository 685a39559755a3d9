"""Two random schedules of faults, and fifty identical starts at once; `make faults` runs as many as one likes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.api.conftest import dataset_id
from tests.faults.faulty_run import FaultyRun
from tests.faults.oracle import check_folder

SEEDS = (3, 11)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyRun]:
    from tests.engine.tiny import write_llama

    model = write_llama(tmp_path_factory.mktemp("models") / "tiny-llama")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        run = FaultyRun(tmp_path_factory.mktemp("faults") / "data", model, lock_seconds=2.0)
    run.run_undisturbed()
    yield run
    run.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_goes_wrong_the_job_ends_as_if_nothing_had(faulty: FaultyRun, seed: int) -> None:
    assert faulty.run(seed) == []


def test_fifty_identical_starts_at_once_are_one_job(faulty: FaultyRun) -> None:
    body = {"dataset_id": dataset_id(faulty.server.client), "model_name": str(faulty.model), "num_epochs": 1}
    before = len(faulty.server.client.get("/api/jobs?limit=200").json()["jobs"])

    def start(_: int) -> str:
        answer = faulty.server.client.post("/api/start-finetuning", json=body, headers={"Idempotency-Key": "once"})
        assert answer.status_code == 201, answer.text
        job_id: str = answer.json()["job_id"]
        return job_id

    with ThreadPoolExecutor(50) as pool:
        (job_id,) = set(pool.map(start, range(50)))
    assert len(faulty.server.client.get("/api/jobs?limit=200").json()["jobs"]) == before + 1
    assert faulty.finish(job_id) == "succeeded"
    faulty.wait(faulty.is_idle, "the trainer's process stays")
    assert check_folder(faulty.server.data_dir) == []
