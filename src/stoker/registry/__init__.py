"""Models: push, scan, read signatures, collect garbage, pull from elsewhere."""
