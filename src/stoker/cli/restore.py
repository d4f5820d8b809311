"""`stoker restore`; its options are those of `stoker backup` (cli/backup.py)."""

from stoker.cli.backup import restore_command as command

__all__ = ["command"]
