"""Queries, one class a table. No rule of the business lives here."""

import socket
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import BigInteger, ColumnElement, Select, cast, delete, func, insert, select, update
from sqlalchemy.orm import Session, aliased, defer

from app.contracts.dataset import DatasetInfo
from app.contracts.job import TrainingJob
from app.contracts.status import JobStatus
from app.storage.tables import DatasetRow, IdempotencyKeyRow, JobAttemptRow, JobEventRow, JobRow

ACTIVE = (JobStatus.STARTING, JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.CANCELLING)
"""States in which a job holds its device."""


Statement = TypeVar("Statement", bound="Select[*tuple[Any, ...]]")


class JobState(NamedTuple):
    """What changes whenever a job does."""

    job_id: str
    status: str
    last_seq: int


class StoredEvent(NamedTuple):
    """One line of events.jsonl as the database keeps it."""

    seq: int
    body: str


class Jobs:
    """The rows of `jobs`, `job_attempts` and `idempotency_keys`."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def uses_dataset(self, dataset_id: str) -> bool:
        """Say whether there is a job of this data set, ended ones included."""
        return self.session.scalar(select(JobRow.job_id).where(JobRow.dataset_id == dataset_id).limit(1)) is not None

    def add(self, job: TrainingJob, folder_id: str) -> JobRow:
        """Insert a queued job that lies in the data folder `folder_id`."""
        row = JobRow(
            job_id=job.job_id,
            name=job.name,
            status=JobStatus.QUEUED,
            model_id=job.model.model_id,
            model_name=job.model.display_name,
            dataset_id=job.dataset.dataset_id,
            dataset_name=job.dataset.name,
            device_id=job.device_id,
            created_at=job.created_at,
            spec=job.model_dump_json(),
            step=0,
            total_steps=job.plan.steps,
            last_seq=0,
            events_offset=0,
            priority=0,
            folder_id=folder_id,
            host=socket.gethostname(),
        )
        self.session.add(row)
        self.session.flush()
        return row

    def find(self, job_id: str) -> JobRow | None:
        """Return a job, or None."""
        return self.session.scalar(select(JobRow).where(JobRow.job_id == job_id))

    def find_status(self, job_id: str) -> JobStatus | None:
        """Return the status of a job alone, or None."""
        found = self.session.scalar(select(JobRow.status).where(JobRow.job_id == job_id))
        return None if found is None else JobStatus(found)

    def lock(self, job_id: str) -> JobRow | None:
        """Return a job that no other writer changes until this transaction ends (SQLite: the whole file is locked)."""
        statement = select(JobRow).where(JobRow.job_id == job_id).with_for_update()
        return self.session.scalar(statement, execution_options={"populate_existing": True})

    def page(self, limit: int, after: str | None, status: JobStatus | None) -> Sequence[JobRow]:
        """Return jobs without their `spec`, newest first, from the one after `after` on."""
        statement = select(JobRow).options(defer(JobRow.spec))
        return self.session.scalars(of_page(statement, limit, after, status)).all()

    def page_states(self, limit: int, after: str | None, status: JobStatus | None) -> list[JobState]:
        """Return the states of the jobs of a page."""
        statement = of_page(select(JobRow.job_id, JobRow.status, JobRow.last_seq), limit, after, status)
        return [JobState(*row) for row in self.session.execute(statement)]

    def named(self, job_ids: Sequence[str]) -> Sequence[JobRow]:
        """Return the jobs of these ids (a few hundred at most) without their `spec`, in no order."""
        if not job_ids:
            return []
        return self.session.scalars(select(JobRow).options(defer(JobRow.spec)).where(JobRow.job_id.in_(job_ids))).all()

    def active(self) -> Sequence[JobRow]:
        """Return the jobs that hold a device, oldest first."""
        return self.session.scalars(select(JobRow).where(JobRow.status.in_(ACTIVE)).order_by(JobRow.number)).all()

    def find_in_slot(self, slot: str) -> JobRow | None:
        """Return the job that holds a device (storage/leases.py), or None."""
        return self.session.scalar(select(JobRow).where(JobRow.slot == slot, JobRow.status.in_(ACTIVE)))

    def unfinished(self, folder_id: str) -> Sequence[JobRow]:
        """Return every job of a data folder that has not ended, oldest first."""
        ended = [status for status in JobStatus if status.terminal]
        statement = select(JobRow).where(JobRow.status.not_in(ended), JobRow.folder_id == folder_id)
        return self.session.scalars(statement.order_by(JobRow.number)).all()

    def find_user(self, used: ColumnElement[bool]) -> JobRow | None:
        """Return a job that has not ended and uses something (a condition on its columns), or None."""
        ended = [status for status in JobStatus if status.terminal]
        return self.session.scalar(select(JobRow).where(used, JobRow.status.not_in(ended)).order_by(JobRow.number).limit(1))

    def find_highest_priority(self, folder_id: str, *, but: str) -> int | None:
        """Return the highest priority of the jobs that wait in a data folder, one left out; None where no other waits."""
        waiting = select(func.max(JobRow.priority)).where(JobRow.status == JobStatus.QUEUED, JobRow.folder_id == folder_id)
        return self.session.scalar(waiting.where(JobRow.job_id != but))

    def settle(self, folder_id: str) -> None:
        """Give the rows of versions that noted no data folder to this one: there was only one then."""
        for table in (JobRow, DatasetRow):
            self.session.execute(update(table).where(table.folder_id.is_(None)).values(folder_id=folder_id))

    def ids(self) -> set[str]:
        """Return every job id."""
        return set(self.session.scalars(select(JobRow.job_id)))

    def delete(self, row: JobRow) -> None:
        """Delete a job with its events, attempts and keys (foreign keys cascade)."""
        self.session.execute(delete(JobRow).where(JobRow.job_id == row.job_id))

    def add_attempt(self, row: JobRow, micro_batch_size: int, oom_kills: int | None, at: str) -> JobAttemptRow:
        """Record the start of a trainer."""
        last = self.find_attempt(row.job_id)
        attempt = JobAttemptRow(
            job_id=row.job_id,
            number=last.number + 1 if last else 1,
            micro_batch_size=micro_batch_size,
            started_at=at,
            host=socket.gethostname(),
            oom_kills_before=oom_kills,
        )
        self.session.add(attempt)
        self.session.flush()
        return attempt

    def find_attempt(self, job_id: str) -> JobAttemptRow | None:
        """Return the latest attempt, or None."""
        statement = select(JobAttemptRow).where(JobAttemptRow.job_id == job_id).order_by(JobAttemptRow.number.desc()).limit(1)
        return self.session.scalar(statement)

    def attempts(self, job_id: str) -> Sequence[JobAttemptRow]:
        """Return every start of a trainer for a job, oldest first."""
        statement = select(JobAttemptRow).where(JobAttemptRow.job_id == job_id).order_by(JobAttemptRow.number)
        return self.session.scalars(statement).all()

    def find_recent_key(self, prefix: str, request_hash: str, since: str) -> IdempotencyKeyRow | None:
        """Return the newest key that begins with `prefix`, came with this request, and not before `since`; or None."""
        statement = select(IdempotencyKeyRow).where(
            IdempotencyKeyRow.key.startswith(prefix, autoescape=True),
            IdempotencyKeyRow.request_hash == request_hash,
            IdempotencyKeyRow.created_at >= since,
        )
        return self.session.scalar(statement.order_by(IdempotencyKeyRow.created_at.desc()).limit(1))

    def find_key(self, key: str) -> IdempotencyKeyRow | None:
        """Return what an Idempotency-Key stands for, or None."""
        return self.session.get(IdempotencyKeyRow, key)


def of_page(statement: Statement, limit: int, after: str | None, status: JobStatus | None) -> Statement:
    """Return a query for jobs that takes a page of them, newest first, from the one after `after` on."""
    if status is not None:
        statement = statement.where(JobRow.status == status)
    if after is not None:
        statement = statement.where(JobRow.number < select(JobRow.number).where(JobRow.job_id == after).scalar_subquery())
    return statement.order_by(JobRow.number.desc()).limit(limit)


class Events:
    """The rows of `job_events`."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, rows: Sequence[dict[str, str | int]]) -> None:
        """Insert events, each a mapping of the table's columns; thousands at once cost no more memory than their text."""
        if rows:
            self.session.execute(insert(JobEventRow), rows)

    def after(self, job_id: str, seq: int, limit: int = 500) -> Sequence[StoredEvent]:
        """Return the events that follow `seq`, in order."""
        statement = select(JobEventRow.seq, JobEventRow.body).where(JobEventRow.job_id == job_id, JobEventRow.seq > seq)
        return [StoredEvent(*row) for row in self.session.execute(statement.order_by(JobEventRow.seq).limit(limit))]

    def newest(self, job_id: str, limit: int, before: int | None = None) -> Sequence[JobEventRow]:
        """Return the last events, newest first; those before the seq `before` where that is given."""
        statement = select(JobEventRow).where(JobEventRow.job_id == job_id).order_by(JobEventRow.seq.desc()).limit(limit)
        if before is not None:
            statement = statement.where(JobEventRow.seq < before)
        return self.session.scalars(statement).all()

    def of_kind(self, job_id: str, kind: str) -> Sequence[JobEventRow]:
        """Return every event of one kind, in order."""
        statement = select(JobEventRow).where(JobEventRow.job_id == job_id, JobEventRow.kind == kind).order_by(JobEventRow.seq)
        return self.session.scalars(statement).all()

    def lines(self, job_id: str) -> Iterator[tuple[int, str]]:
        """Yield (seq, body) of every event in order, a few at a time."""
        statement = select(JobEventRow.seq, JobEventRow.body).where(JobEventRow.job_id == job_id).order_by(JobEventRow.seq)
        yield from self.session.execute(statement.execution_options(yield_per=500)).tuples()

    def bodies(self, job_id: str, kind: str, limit: int) -> Sequence[str]:
        """Return the bodies of the events of one kind in order: all of them, or `limit` that lie evenly among the event numbers,
        the first and the last with them. The table is not read through: each is looked up in the index."""
        own = (JobEventRow.job_id == job_id, JobEventRow.kind == kind)
        some = select(JobEventRow.seq).where(*own).limit(limit + 1).subquery()
        if (self.session.scalar(select(func.count()).select_from(some)) or 0) <= limit:
            return self.session.scalars(select(JobEventRow.body).where(*own).order_by(JobEventRow.seq)).all()
        # Asked apart: SQLite finds one end in the index, but reads every event through for both at once.
        first = self.session.scalars(select(func.min(JobEventRow.seq)).where(*own)).one()
        last = self.session.scalars(select(func.max(JobEventRow.seq)).where(*own)).one()
        statement = select(JobEventRow.body).where(
            JobEventRow.job_id == job_id, JobEventRow.seq.in_(nearest(job_id, kind, first, last, limit))
        )
        return self.session.scalars(statement.order_by(JobEventRow.seq)).all()


def nearest(job_id: str, kind: str, first: int, last: int, count: int) -> Select[tuple[int]]:
    """Return the query for `count` event numbers of one kind, evenly from `first` to `last`: the next one from each place on."""
    places = select(cast(0, BigInteger).label("place")).cte("places", recursive=True)
    places = places.union_all(select(places.c.place + 1).where(places.c.place < count - 1))
    event = aliased(JobEventRow)
    found = select(func.min(event.seq)).where(event.job_id == job_id, event.kind == kind)
    found = found.where(event.seq >= first + places.c.place * (last - first) // (count - 1))
    return select(found.correlate(places).scalar_subquery()).select_from(places)


class Datasets:
    """The rows of `datasets`."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def put(self, info: DatasetInfo, folder_id: str) -> None:
        """Insert or replace the row of a data set that lies in the data folder `folder_id`."""
        self.session.merge(
            DatasetRow(
                dataset_id=info.dataset_id,
                name=info.name,
                created_at=info.created_at,
                rows=info.rows,
                content_hash=info.content_hash,
                folder_id=folder_id,
            )
        )

    def ids_newest_first(self, folder_id: str | None = None) -> Sequence[str]:
        """Return every id, or those of one data folder."""
        statement = select(DatasetRow.dataset_id).order_by(DatasetRow.created_at.desc(), DatasetRow.dataset_id)
        if folder_id is not None:
            statement = statement.where(DatasetRow.folder_id == folder_id)
        return self.session.scalars(statement).all()

    def delete(self, dataset_id: str) -> None:
        """Delete the row of a data set."""
        self.session.execute(delete(DatasetRow).where(DatasetRow.dataset_id == dataset_id))
