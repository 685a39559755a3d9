"""What takes the disk."""

from pydantic import BaseModel

from app.contracts.status import JobStatus


class KeptModelRead(BaseModel):
    """Weights that the studio keeps itself."""

    model_id: str
    bytes: int
    running_jobs: int
    """As long as there are any, the weights cannot be deleted."""
    finished_jobs: int
    """Jobs whose adapters need them; they can be fetched again."""


class KeptJobRead(BaseModel):
    """The folder of one job."""

    job_id: str
    name: str
    status: JobStatus
    bytes: int
    checkpoint_bytes: int
    export_bytes: int
    deletable: bool


class DiskParts(BaseModel):
    """Bytes by purpose; a file with two names counts once."""

    models: int
    datasets: int
    jobs: int
    """Without checkpoints and exports."""
    checkpoints: int
    exports: int
    other: int


class DiskRead(BaseModel):
    """The disk of the data folder."""

    folder: str
    total_bytes: int
    free_bytes: int
    parts: DiskParts
    models: list[KeptModelRead]
    jobs: list[KeptJobRead]
    """The largest first, at most 50."""
