"""From here on Alembic counts; a registry from before shall not take the database for one of its own."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

FENCE = 1000
"""A schema that no registry from before had, and that each of them refuses."""


def upgrade() -> None:
    """Leave one row: the number that is refused."""
    schema = sa.table("registry_schema", sa.column("version", sa.BigInteger))
    op.execute(schema.delete())
    op.execute(schema.insert().values(version=FENCE))
