"""What solver and hypergradient tell of a training."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    columns = sa.inspect(op.get_bind()).get_columns("hpo_trial")
    if "report" not in {column["name"] for column in columns}:  # for a while it was made without a new number
        op.add_column("hpo_trial", sa.Column("report", sa.JSON))
