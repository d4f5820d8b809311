"""The replicas as this gateway sees them: connections, health, choice, trials."""
