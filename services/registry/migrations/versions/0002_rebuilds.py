"""Versions that are rebuilds: of which version, and without what."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("model_versions", sa.Column("parent", sa.BigInteger))
    op.add_column("model_versions", sa.Column("without", sa.JSON))
