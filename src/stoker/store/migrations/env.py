"""What alembic runs for every command: the migrations, on the connection and in the transaction it was given."""

from alembic import context

from stoker.store import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    transactional_ddl=True,
    render_as_batch=True,  # SQLite cannot alter most things in place
)
context.run_migrations()
