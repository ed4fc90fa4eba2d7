"""Datasets, and what was measured of them."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "datasets",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("reference", sa.String, nullable=False),
        sa.Column("stream", sa.String, sa.ForeignKey("streams.name"), nullable=False),
        sa.Column("ranges", sa.JSON, nullable=False),
        sa.Column("contracts", sa.JSON, nullable=False),
        sa.Column("without", sa.JSON, nullable=False),
        sa.Column("description", sa.String, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("failure", sa.String, nullable=False),
        sa.Column("digest", sa.String),
        sa.Column("records", sa.BigInteger),
        sa.Column("measured_ms", sa.BigInteger),
        sa.UniqueConstraint("name", "reference"),
    )
    op.create_index("ix_datasets_stream", "datasets", ["stream"])
    op.create_index("ix_datasets_state", "datasets", ["state"])
    op.create_table(
        "measurements",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("measurement", sa.String, nullable=False),
    )
