"""What the answers of models are worth."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "payoffs",
        sa.Column("stream", sa.String, sa.ForeignKey("streams.name"), primary_key=True),
        sa.Column("model", sa.String, primary_key=True),
        sa.Column("payoff", sa.JSON, nullable=False),
        sa.Column("changed_ms", sa.BigInteger, nullable=False),
        sa.Column("changed_by", sa.String, nullable=False),
    )
