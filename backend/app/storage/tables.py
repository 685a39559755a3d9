"""The tables. Job folders and data set folders are the truth; these rows are their index, and can be rebuilt."""

from sqlalchemy import BigInteger, Float, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Table(DeclarativeBase):
    """Parent of all tables; constraint names follow one pattern, so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class JobRow(Table):
    """One fine-tuning job: what was asked, where it stands, the latest numbers."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_status_device_id", "status", "device_id"), Index("ix_jobs_lease_owner", "lease_owner"))

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    """Order of creation: the queue's order among jobs of one priority."""
    job_id: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(300))
    status: Mapped[str] = mapped_column(String(20))
    """A JobStatus value; written by jobs/lifecycle.py alone."""
    model_id: Mapped[str] = mapped_column(String(600))
    model_name: Mapped[str] = mapped_column(String(300))
    dataset_id: Mapped[str] = mapped_column(String(64))
    dataset_name: Mapped[str] = mapped_column(String(300))
    device_id: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[str] = mapped_column(String(32))
    started_at: Mapped[str | None] = mapped_column(String(32))
    finished_at: Mapped[str | None] = mapped_column(String(32))
    spec: Mapped[str] = mapped_column(Text)
    """job.json, word for word."""

    priority: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """Higher starts earlier."""
    folder_id: Mapped[str | None] = mapped_column(String(40))
    """The data folder that holds the job (storage/folder_identity.py); None in rows of versions that did not note it."""
    host: Mapped[str | None] = mapped_column(String(255))
    """Name of the machine on which the job was made, for people."""
    slot: Mapped[str | None] = mapped_column(String(100), unique=True)
    """`<machine>/<device>` from the claim until the trainer's process is gone."""
    lease_owner: Mapped[str | None] = mapped_column(String(300))
    """The server that looks after the job."""
    lease_until: Mapped[float | None] = mapped_column(Float)
    """Until when, in seconds of the database's clock."""

    phase: Mapped[str | None] = mapped_column(String(20))
    step: Mapped[int] = mapped_column(Integer, default=0)
    total_steps: Mapped[int] = mapped_column(Integer, default=0)
    epoch: Mapped[float | None] = mapped_column(Float)
    loss: Mapped[float | None] = mapped_column(Float)
    heldout_loss: Mapped[float | None] = mapped_column(Float)
    heldout_loss_before: Mapped[float | None] = mapped_column(Float)
    learning_rate: Mapped[float | None] = mapped_column(Float)
    tokens: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_second: Mapped[float | None] = mapped_column(Float)
    peak_bytes: Mapped[int | None] = mapped_column(BigInteger)
    eta_seconds: Mapped[float | None] = mapped_column(Float)
    download_done_bytes: Mapped[int | None] = mapped_column(BigInteger)
    download_total_bytes: Mapped[int | None] = mapped_column(BigInteger)

    error_code: Mapped[str | None] = mapped_column(String(60))
    error_key: Mapped[str | None] = mapped_column(String(120))
    error_params: Mapped[str | None] = mapped_column(Text)
    error_evidence: Mapped[str | None] = mapped_column(Text)

    last_seq: Mapped[int] = mapped_column(Integer, default=0)
    """Sequence number of the last event that was taken in."""
    events_offset: Mapped[int] = mapped_column(BigInteger, default=0)
    """Bytes of events.jsonl that were taken in."""


class JobAttemptRow(Table):
    """One start of a trainer for a job."""

    __tablename__ = "job_attempts"
    __table_args__ = (UniqueConstraint("job_id", "number"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    """From 1."""
    host: Mapped[str | None] = mapped_column(String(255))
    micro_batch_size: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[str] = mapped_column(String(32))
    finished_at: Mapped[str | None] = mapped_column(String(32))
    outcome: Mapped[str | None] = mapped_column(String(60))
    """`succeeded`, `cancelled`, an error code, or None while it runs."""
    oom_kills_before: Mapped[int | None] = mapped_column(BigInteger)
    """The kernel's count of processes killed for memory when this attempt began."""


class JobEventRow(Table):
    """One line of events.jsonl."""

    __tablename__ = "job_events"
    __table_args__ = (Index("ix_job_events_kind", "job_id", "kind", "seq"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(Text)


class DatasetRow(Table):
    """Index of datasets/<id>/dataset.json."""

    __tablename__ = "datasets"

    dataset_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(300))
    created_at: Mapped[str] = mapped_column(String(32), index=True)
    rows: Mapped[int] = mapped_column(Integer)
    content_hash: Mapped[str] = mapped_column(String(64))
    folder_id: Mapped[str | None] = mapped_column(String(40))


class IdempotencyKeyRow(Table):
    """Which job a request with an `Idempotency-Key` started."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id", ondelete="CASCADE"))
    created_at: Mapped[str] = mapped_column(String(32))
