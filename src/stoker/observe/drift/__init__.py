"""Drift with arrays: references from rows, their null, live counting, estimated accuracy, embeddings and text."""
