"""The typed client of a stoker: what the command line uses, and what a program may use."""
