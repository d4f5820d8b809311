"""The control API under /api/v1: writes specs, reads status; only the loop acts."""
