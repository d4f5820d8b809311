"""Predictions, the labels that come later, and how good an endpoint is by them."""
