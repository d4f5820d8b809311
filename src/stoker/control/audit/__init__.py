"""Keeps the audit: closes it with signed checkpoints in more than one place, judges it, and lets old rows go."""
