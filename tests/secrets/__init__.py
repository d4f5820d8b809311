"""Secrets by reference."""  # noqa: A005 - the room is called so
