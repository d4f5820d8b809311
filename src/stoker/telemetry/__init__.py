"""Counters, mergeable histograms, logs."""
