"""Run by Alembic, on the connection it is given and in that connection's transaction."""

from alembic import context

from hpo.storage.migrations import VERSION_TABLE

context.configure(connection=context.config.attributes["connection"], version_table=VERSION_TABLE)
context.run_migrations()
