"""The list of jobs is kept in words: it must be what the jobs are now, whatever has happened to them."""

from collections.abc import Iterator

import pytest

from app.api.job_lines import JobLines
from app.api.schemas.jobs import JobList
from app.api.wording import job_read
from app.contracts.events import JobFailed, StatusChanged
from app.contracts.status import JobStatus
from app.core.messages import Language
from app.core.settings import Settings
from app.jobs.ingest import ingest
from app.services import dataset_service, deletion, finetuning_service, job_control, job_service
from app.services.studio import Studio, open_studio
from app.storage.model_store import EMBEDDED_ID
from app.storage.repositories import Jobs


@pytest.fixture
def studio(settings: Settings) -> Iterator[Studio]:
    """A data folder in which nobody starts what is queued."""
    made = open_studio(settings)
    yield made
    made.close()


def tell(studio: Studio, job_id: str, *told: StatusChanged | JobFailed) -> None:
    for event in told:
        studio.job_dir(job_id).append(event)
    with studio.database.writing() as session:
        row = Jobs(session).lock(job_id)
        assert row is not None
        ingest(session, row, studio.job_dir(job_id))


def check(studio: Studio, lines: JobLines, language: Language = "en") -> JobList:
    """The list in words is what each job is when it is put into words now; return it."""
    with studio.database.reading() as session:
        found = lines.render(studio, session, language, limit=100, after=None, status=None)
        rows = job_service.list_jobs(session)
        expected = JobList(jobs=[job_read(studio, row, language) for row in rows])
    assert JobList.model_validate_json(found) == expected
    return expected


def test_whatever_happens_to_a_job_the_list_says_it_at_once(studio: Studio) -> None:
    lines = JobLines(kept=3)  # fewer than are listed in two languages
    dataset = dataset_service.import_sample(studio).dataset_id
    first, second = (finetuning_service.finetune(studio, dataset, EMBEDDED_ID).job_id for _ in range(2))
    assert [job.job_id for job in check(studio, lines).jobs] == [second, first]
    job_control.prioritise(studio, first, 5)
    assert check(studio, lines).jobs[1].priority == 5
    job_service.cancel(studio, second)
    tell(studio, first, *(StatusChanged(status=JobStatus(name)) for name in ("starting", "running")))
    assert [job.status for job in check(studio, lines).jobs] == ["cancelled", "running"]
    tell(studio, first, StatusChanged(status=JobStatus.SUCCEEDED))
    assert [job.can_chat for job in check(studio, lines).jobs] == [False, False]
    folder = studio.job_dir(first)
    folder.adapter.mkdir()
    folder.adapter_config.write_text("{}")
    assert [job.can_chat for job in check(studio, lines).jobs] == [False, True]
    folder.adapter_config.unlink()
    assert [job.can_chat for job in check(studio, lines).jobs] == [False, False]
    third = finetuning_service.finetune(studio, dataset, EMBEDDED_ID).job_id
    tell(studio, third, StatusChanged(status=JobStatus.STARTING), JobFailed(code="worker_killed", key="worker_killed"))
    errors = [job.error for language in ("en", "fr") for job in check(studio, lines, language).jobs if job.error is not None]
    assert len({error.message for error in errors}) == 2
    deletion.delete_job(studio, first)
    assert [job.job_id for job in check(studio, lines).jobs] == [third, second]
