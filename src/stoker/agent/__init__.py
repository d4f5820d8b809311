"""The agent: one a node; starts, watches, adopts, drains and stops processes."""
