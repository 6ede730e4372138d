"""Stored study files say `resources.cpus` where they said `threads`."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    studies = sa.table("hpo_study", sa.column("id", sa.Integer), sa.column("spec", sa.JSON))
    connection = op.get_bind()
    for row in connection.execute(sa.select(studies.c.id, studies.c.spec)).all():
        resources = row.spec.get("resources", {})
        if "threads" in resources:
            renamed = {"cpus" if key == "threads" else key: value for key, value in resources.items()}
            changed = sa.update(studies).where(studies.c.id == row.id).values(spec=row.spec | {"resources": renamed})
            connection.execute(changed)
