"""Contracts count over the whole registry; what people note of models."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Number the contracts there are in the order of their adoption; make the table."""
    op.add_column("contracts", sa.Column("number", sa.BigInteger, nullable=False, server_default="0"))
    contracts = sa.table("contracts", *map(sa.column, ("stream", "version", "created_ms", "number")))
    one = contracts.alias()
    before = sa.or_(
        one.c.created_ms < contracts.c.created_ms,
        sa.and_(
            one.c.created_ms == contracts.c.created_ms,
            sa.or_(
                one.c.stream < contracts.c.stream,
                sa.and_(one.c.stream == contracts.c.stream, one.c.version <= contracts.c.version),
            ),
        ),
    )
    count = sa.select(sa.func.count()).select_from(one).where(before).scalar_subquery()
    op.execute(contracts.update().values(number=count))
    op.create_index("contracts_number", "contracts", ["number"], unique=True)
    op.create_table(
        "tags",
        sa.Column("model", sa.String, sa.ForeignKey("models.name"), primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )
