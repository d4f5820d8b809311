"""Drift with arrays: references from rows, their null, estimated accuracy, embeddings, changes of a mean."""
