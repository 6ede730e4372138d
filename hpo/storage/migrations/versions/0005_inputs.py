"""An arm says what a row of its inputs looks like; where its values go, once it is described anew."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("hpo_arm", sa.Column("inputs", sa.JSON))
