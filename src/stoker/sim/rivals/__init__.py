"""How others scale, by their published algorithms and defaults: one policy a file, to be compared with ours."""
