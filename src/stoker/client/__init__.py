"""A typed client of the control API and of the agent's socket."""
