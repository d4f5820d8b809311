"""The shapes a new replica is warmed up with, as a table: what their first call in a process takes, and later ones."""

from collections.abc import Sequence

from stoker.cli.output import columns, duration
from stoker.types.shapes import ShapeUse


def shapes_table(uses: Sequence[ShapeUse]) -> str:
    """Return the shapes that the next replica is called with before it is ready, the most called first."""
    rows = [
        (
            str(each.shape.rows),
            ", ".join("×".join(map(str, sizes)) or "1" for sizes in each.shape.sizes) or "fixed",
            f"{each.calls:.0f}",
            duration(each.first_s),
            duration(each.later_s),
        )
        for each in uses
        if each.is_warmed
    ]
    return columns(("ROWS", "SIZES", "CALLS", "FIRST", "LATER"), rows) if rows else ""
