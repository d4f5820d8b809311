"""What was promised, how it stands, and the watch over it."""
