"""One concern a file; gateway/stack.py shows their order."""
