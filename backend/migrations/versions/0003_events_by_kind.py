"""Events by kind: a curve or the notices of a long run without reading all its events"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index("ix_job_events_kind", "job_events", ["job_id", "kind", "seq"])


def downgrade() -> None:
    """Take back."""
    op.drop_index("ix_job_events_kind", "job_events")
