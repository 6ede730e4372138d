"""Leases instead of one holder, arms that count their trials, checkpoints, events.

Only columns are added or dropped, no table is rebuilt: no id is given twice, and a large database takes no longer. What
was running has no lease: it is free to be taken up.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

RUNNING = sa.text("state = 'running'")


def upgrade() -> None:
    op.drop_column("hpo_study", "holder")
    op.add_column("hpo_study", sa.Column("data_dir", sa.Text))
    op.add_column("hpo_study", sa.Column("parent", sa.Text))
    for name, kind in COUNTERS.items():
        op.add_column("hpo_arm", sa.Column(name, kind, nullable=False, server_default="0"))
    op.execute(COUNT)
    op.add_column("hpo_trial", sa.Column("lease", sa.Integer))
    op.add_column("hpo_trial", sa.Column("origin", sa.Text))
    op.create_index("hpo_trial_running_ix", "hpo_trial", ["arm_id"], sqlite_where=RUNNING, postgresql_where=RUNNING)
    op.add_column("hpo_array", sa.Column("codec", sa.String(8), nullable=False, server_default="zlib"))
    op.create_table(
        "hpo_lease",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started", sa.BigInteger),
        sa.Column("slots", sa.Integer, nullable=False),
        sa.Column("begun", sa.DateTime, nullable=False),
        sa.Column("beat", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="hpo_lease_pk"),
        sa.UniqueConstraint("study_id", "worker", name="hpo_lease_study_id_worker_uq"),
        sa.ForeignKeyConstraint(["study_id"], ["hpo_study.id"], name="hpo_lease_study_id_fk", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "hpo_checkpoint",
        sa.Column("trial_id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("dtype", sa.String(16), nullable=False),
        sa.Column("shape", sa.JSON, nullable=False),
        sa.Column("codec", sa.String(8), nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("trial_id", "name", name="hpo_checkpoint_pk"),
        sa.ForeignKeyConstraint(["trial_id"], ["hpo_trial.id"], name="hpo_checkpoint_trial_id_fk", ondelete="CASCADE"),
    )
    op.create_table(
        "hpo_event",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("trial_id", sa.Integer),
        sa.Column("lease", sa.Integer),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="hpo_event_pk"),
        sa.ForeignKeyConstraint(["study_id"], ["hpo_study.id"], name="hpo_event_study_id_fk", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["trial_id"], ["hpo_trial.id"], name="hpo_event_trial_id_fk", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("hpo_event_study_id_ix", "hpo_event", ["study_id"])
    op.create_index("hpo_event_trial_id_ix", "hpo_event", ["trial_id"])


COUNTERS = {
    "next_number": sa.Integer,
    "running": sa.Integer,
    "trainings": sa.Integer,
    "gradient_evaluations": sa.Double,
    "seconds": sa.Double,
}

COUNT = """
    UPDATE hpo_arm SET
        next_number = (SELECT coalesce(1 + max(t.number), 0) FROM hpo_trial t WHERE t.arm_id = hpo_arm.id),
        running = (SELECT count(*) FROM hpo_trial t WHERE t.arm_id = hpo_arm.id AND t.state = 'running'),
        trainings = (SELECT coalesce(sum(t.trainings), 0)
            FROM hpo_trial t WHERE t.arm_id = hpo_arm.id AND t.state <> 'running'),
        gradient_evaluations = (SELECT coalesce(sum(t.gradient_evaluations), 0)
            FROM hpo_trial t WHERE t.arm_id = hpo_arm.id AND t.state <> 'running'),
        seconds = (SELECT coalesce(sum(t.seconds + t.ask_seconds), 0)
            FROM hpo_trial t WHERE t.arm_id = hpo_arm.id AND t.state <> 'running')
"""
