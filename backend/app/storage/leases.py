"""Who works on which job: one claim statement for SQLite and PostgreSQL, and leases that run by the database's clock.

A job that holds a device has a slot, `<machine>/<device>`, which is unique: that is what keeps one device to one job,
whatever servers do at the same time. The server that looks after it renews its lease; where it does not, another one
of the same data folder takes the job over. A trainer is never started twice: see the lock in jobs/executors/local.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Float, Update, literal, or_, select, update
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.functions import FunctionElement

from app.contracts.status import JobStatus
from app.storage.tables import JobRow

LEASE_SECONDS = 60.0
"""A server that was not heard of for so long is taken for dead."""


class database_seconds(FunctionElement[float]):  # noqa: N801  # an SQL function
    """The database's own clock in seconds: those of several servers need not agree."""

    type = Float()
    inherit_cache = True


@compiles(database_seconds)
def _on_sqlite(_element: object, _compiler: object, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(database_seconds, "postgresql")
def _on_postgresql(_element: object, _compiler: object, **_: Any) -> str:
    return "EXTRACT(EPOCH FROM clock_timestamp())::float8"


@dataclass(frozen=True)
class Claimant:
    """One server: its own name, the machine whose devices it uses, and the data folder whose jobs it can reach."""

    owner: str
    machine: str
    folder_id: str

    def slot(self, device_id: str) -> str:
        """Return the name of a device of this machine."""
        return f"{self.machine}/{device_id}"


@cache
def claim_statement(claimant: Claimant) -> Update:
    """Return the statement that gives the next queued job its device and its keeper, and returns its `job_id`.

    The highest priority first, then the oldest. PostgreSQL passes over rows that another server is claiming (SKIP
    LOCKED); SQLite has no row locks and leaves these words out: its writers wait for each other (BEGIN IMMEDIATE). Two
    servers that claim for the same device at once: the second violates the slot's uniqueness (IntegrityError).
    """
    queued, holding = aliased(JobRow), aliased(JobRow)
    taken = select(holding.slot).where(holding.slot.is_not(None))
    wanted = literal(f"{claimant.machine}/").concat(queued.device_id)
    chosen = (
        select(queued.number)
        .where(queued.status == JobStatus.QUEUED, queued.slot.is_(None), queued.folder_id == claimant.folder_id)
        .where(wanted.not_in(taken))
        .order_by(queued.priority.desc(), queued.number)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return (
        update(JobRow)
        .where(JobRow.number == chosen.scalar_subquery())
        .values(slot=literal(f"{claimant.machine}/").concat(JobRow.device_id), **_lease(claimant))
        .returning(JobRow.job_id)
        .execution_options(synchronize_session=False)
    )


class Leases:
    """The queue and the leases as one server uses them."""

    def __init__(self, session: Session, claimant: Claimant) -> None:
        self.session = session
        self.claimant = claimant

    def anything_waits(self) -> bool:
        """Whether a job of this folder is queued. Needs no writing transaction."""
        waiting = select(JobRow.number).where(JobRow.status == JobStatus.QUEUED, JobRow.folder_id == self.claimant.folder_id)
        return self.session.scalar(waiting.limit(1)) is not None

    def claim(self) -> str | None:
        """Take the next queued job whose device of this machine is free; return its id, None where there is none."""
        job_id: str | None = self.session.scalar(claim_statement(self.claimant))
        return job_id

    def renew(self) -> None:
        """Say that this server still looks after its jobs."""
        mine = update(JobRow).where(JobRow.lease_owner == self.claimant.owner).values(**_lease(self.claimant))
        self.session.execute(mine.execution_options(synchronize_session=False))

    def take_over(self, *, all_others: bool = False) -> Sequence[str]:
        """Take the jobs of this folder that nobody looks after any more; return their ids.

        With `all_others`, those of every other server too: the caller knows that none is left.
        """
        lost = or_(JobRow.lease_owner.is_(None), JobRow.lease_until < database_seconds())
        statement = (
            update(JobRow)
            .where(JobRow.slot.is_not(None), JobRow.folder_id == self.claimant.folder_id)
            .where(or_(JobRow.lease_owner != self.claimant.owner, lost) if all_others else lost)
            .values(**_lease(self.claimant))
            .returning(JobRow.job_id)
            .execution_options(synchronize_session=False)
        )
        return self.session.scalars(statement).all()

    def held(self) -> list[tuple[str, JobStatus]]:
        """Return id and status of the jobs that this server looks after, oldest first."""
        mine = select(JobRow.job_id, JobRow.status).where(JobRow.lease_owner == self.claimant.owner).order_by(JobRow.number)
        return [(job_id, JobStatus(status)) for job_id, status in self.session.execute(mine)]

    def hold(self, row: JobRow) -> None:
        """Give a job that already runs its device, where nobody else has it, and make this server look after it."""
        wanted = self.claimant.slot(row.device_id)
        taken = self.session.scalar(select(JobRow.number).where(JobRow.slot == wanted, JobRow.number != row.number))
        row.slot = wanted if taken is None else f"{self.claimant.machine}/{row.job_id}"
        self.session.flush()
        mine = update(JobRow).where(JobRow.number == row.number).values(**_lease(self.claimant))
        self.session.execute(mine.execution_options(synchronize_session=False))

    def let_go(self) -> None:
        """Leave every job to the next server: this one ends."""
        mine = update(JobRow).where(JobRow.lease_owner == self.claimant.owner).values(lease_owner=None, lease_until=None)
        self.session.execute(mine.execution_options(synchronize_session=False))


def release(row: JobRow) -> None:
    """Free the device of a job whose process is gone."""
    row.slot = row.lease_owner = row.lease_until = None


def _lease(claimant: Claimant) -> dict[str, Any]:
    return {"lease_owner": claimant.owner, "lease_until": database_seconds() + LEASE_SECONDS}
