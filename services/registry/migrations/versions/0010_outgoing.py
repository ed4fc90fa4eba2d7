"""Messages about changes, until their topic has them."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "outgoing",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("part", sa.BigInteger, nullable=False),
        sa.Column("last", sa.Boolean, nullable=False),
        sa.Column("schema", sa.String, nullable=False),
        sa.Column("rows", sa.String, nullable=False),
        sa.Column("everything", sa.String, nullable=False),
        sqlite_autoincrement=True,
    )
