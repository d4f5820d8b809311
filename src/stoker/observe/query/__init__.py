"""The language in which the history is asked."""
