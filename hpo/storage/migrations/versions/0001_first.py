"""Studies, arms, trials and their arrays."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "hpo_study",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("updated", sa.DateTime, nullable=False),
        sa.Column("holder", sa.JSON),
        sa.PrimaryKeyConstraint("id", name="hpo_study_pk"),
        sa.UniqueConstraint("name", name="hpo_study_name_uq"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "hpo_arm",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("study_id", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("solver", sa.Text, nullable=False),
        sa.Column("per", sa.Text),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("space", sa.JSON, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="hpo_arm_pk"),
        sa.UniqueConstraint("study_id", "label", name="hpo_arm_study_id_label_uq"),
        sa.ForeignKeyConstraint(["study_id"], ["hpo_study.id"], name="hpo_arm_study_id_fk", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "hpo_trial",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("arm_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("derivative", sa.Text),
        sa.Column("summary", sa.JSON, nullable=False),
        sa.Column("ask_seconds", sa.Double, nullable=False),
        sa.Column("opened", sa.DateTime, nullable=False),
        sa.Column("validation_loss", sa.Double),
        sa.Column("test_loss", sa.Double),
        sa.Column("test_accuracy", sa.Double),
        sa.Column("trainings", sa.Integer),
        sa.Column("gradient_evaluations", sa.Double),
        sa.Column("seconds", sa.Double),
        sa.Column("failure", sa.Text),
        sa.Column("closed", sa.DateTime),
        sa.PrimaryKeyConstraint("id", name="hpo_trial_pk"),
        sa.UniqueConstraint("arm_id", "number", name="hpo_trial_arm_id_number_uq"),
        sa.ForeignKeyConstraint(["arm_id"], ["hpo_arm.id"], name="hpo_trial_arm_id_fk", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "hpo_array",
        sa.Column("trial_id", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("dtype", sa.String(16), nullable=False),
        sa.Column("shape", sa.JSON, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("trial_id", "name", name="hpo_array_pk"),
        sa.ForeignKeyConstraint(["trial_id"], ["hpo_trial.id"], name="hpo_array_trial_id_fk", ondelete="CASCADE"),
    )
