"""Quantizing a version's model, in a process of its own."""
