"""What is particular to each protocol: its paths, bodies, errors, and what a request of it resembles."""
