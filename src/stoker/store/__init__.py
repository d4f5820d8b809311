"""state.db: schema, migrations, leases and queries."""
