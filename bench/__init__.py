"""What the platform costs, measured against what a user would write or run instead. `python -m bench --help`."""
