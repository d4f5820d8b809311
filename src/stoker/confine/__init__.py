"""Walls around a process that reads what others made: by Landlock, seccomp, namespaces and limits of Linux."""
