"""The loop: observe, decide, apply."""
