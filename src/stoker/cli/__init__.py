"""The `stoker` command: one short file a command, loaded when it is called."""
