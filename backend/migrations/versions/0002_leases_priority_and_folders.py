"""Leases, priority and data folders"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("folder_id", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("host", sa.String(length=255), nullable=True))
        batch_op.add_column(sa.Column("slot", sa.String(length=100), nullable=True))
        batch_op.add_column(sa.Column("lease_owner", sa.String(length=300), nullable=True))
        batch_op.add_column(sa.Column("lease_until", sa.Float(), nullable=True))
        batch_op.create_unique_constraint(batch_op.f("uq_jobs_slot"), ["slot"])
        batch_op.create_index("ix_jobs_lease_owner", ["lease_owner"], unique=False)
    with op.batch_alter_table("job_attempts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("host", sa.String(length=255), nullable=True))
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.add_column(sa.Column("folder_id", sa.String(length=40), nullable=True))


def downgrade() -> None:
    """Take back."""
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_column("folder_id")
    with op.batch_alter_table("job_attempts", schema=None) as batch_op:
        batch_op.drop_column("host")
    with op.batch_alter_table("jobs", schema=None) as batch_op:
        batch_op.drop_index("ix_jobs_lease_owner")
        batch_op.drop_constraint(batch_op.f("uq_jobs_slot"), type_="unique")
        for column in ("lease_until", "lease_owner", "slot", "host", "folder_id", "priority"):
            batch_op.drop_column(column)
