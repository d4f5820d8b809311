"""Frozen values that every room shares: ids, units, errors, resources, routes."""
