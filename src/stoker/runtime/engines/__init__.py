"""Adapters that run models, one file each, behind engines/port.py."""
